"""The lock certificate: per client what it held before, what it got back, what it lost.

`before` was taken behind the barrier and is exact. `after` is everything that was seen from the moment clients were
let in until the grace period ended; what a client gave back of itself in that time was seen before it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from labstore.failover.handover import Handover
from labstore.model.nfsd import ClientState, NfsClient, StateKind

COUNTED = (StateKind.OPEN, StateKind.LOCK)


class Fate(StrEnum):
    """CARRIED: it has all that it had. NOTHING: it had nothing to lose. LOST: it is back, without all of it. NOT_BACK:
    it did not come back before the grace period ended, and what it held is gone."""

    CARRIED = "carried over"
    NOTHING = "held nothing"
    LOST = "lost some"
    NOT_BACK = "not back"


@dataclass(frozen=True, slots=True)
class Line:
    """One client. The numbers are opens and locks; `missing` names the files of what was lost."""

    client: str
    address: str
    fate: Fate
    opens: int = 0
    locks: int = 0
    opens_reclaimed: int = 0
    locks_reclaimed: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """`complete` is False where the watch ended before the grace period did: then NOT_BACK may still come back.
    `seconds` is from the cut to the last reclaim that was seen."""

    run: str
    cut_on: str
    cut_at: str
    served_on: str
    lines: tuple[Line, ...]
    complete: bool = True
    newcomers: int = 0
    seconds: float | None = None

    @property
    def opens(self) -> tuple[int, int]:
        """(before, reclaimed)."""
        return sum(line.opens for line in self.lines), sum(line.opens_reclaimed for line in self.lines)

    @property
    def locks(self) -> tuple[int, int]:
        return sum(line.locks for line in self.lines), sum(line.locks_reclaimed for line in self.lines)

    @property
    def lossless(self) -> bool:
        return all(line.fate in (Fate.CARRIED, Fate.NOTHING) for line in self.lines)


@dataclass
class Watch:
    """Gathers what clients are seen to hold, look after look."""

    held: dict[str, Counter[ClientState]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def see(self, clients: Iterable[NfsClient]) -> None:
        for client in clients:
            self.addresses[client.name] = client.address
            now = Counter(map(_lasting, _counted(client.states)))
            before = self.held.setdefault(client.name, Counter())
            self.held[client.name] = before | now

    def all_back(self, handover: Handover) -> bool:
        """Whether every client has everything again."""
        return all(not _missing(client, self.held.get(client.name)) for client in handover.clients)


def certificate(
    handover: Handover, watch: Watch, served_on: str, complete: bool, seconds: float | None = None
) -> Certificate:
    """The comparison. Clients in the order of their addresses."""
    known = {client.name for client in handover.clients}
    ordered = sorted(handover.clients, key=lambda client: (client.address, client.name))
    lines = tuple(_line(client, watch.held.get(client.name)) for client in ordered)
    newcomers = len(watch.held.keys() - known)
    return Certificate(handover.run, handover.node, handover.at, served_on, lines, complete, newcomers, seconds)


def _line(client: NfsClient, after: Counter[ClientState] | None) -> Line:
    before = Counter(map(_lasting, _counted(client.states)))
    missing = _missing(client, after)
    opens, locks = _number(before, StateKind.OPEN), _number(before, StateKind.LOCK)
    lost_opens, lost_locks = _number(missing, StateKind.OPEN), _number(missing, StateKind.LOCK)
    names = tuple(sorted({_words(state) for state in missing}))
    return Line(
        client=client.name,
        address=client.address,
        fate=_fate(bool(before), after is not None, bool(missing)),
        opens=opens,
        locks=locks,
        opens_reclaimed=opens - lost_opens,
        locks_reclaimed=locks - lost_locks,
        missing=names,
    )


def _fate(had: bool, back: bool, lost: bool) -> Fate:
    if not had:
        return Fate.NOTHING
    if not back:
        return Fate.NOT_BACK
    return Fate.LOST if lost else Fate.CARRIED


def _counted(states: Sequence[ClientState]) -> list[ClientState]:
    return [state for state in states if state.kind in COUNTED]


def _lasting(state: ClientState) -> ClientState:
    """The state without its name, which a rename may have changed, and without how often it was opened in which way:
    a reclaim asks for all of it at once."""
    return ClientState(state.kind, state.file, owner=state.owner)


def _missing(client: NfsClient, after: Counter[ClientState] | None) -> Counter[ClientState]:
    before: Counter[ClientState] = Counter()
    for state in _counted(client.states):
        before[_lasting(state)] += 1
    gone = before - (after or Counter())
    names: Mapping[ClientState, str] = {_lasting(state): state.filename for state in client.states}
    return Counter({ClientState(s.kind, s.file, owner=s.owner, filename=names[s]): n for s, n in gone.items()})


def _number(states: Counter[ClientState], kind: StateKind) -> int:
    return sum(count for state, count in states.items() if state.kind is kind)


def _words(state: ClientState) -> str:
    where = state.filename or (f"inode {state.file.inode}" if state.file else "a file that is gone")
    return f"{state.kind} {where}"
