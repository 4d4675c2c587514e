"""DRBD's nouns in DRBD's own words. Where 8.4 and 9 name a thing differently, the words of 9 are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from labstore.model.names import Name


class ResourceName(Name):
    """A DRBD resource. The grammar is narrower than DRBD's: the name goes into file names and commands."""

    __slots__ = ()
    what = "resource name"


class Role(StrEnum):
    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class DiskState(StrEnum):
    """From worst to best, as DRBD orders them."""

    DISKLESS = "Diskless"
    ATTACHING = "Attaching"
    DETACHING = "Detaching"
    FAILED = "Failed"
    NEGOTIATING = "Negotiating"
    INCONSISTENT = "Inconsistent"
    OUTDATED = "Outdated"
    UNKNOWN = "DUnknown"
    CONSISTENT = "Consistent"
    UP_TO_DATE = "UpToDate"


class ConnectionState(StrEnum):
    STAND_ALONE = "StandAlone"
    DISCONNECTING = "Disconnecting"
    UNCONNECTED = "Unconnected"
    TIMEOUT = "Timeout"
    BROKEN_PIPE = "BrokenPipe"
    NETWORK_FAILURE = "NetworkFailure"
    PROTOCOL_ERROR = "ProtocolError"
    TEAR_DOWN = "TearDown"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"


class ReplicationState(StrEnum):
    OFF = "Off"
    ESTABLISHED = "Established"
    STARTING_SYNC_SOURCE = "StartingSyncS"
    STARTING_SYNC_TARGET = "StartingSyncT"
    WAITING_BITMAP_SOURCE = "WFBitMapS"
    WAITING_BITMAP_TARGET = "WFBitMapT"
    WAITING_SYNC_UUID = "WFSyncUUID"
    SYNC_SOURCE = "SyncSource"
    SYNC_TARGET = "SyncTarget"
    PAUSED_SYNC_SOURCE = "PausedSyncS"
    PAUSED_SYNC_TARGET = "PausedSyncT"
    VERIFY_SOURCE = "VerifyS"
    VERIFY_TARGET = "VerifyT"
    AHEAD = "Ahead"
    BEHIND = "Behind"

    @property
    def receiving(self) -> bool:
        """Whether this side is being overwritten by the partner's data."""
        return self in _RECEIVING

    @property
    def sending(self) -> bool:
        """Whether the partner is being overwritten by this side's data."""
        return self in _SENDING

    @property
    def verifying(self) -> bool:
        return self in (ReplicationState.VERIFY_SOURCE, ReplicationState.VERIFY_TARGET)


_RECEIVING = frozenset(
    {
        ReplicationState.STARTING_SYNC_TARGET,
        ReplicationState.WAITING_BITMAP_TARGET,
        ReplicationState.WAITING_SYNC_UUID,
        ReplicationState.SYNC_TARGET,
        ReplicationState.PAUSED_SYNC_TARGET,
        ReplicationState.BEHIND,
    }
)
_SENDING = frozenset(
    {
        ReplicationState.STARTING_SYNC_SOURCE,
        ReplicationState.WAITING_BITMAP_SOURCE,
        ReplicationState.SYNC_SOURCE,
        ReplicationState.PAUSED_SYNC_SOURCE,
        ReplicationState.AHEAD,
    }
)

_OLD_WORDS: Mapping[str, tuple[ConnectionState, ReplicationState]] = {
    "WFConnection": (ConnectionState.CONNECTING, ReplicationState.OFF),
    "WFReportParams": (ConnectionState.CONNECTED, ReplicationState.OFF),
    "Connected": (ConnectionState.CONNECTED, ReplicationState.ESTABLISHED),
}


def connection_of(word: str) -> tuple[ConnectionState, ReplicationState]:
    """What 8.4 calls `cs:`, which is connection and replication in one. Raises ValueError."""
    if word in _OLD_WORDS:
        return _OLD_WORDS[word]
    if word in ReplicationState.__members__.values():
        return ConnectionState.CONNECTED, ReplicationState(word)
    return ConnectionState(word), ReplicationState.OFF


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a resync or verify is: per cent done, KiB left, KiB/s, seconds to go; None where DRBD does not say."""

    done: float | None = None
    left: int | None = None
    rate: int | None = None
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One volume of a resource on this node, with the partner's disk as this node knows it.

    `out_of_sync` is in KiB, None where it was not said.
    """

    volume: int
    minor: int | None
    disk: DiskState
    peer_disk: DiskState = DiskState.UNKNOWN
    replication: ReplicationState = ReplicationState.OFF
    out_of_sync: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource as this node sees it. `suspended` names why I/O is suspended, empty when it is not."""

    name: ResourceName
    role: Role
    connection: ConnectionState = ConnectionState.STAND_ALONE
    peer_role: Role = Role.UNKNOWN
    devices: tuple[DeviceStatus, ...] = ()
    suspended: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        return self.connection is ConnectionState.CONNECTED

    @property
    def primary(self) -> bool:
        return self.role is Role.PRIMARY

    @property
    def up_to_date(self) -> bool:
        """Whether this side's data is complete and the newest that is known."""
        return bool(self.devices) and all(device.disk is DiskState.UP_TO_DATE for device in self.devices)

    @property
    def peer_up_to_date(self) -> bool:
        return bool(self.devices) and all(device.peer_disk is DiskState.UP_TO_DATE for device in self.devices)

    @property
    def redundant(self) -> bool:
        """Connected, complete on both sides, and nothing is being copied or suspended."""
        return (
            self.connected
            and self.up_to_date
            and self.peer_up_to_date
            and not self.suspended
            and all(device.replication is ReplicationState.ESTABLISHED for device in self.devices)
        )

    @property
    def receiving(self) -> bool:
        return any(device.replication.receiving for device in self.devices)

    @property
    def sending(self) -> bool:
        return any(device.replication.sending for device in self.devices)

    @property
    def verifying(self) -> bool:
        return any(device.replication.verifying for device in self.devices)

    @property
    def worst_disk(self) -> DiskState:
        """The worst of the local disks; Diskless where the resource has none."""
        order = list(DiskState)
        return min((device.disk for device in self.devices), key=order.index, default=DiskState.DISKLESS)


@dataclass(frozen=True, slots=True)
class Generations:
    """The data generation ids of one volume (drbdmeta: current, bitmap, two of history), and its flags.

    Two sides with different `current` ids, of which each has a bitmap id that is the other's past, were both
    written after they parted: split brain.
    """

    current: str
    bitmap: str
    history: tuple[str, ...]
    consistent: bool = True
    was_up_to_date: bool = True
    primary: bool = False
    connected: bool = False

    @property
    def bare(self) -> tuple[str, ...]:
        """Current, bitmap and history without the lowest bit, which only says that the side was Primary."""
        return tuple(f"{int(each, 16) & ~1:016X}" for each in (self.current, self.bitmap, *self.history))
