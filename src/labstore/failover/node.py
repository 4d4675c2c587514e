"""This machine as a storage node."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labstore.failover.apply import Hands
from labstore.failover.building import Builder
from labstore.failover.observe import Observer
from labstore.model.names import HostName
from labstore.ports.storage_node import (
    EVERYTHING,
    Aspect,
    Entry,
    Event,
    NodeFacts,
    Order,
    Said,
    SetUp,
    Survey,
    Taken,
)
from labstore.reports.failover import NotJournaled
from labstore.reports.report import Report
from labstore.system.journal import Journal
from labstore.system.locks import exclusive
from labstore.system.read_ahead import read_ahead

PROGRAMS = (
    *("nft", "ss", "systemctl", "umount", "mount", "drbdsetup", "drbdsetup-84"),
    *("nfsdcld", "exportfs", "unshare", "hostname", "rpc.nfsd", "rpc.mountd", "rpc.idmapd"),
)
"""What runs while clients wait; a standby may not have run it for months."""
REMEMBERED = 5
"""Earlier runs from which it is told how long a step takes."""


@dataclass
class LocalNode:
    """See ports.storage_node.StorageNode."""

    observer: Observer
    hands: Hands = field(init=False)
    builder: Builder = field(init=False)

    def __post_init__(self) -> None:
        self.hands = Hands(self.observer)
        self.builder = Builder(self.observer)

    @property
    def name(self) -> HostName:
        return self.observer.name

    @property
    def journal(self) -> Journal:
        return Journal(self.observer.places.journal)

    def look(self, aspects: frozenset[Aspect] = EVERYTHING) -> NodeFacts:
        return self.observer.look(aspects)

    def act(self, order: Order) -> Said:
        return self.hands.act(order)

    def take(self, entries: tuple[Entry, ...], order: Order, aspects: frozenset[Aspect]) -> Taken:
        noted = self.note(*entries)
        said = self.act(order)
        return Taken(Said((*noted, *said.reports), said.data), self.look(aspects))

    def holders(self) -> tuple[Report, ...]:
        return self.hands.storage.holders()

    @contextlib.contextmanager
    def hold(self, what: str) -> Iterator[None]:
        lock = self.observer.places.lock
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.observer.tools.addresses.prepare()
        read_ahead(PROGRAMS)
        with exclusive(lock, f"{what} (boot {self.observer.boot()})"):
            yield

    def note(self, *entries: Entry) -> tuple[Report, ...]:
        try:
            self.journal.append(*entries)
            if any(entry.event is Event.END for entry in entries):
                self.journal.shorten()
        except OSError as error:
            for entry in entries:
                if entry.event is Event.END:  # it must not look unfinished for ever after
                    with contextlib.suppress(OSError):
                        self.journal.forget(entry.run)
            return (NotJournaled(str(self.name), str(error)),)
        return ()

    def survey(self) -> Survey:
        return self.builder.survey()

    def set_up(self, what: SetUp, subject: str = "") -> Said:
        return self.builder.set_up(what, subject)

    def expected(self) -> Mapping[str, float]:
        """The median of the last runs."""
        taken: dict[str, list[float]] = {}
        with contextlib.suppress(OSError):
            for entry in self.journal.entries():
                if entry.event is Event.DONE and "seconds" in entry.data:
                    with contextlib.suppress(ValueError):
                        taken.setdefault(entry.step, []).append(float(entry.data["seconds"]))
        return {step: statistics.median(seconds[-REMEMBERED:]) for step, seconds in taken.items()}
