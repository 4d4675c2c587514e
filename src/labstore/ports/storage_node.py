"""One node of a pair, as failover sees and moves it: what can be found out about it, and what it can be told to do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from labstore.model.address import Client
from labstore.model.drbd import Generations, ResourceName, ResourceStatus
from labstore.model.failover import Proof
from labstore.model.names import HostName, VolumeName
from labstore.reconcile.facts import Answer
from labstore.reports.report import Report


class Aspect(StrEnum):
    """What can be asked about a node; each is cheap by itself, so that a step looks only at what it changed."""

    REPLICATION = "replication"
    GENERATIONS = "generations"
    MOUNTS = "mounts"
    BINDS = "binds"
    SERVER = "server"
    RECOVERY = "recovery"
    EXPORTS = "exports"
    ADDRESSES = "addresses"
    BARRIER = "barrier"
    UNITS = "units"
    HANDOVER = "handover"
    VERIFIED = "verified"
    RUNS = "runs"
    FILES = "files"


EVERYTHING = frozenset(Aspect) - {Aspect.GENERATIONS}
"""What one look at a node is about; data generations are only asked for where the nodes do not see each other."""


class MountState(StrEnum):
    RIGHT = "mounted"
    ABSENT = "not mounted"
    READ_ONLY = "mounted read-only"
    FOREIGN = "something else is mounted there"


@dataclass(frozen=True, slots=True)
class MountFound:
    """One replicated volume. `inside` is what is mounted below it, in the order in which it comes away; `elsewhere`
    says where else the same file system is mounted; `alive` is True while the kernel has it active, mounted or not."""

    state: MountState
    inside: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    alive: bool = False

    @property
    def gone(self) -> bool:
        """Whether nothing of the file system is left on this node: only then its device can be let go."""
        return self.state in (MountState.ABSENT, MountState.FOREIGN) and not self.elsewhere and not self.alive


@dataclass(frozen=True, slots=True)
class BindsFound:
    """The tree of bind mounts from which shares are exported: how many there shall be, and the places of those that
    are not there although the directory that they would show is. None where shares are exported where they lie."""

    wanted: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerFound:
    """The NFS server. `scope` is what it answers when asked (None: it does not answer); `pinned` are exported paths
    that the kernel's caches hold on replicated volumes."""

    threads: int
    mountd: bool = False
    scope: str | None = None
    grace: bool | None = None
    clients: int = 0
    pinned: tuple[str, ...] = ()

    @property
    def stopped(self) -> bool:
        return self.threads == 0 and not self.mountd and not self.pinned


@dataclass(frozen=True, slots=True)
class RecoveryFound:
    """nfsdcld. `right` is whether its database is the one on the state volume; `records` counts the clients that may
    reclaim at the next start, None where it cannot be read (the volume is not mounted here). `aside` counts those
    whose records were put aside when the server was started, until clients are let in; `kept` is whether any were, be
    it of nobody."""

    running: bool
    right: bool = False
    records: int | None = None
    aside: int = 0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ExportsFound:
    """The export table as far as it is ours. `generation` None: nothing was ever put in place here. `drift` counts
    paths that would be answered otherwise than the stored table says."""

    generation: int | None = None
    paths: int = 0
    clients: int = 0
    drift: int = 0
    canary: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class BarrierFound:
    """The addresses at which clients are kept waiting. `whole` is False where somebody took rules out."""

    addresses: frozenset[Client] = frozenset()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class UnitsFound:
    """Of the units that run on the active node only: which run, which failed, whether they may start here, and which
    cannot, because systemd does not have them or they are masked."""

    active: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    allowed: bool = False
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HandoverFound:
    """What the clients held when they were cut off, as it lies on the state volume until it was compared with what
    they got back. `recorded`: it was written down, and nobody was let in since. `waiting`: there is something that was
    not yet compared. `possible` is False where that volume is not mounted: nothing can be written then."""

    recorded: bool = False
    waiting: bool = False
    possible: bool = True


