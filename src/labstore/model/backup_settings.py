"""What shall be backed up, whereto, how often, what is kept of it and how it is proven."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Self

from labstore.model.block_sync import DEFAULTS, UNLIMITED, DevicePath, Limits, Options
from labstore.model.names import ClusterName, HostName, Name

HOUR, DAY = 3600.0, 86400.0


class JobName(Name):
    """A backup job: one volume and its copies."""

    __slots__ = ()
    what = "backup job's name"
    grammar: ClassVar[re.Pattern[str]] = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
    rule = "small letters, digits, '_' and '-', starting with a letter or digit, at most 32"


class LvmWord(Name):
    """The name of a volume group or logical volume. An empty or odd one would be a wildcard to LVM (upstream 1.9)."""

    __slots__ = ()
    what = "LVM name"


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """GROUP/NAME."""

    group: LvmWord
    name: LvmWord

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        group, slash, name = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} is no logical volume: write GROUP/NAME")
        return cls(LvmWord(group), LvmWord(name))

    @property
    def path(self) -> DevicePath:
        return DevicePath(f"/dev/{self.group}/{self.name}")

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


Volume = LogicalVolume | DevicePath
"""A logical volume, or the absolute path of an image file."""


def volume(text: str) -> Volume:
    """`GROUP/NAME` or `/path/of/an/image`. Raises ValueError."""
    return DevicePath(text) if text.startswith("/") else LogicalVolume.parse(text)


def path_of(where: Volume) -> DevicePath:
    return where.path if isinstance(where, LogicalVolume) else where


class PullFrom(StrEnum):
    """Which node of a pair is read."""

    STANDBY = "standby"
    """Never the one that serves."""
    ANY = "any"
    """The standby; the one that serves where there is no standby."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept: the newest of each of the last so many hours, days, weeks and months that have one at all.

    Never fewer than `least` of the newest, nor of the newest that are proven; never more bytes than `budget` beyond
    those (None: no limit).
    """

    hourly: int = 24
    daily: int = 14
    weekly: int = 8
    monthly: int = 0
    least: int = 2
    budget: int | None = None

    def __post_init__(self) -> None:
        if min(self.hourly, self.daily, self.weekly, self.monthly) < 0 or self.least < 1:
            raise ValueError("numbers of generations to keep are not negative, and at least one is kept")


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """How a new generation is shown to be one that restores.

    `canary` is a file in the volume, written through the share, that holds the time (ISO 8601, UTC) of its writing;
    it must be no older than `canary_age` seconds before the generation. `samples` blocks are compared by SHA-256 with
    what the source had.
    """

    check: bool = True
    mount: bool = True
    canary: str | None = None
    canary_age: float = HOUR
    samples: int = 64


@dataclass(frozen=True, slots=True)
class Reach:
    """How a source's machine is reached: the key opens nothing there but the agent of this job."""

    user: str = "root"
    port: int = 22
    key_file: Path = Path("/etc/labstore/backup_key")
    known_hosts: Path = Path("/etc/labstore/backup_known_hosts")
    ssh_config: Path | None = None
    command: str = "labstore backup serve"


@dataclass(frozen=True, slots=True)
class Job:
    """One volume, copied every `every` seconds.

    `nodes` are the machines that have the volume (empty: this one); of a cluster's pair the standby is read. `room` is
    the size of the source's snapshot where it needs one of its own (thick LVM), `target_room` that of each kept
    generation. `alert_after` is the age of the newest proven generation at which somebody is told.
    """

    name: JobName
    source: Volume
    target: Volume
    nodes: tuple[HostName, ...] = ()
    cluster: ClusterName | None = None
    pull_from: PullFrom = PullFrom.STANDBY
    every: float = DAY
    alert_after: float = 2 * DAY
    keep: Keep = Keep()
    proof: ProofSettings = ProofSettings()
    options: Options = DEFAULTS
    limits: Limits = UNLIMITED
    room: int | None = None
    target_room: int | None = None
    source_snapshot_age: float = DAY
    """How long the snapshot of an interrupted run is kept to go on from."""
    reach: Reach = Reach()


@dataclass(frozen=True)
class BackupSettings:
    """`mounts` is where generations are mounted to look into them, for `mount_for` seconds unless somebody says how
    long. `brake` is how many generations of a job one cycle may remove."""

    jobs: Mapping[JobName, Job]
    mounts: Path = Path("/srv/backup")
    mount_for: float = DAY
    brake: int = 5
    control: Path | None = None
