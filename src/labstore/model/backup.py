"""What is there of a backup: generations, their proofs, and what of them is mounted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from labstore.model.backup_settings import JobName, Volume
from labstore.model.names import HostName, Name

STAMP = "%Y%m%dT%H%M%SZ"


class GenerationName(Name):
    """The moment of a generation, UTC: `20260529T115400Z`."""

    __slots__ = ()
    what = "generation's name"

    @classmethod
    def at(cls, moment: datetime) -> GenerationName:
        return cls(moment.astimezone(UTC).strftime(STAMP))

    @property
    def moment(self) -> datetime:
        """Raises ValueError for a name that is no moment."""
        return datetime.strptime(self, STAMP).replace(tzinfo=UTC)


def snapshot_name(job: JobName, generation: GenerationName) -> str:
    """The name of the snapshot that a generation is."""
    return f"labstore-{job}-{generation}"


class Verdict(StrEnum):
    PROVEN = "proven"
    FAILED = "failed"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Generation:
    """One dated copy. `changed` is how many bytes differed from the one before; `takes` is the room that it alone
    takes (None: not known). `pinned` generations are never removed by policy."""

    name: GenerationName
    root: str
    node: str
    changed: int
    takes: int | None = None
    verdict: Verdict = Verdict.UNTRIED
    proven_at: datetime | None = None
    pinned: bool = False
    why: str = ""

    @property
    def at(self) -> datetime:
        return self.name.moment


class Standing(StrEnum):
    """What a source's machine is to the service at the moment."""

    STANDBY = "standby"
    ACTIVE = "active"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source's machine says of a job's volume. `replica` is the state of its disk where it is replicated, None
    where it is not; `trouble` is why it must not be read now. `free` is the room for a snapshot, `content` the file
    system that the volume holds, where that is one that is known."""

    node: HostName
    standing: Standing
    size: int
    replica: str | None = None
    free: int | None = None
    unfinished: str | None = None
    trouble: str | None = None
    content: str | None = None

    @property
    def fit(self) -> bool:
        return self.trouble is None and self.replica in (None, "UpToDate")


@dataclass(frozen=True, slots=True)
class RestoreMount:
    """A generation that is mounted to look into it."""

    job: JobName
    generation: GenerationName
    point: str
    until: datetime
    target: Volume | None = None
    """The job's target as it was then: the job may have another one by now, or be gone. None in older books."""


class Sort(StrEnum):
    GENERATION = "generation"
    MOUNT = "mount"


@dataclass(frozen=True, slots=True)
class Item:
    """What a step of a backup plan is about: a generation of a job, or one that is mounted."""

    sort: Sort
    job: JobName
    name: GenerationName
    node: str = ""
    verdict: Verdict = Verdict.UNTRIED
    point: str = ""


@dataclass(frozen=True)
class ProofResult:
    """What came of proving a generation: each check with what it found. All of them must hold."""

    generation: GenerationName
    at: datetime
    checks: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILED if self.failed or not self.checks else Verdict.PROVEN