@dataclass(frozen=True, slots=True)
class VerifiedFound:
    """Whether a real mount, write and lock through the service address succeeded since the server was started."""

    verified: bool = False


@dataclass(frozen=True, slots=True)
class RunsFound:
    """Runs on this node: the one under way (who holds the lock), and what the journal has of one that did not come to
    its end, which may be that very run. `last_active` is when this node last began to serve (UTC, ISO), empty if it
    never did."""

    running: str = ""
    unfinished: str = ""
    at_step: str = ""
    began: str = ""
    last_active: str = ""

    @property
    def abandoned(self) -> str:
        """The verb of a run that did not come to its end, and that nobody is at."""
        return "" if self.running else self.unfinished


@dataclass(frozen=True, slots=True)
class FilesFound:
    """The files that must be the same on both nodes or follow from the site file: what differs, in words."""

    config: str = ""
    version: str = ""
    differences: tuple[str, ...] = ()


Replicated = Mapping[ResourceName, ResourceStatus]
Mounted = Mapping[VolumeName, MountFound]


@dataclass(frozen=True)
class NodeFacts:
    """One look at one node. An aspect that was not asked for is None."""

    node: HostName
    at: datetime
    boot: str = ""
    replication: Answer[Replicated] | None = None
    generations: Answer[Mapping[ResourceName, Generations]] | None = None
    mounts: Answer[Mounted] | None = None
    binds: Answer[BindsFound] | None = None
    server: Answer[ServerFound] | None = None
    recovery: Answer[RecoveryFound] | None = None
    exports: Answer[ExportsFound] | None = None
    addresses: Answer[frozenset[Client]] | None = None
    barrier: Answer[BarrierFound] | None = None
    units: Answer[UnitsFound] | None = None
    handover: Answer[HandoverFound] | None = None
    verified: Answer[VerifiedFound] | None = None
    runs: Answer[RunsFound] | None = None
    files: Answer[FilesFound] | None = None

    def answer(self, aspect: Aspect) -> Answer[object] | None:
        found: Answer[object] | None = getattr(self, aspect.value)
        return found


class Event(StrEnum):
    """What a line of the journal tells of."""

    RUN = "run"
    STEP = "step"
    DONE = "done"
    FAILED = "failed"
    NOTE = "note"
    END = "end"


@dataclass(frozen=True)
class Entry:
    """One line of a journal: when (UTC, ISO), which run, what happened to which step, and what there is to say."""

    at: str
    run: str
    event: Event
    step: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


class Do(StrEnum):
    """What a node can be told to do. Each can be told again when it was done already."""

    STOP_UNITS = "stop-units"
    BLOCK = "block"
    RECORD = "record"
    STOP_SERVER = "stop-server"
    STOP_RECOVERY = "stop-recovery"
    REMOVE_ADDRESSES = "remove-addresses"
    UNMOUNT = "unmount"
    DEMOTE = "demote"
    ATTACH = "attach"
    PROMOTE = "promote"
    MOUNT = "mount"
    BIND = "bind"
    START_RECOVERY = "start-recovery"
    PLACE_EXPORTS = "place-exports"
    START_SERVER = "start-server"
    ADD_ADDRESSES = "add-addresses"
    UNBLOCK = "unblock"
    VERIFY = "verify"
    CERTIFY = "certify"
    START_UNITS = "start-units"
    OUTDATE = "outdate"
    """Not a step of a move: the partner serves alone, and this node's data is not to be taken for the newest."""
    EXAMINE = "examine"
    """Nor are this and what follows: a split brain is looked at, and ended as a person decides."""
    KEEP_SNAPSHOT = "keep-snapshot"
    DISCONNECT = "disconnect"
    CONNECT = "connect"
    DISCARD = "discard"


