"""What a block sync is asked to do and what came of it: two places, options, limits, a result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from labstore.model.names import HostName, shown

BLOCK_SIZES = (4096, 8192, 16384, 32768, 65536)
LARGEST_DEVICE = 1 << 56
STATE_DIR = "/var/lib/labstore/blocksync"
"""Where digest indexes are kept unless somebody says otherwise."""
PATIENCE = 60.0
"""Seconds without a single byte after which the other end counts as lost; both send PING long before."""


class Algorithm(StrEnum):
    """How blocks are compared. BLAKE3 is keyed: nobody who writes blocks can make two that look alike. XXH3 is faster
    and can be fooled by whoever writes the blocks, so it is for content that nobody hostile writes."""

    BLAKE3 = "blake3"
    XXH3 = "xxh3"


class ReadMode(StrEnum):
    """AUTO takes what the page cache has and goes around it for the rest; DIRECT always goes around it; CACHED reads
    through it and lets go of what it brought in."""

    AUTO = "auto"
    DIRECT = "direct"
    CACHED = "cached"


class Role(StrEnum):
    SOURCE = "source"
    TARGET = "target"


class Permit(StrEnum):
    """What a person can permit for one run; everything else that looks wrong is refused."""

    ADOPT_TARGET = "adopt-target"
    NEW_TARGET = "new-target"
    NEW_SOURCE = "new-source"
    SHRINK = "shrink"
    LIVE_SOURCE = "live-source"
    MASS_CHANGE = "mass-change"


PERMIT_HELP = {
    Permit.ADOPT_TARGET: "overwrite a target that holds something and was never written by block sync",
    Permit.NEW_TARGET: "accept that another device or file than last time is at the target's path",
    Permit.NEW_SOURCE: "accept that the source holds another file system than last time",
    Permit.SHRINK: "accept a source that is smaller than last time",
    Permit.LIVE_SOURCE: "accept a source that was written while it was read: the copy is of no one moment",
    Permit.MASS_CHANGE: "accept more changed blocks than max-change",
}


class DevicePath(str):
    """An absolute path of a device or image file, without `.` or `..` components, doubled slashes or control signs."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        good = (
            isinstance(text, str)
            and text.startswith("/")
            and len(text) <= 1024
            and text.isprintable()
            and all(part not in ("", ".", "..") for part in text[1:].split("/"))
        )
        if not good:
            raise ValueError(f"{shown(text)} is not the path of a device: absolute, plain, without '.' or '..'")
        return super().__new__(cls, text)


_REMOTE = re.compile(r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]{0,31})@)?(?P<host>[^/:@]+):(?P<path>/.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A device or image file, here (`host` None) or on another machine, as `[[USER@]HOST:]PATH`."""

    path: DevicePath
    host: HostName | None = None
    user: str | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ValueError."""
        remote = _REMOTE.fullmatch(text)
        if remote is None:
            return cls(DevicePath(text))
        return cls(DevicePath(remote["path"]), HostName(remote["host"]), remote["user"])

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}:{self.path}" if self.host else self.path


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take, per second; None is no limit. `paused` stops reading and sending until it is taken back."""

    send: int | None = None
    read: int | None = None
    reads: int | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How a sync is done.

    `scrub` is the part of the unchanged target that is read again in each run that trusts the index. `full` compares
    every block on both sides whatever the index says. `max_change` is the part of the blocks that may differ before
    the run is stopped. `hints` is a file on the source's machine that says where the source changed; it is believed
    at most `full_every` seconds after the last run that read the whole source. So many `samples`, blocks chosen by
    chance, are read once more by the source, whose SHA-256 the result has: for a comparison that owes us nothing.
    """

    algorithm: Algorithm = Algorithm.BLAKE3
    block_size: int = 16384
    read: ReadMode = ReadMode.AUTO
    scrub: float = 1 / 30
    full: bool = False
    cache: bool = True
    max_change: float = 1.0
    hints: str | None = None
    full_every: float = 7 * 86400.0
    samples: int = 0
    permits: frozenset[Permit] = frozenset()

    def __post_init__(self) -> None:
        if self.block_size not in BLOCK_SIZES:
            raise ValueError(f"{self.block_size} is not a block size (one of {', '.join(map(str, BLOCK_SIZES))})")
        if not 0 <= self.scrub <= 1:
            raise ValueError(f"scrub is a part of the whole, from 0 to 1, not {self.scrub}")
        if not 0 < self.max_change <= 1:
            raise ValueError(f"max-change is a part of the whole, more than 0 and up to 1, not {self.max_change}")
        if not 0 <= self.samples <= 256:
            raise ValueError(f"{self.samples} samples: there are at most 256")


DEFAULTS, UNLIMITED = Options(), Limits()


class Pass(StrEnum):
    """How it was found out what differs."""

    INDEX = "index"
    """The source was read; of the target its digest index."""
    CACHED = "cached"
    """The same, and the source had a copy of that index."""
    BOTH = "both"
    """Both sides were read in full."""
    HINTED = "hinted"
    """Only what the source's storage said had changed was read, and a sample of the rest."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a run that succeeded did. `root` is the Merkle root that both ends computed, each for itself.

    `token` names the moment of the source that the target now equals. `scrubbed` are bytes of unchanged target that
    were read again; `read_back` says how written blocks were read back: `direct` from the device, or `cache` where
    the file system cannot do that and the cache was dropped instead. `samples` are `NUMBER SHA256` of blocks. `torn`:
    the source was written meanwhile, which was permitted; the target equals no one moment of it.
    """

    generation: int
    root: str
    passed: Pass
    why: str
    size: int
    read: int
    changed: int
    zeroed: int
    sent: int
    received: int
    scrubbed: int
    seconds: float
    token: str | None
    read_back: str
    block_size: int = 16384
    samples: tuple[str, ...] = ()
    attempts: int = 1
    torn: bool = False
    notes: tuple[str, ...] = field(default=())
