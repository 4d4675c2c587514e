"""What a kernel NFS server says about its clients: who they are, what they hold open and locked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class StateKind(StrEnum):
    OPEN = "open"
    LOCK = "lock"
    DELEGATION = "deleg"
    LAYOUT = "layout"


class ClientStatus(StrEnum):
    """COURTESY: its lease ran out, its state is kept until somebody wants what it holds."""

    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    COURTESY = "courtesy"
    EXPIRABLE = "expirable"


@dataclass(frozen=True, slots=True)
class FileId:
    """A file by device (major, minor) and inode: the same on both nodes, since they hold the same blocks."""

    device: tuple[int, int]
    inode: int


@dataclass(frozen=True, slots=True)
class ClientState:
    """One thing that a client holds. `access` and `deny` as the kernel writes them (`rw`, `--`); `owner` identifies
    the holder within the client and is the same after a reclaim. `filename` is for people."""

    kind: StateKind
    file: FileId | None
    access: str = ""
    deny: str = ""
    owner: str = ""
    filename: str = ""


@dataclass(frozen=True, slots=True)
class NfsClient:
    """One NFSv4 client. `name` is what it calls itself: the same before and after a failover, unlike `id`.

    `port` is its end of the connection over which it last spoke; `renewed` is how many seconds ago that was.
    """

    id: str
    name: str
    address: str
    port: int = 0
    status: ClientStatus = ClientStatus.CONFIRMED
    minor_version: int = 0
    renewed: int | None = None
    implementation: str = ""
    callback: str = ""
    states: tuple[ClientState, ...] = ()

    def held(self, kind: StateKind) -> tuple[ClientState, ...]:
        return tuple(state for state in self.states if state.kind is kind)


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of a client to the server: both ends as text and number."""

    server: str
    server_port: int
    client: str
    client_port: int