@dataclass(frozen=True)
class Order:
    """One thing to do. `subject` is a volume for (un)mounting, a resource for attaching and role changes. `proof` is
    that of a partner that does not answer; `evict` allows to end processes that hold a mount; `partner_released` says
    that the partner was seen without the service addresses in this run. `force`: a person accepts that newer data of
    the partner is lost. `wait`: give an attached resource time to find its partner."""

    do: Do
    subject: str = ""
    proof: Proof | None = None
    evict: bool = False
    force: bool = False
    partner_released: bool = False
    wait: bool = True
    run: str = ""


@dataclass(frozen=True)
class Said:
    """What an order brought: reports, and facts for the journal."""

    reports: tuple[Report, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """What came of a step: what its order brought, what there is to say of the journal, and the node as it looked right
    afterwards."""

    said: Said
    facts: NodeFacts


class DiskContent(StrEnum):
    """What is on a backing device. Only what is EMPTY is ever written over."""

    EMPTY = "empty"
    NEW_METADATA = "DRBD metadata without data"
    IN_SERVICE = "DRBD metadata with data"
    DATA = "data"
    ABSENT = "absent"
    IN_USE = "in use"


@dataclass(frozen=True, slots=True)
class DiskFound:
    """A backing device before a pair is set up. `words` say what was found; `size` in bytes; `filesystem` is the type
    of what lies on the DRBD device above it, empty where nothing does or where it is not Primary here."""

    path: str
    content: DiskContent
    words: str = ""
    size: int = 0
    filesystem: str = ""


@dataclass(frozen=True)
class Survey:
    """What setting a pair up needs to know of a node. `missing` are programs that are not installed; `adjustments`
    what `drbdadm adjust` would do, by resource."""

    node: HostName
    disks: Mapping[ResourceName, DiskFound] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    adjustments: Mapping[ResourceName, tuple[str, ...]] = field(default_factory=dict)


class SetUp(StrEnum):
    """What a node can be told while a pair is set up or adjusted. Each can be told again."""

    WRITE_FILES = "write-files"
    CREATE_METADATA = "create-metadata"
    FIRST_PRIMARY = "first-primary"
    DECLARE_EQUAL = "declare-equal"
    MAKE_FILESYSTEM = "make-filesystem"
    FURNISH = "furnish"
    RELEASE = "release"
    GUARD_MOUNT_POINT = "guard-mount-point"
    ENABLE = "enable"
    ADJUST = "adjust"


class StorageNode(Protocol):
    """Implementations: this machine, the partner through its agent, and the fake of the tests."""

    @property
    def name(self) -> HostName: ...

    def look(self, aspects: frozenset[Aspect] = EVERYTHING) -> NodeFacts:
        """What these aspects are now. Changes nothing; what cannot be found out is Missing. Raises only where the
        node as a whole cannot be reached (StepFailed)."""

    def act(self, order: Order) -> Said:
        """Do it; doing it twice is doing it once. Raises StepFailed. Whether it came to be is for `look` to say."""

    def take(self, entries: tuple[Entry, ...], order: Order, aspects: frozenset[Aspect]) -> Taken:
        """`note`, `act` and `look` in one, so that clients wait for one round trip and not for three. Raises
        StepFailed as `act` does."""

    def holders(self) -> tuple[Report, ...]:
        """Who would keep the replicated volumes from being unmounted. Raises StepFailed."""

    def hold(self, what: str) -> AbstractContextManager[None]:
        """Keep other runs off this node while the block runs. Raises Locked (system.locks) on entering."""

    def note(self, *entries: Entry) -> tuple[Report, ...]:
        """Put lines into the node's journal, durably. A journal that cannot be written is reported, not raised: by
        then clients may be waiting."""

    def survey(self) -> Survey:
        """What there is before a pair is set up or adjusted. Changes nothing. Raises StepFailed."""

    def set_up(self, what: SetUp, subject: str = "") -> Said:
        """One thing of setting up. Raises StepFailed."""

    def expected(self) -> Mapping[str, float]:
        """Seconds that steps took here in earlier runs, by their keys."""
