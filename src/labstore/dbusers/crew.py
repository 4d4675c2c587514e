"""All replica servers at once: a thread for each, so that one that hangs costs the others nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from labstore.model.accounts import DbUser
from labstore.model.database import FoundAccount, HostKey
from labstore.ports.clock import Clock
from labstore.ports.replica_server import HostChange, HostView, ReplicaServer
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import HostDefect, HostLost, HostSlow
from labstore.reports.report import Report
from labstore.system.log import Logger

log = Logger()
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What became of changes on one server: what was refused, and how the accounts are now (None: nobody knows).
    `lost` says why the server did not do all of it."""

    refused: Mapping[DbUser, Report] = field(default_factory=dict)
    found: Mapping[DbUser, FoundAccount] | None = None
    lost: Report | None = None


@dataclass
class _Station:
    """One server and its thread. `busy` is work that was not waited for to the end."""

    server: ReplicaServer
    pool: ThreadPoolExecutor
    busy: Future[Any] | None = None
    failures: int = 0
    not_before: float = 0.0
    last: Missing | None = None
    away_since: datetime | None = None


class Crew:
    """Asks and changes all servers in parallel. For one thread."""

    def __init__(
        self,
        servers: Sequence[ReplicaServer],
        clock: Clock,
        back_off: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._back_off, self._chance = clock, back_off, chance
        self._stations = {
            server.key: _Station(server, ThreadPoolExecutor(1, f"host-{server.key}")) for server in servers
        }

    @property
    def servers(self) -> tuple[ReplicaServer, ...]:
        return tuple(station.server for station in self._stations.values())

    @property
    def away(self) -> dict[HostKey, datetime]:
        """Since when each server that gave no answer last time has given none."""
        return {key: s.away_since for key, s in self._stations.items() if s.away_since is not None}

    def observe(self, patience: float) -> dict[HostKey, Answer[HostView]]:
        """Every server's view, or Missing: not answering, still at earlier work, or not to be tried again yet."""
        ready = {key: s for key, s in self._stations.items() if self._ready(s)}
        rounds = _Round({key: s.pool.submit(s.server.observe) for key, s in ready.items()})
        done = rounds.results(patience, self._broken)
        views: dict[HostKey, Answer[HostView]] = {}
        for key, station in self._stations.items():
            if key in done:
                views[key] = done[key]
            elif key in ready:
                station.busy = rounds.futures[key]
                views[key] = self._slow(key, f"gave no answer within {patience:g} s")
            else:
                views[key] = station.last or self._slow(key, "is still at earlier work")
            self._note(station, views[key])
        return views

    def carry_out(self, changes: Mapping[HostKey, Sequence[HostChange]], patience: float) -> dict[HostKey, Work]:
        """Make the changes and look at the accounts again."""
        stations = {key: self._stations[key] for key in changes}
        idle = {key: s for key, s in stations.items() if s.busy is None or s.busy.done()}
        rounds = _Round({key: s.pool.submit(_work, s.server, changes[key]) for key, s in idle.items()})
        done = rounds.results(patience, lambda key, error: Work(lost=_defect(key, error)))
        for key, station in idle.items():
            if key not in done:
                station.busy = rounds.futures[key]
        return {key: done.get(key) or Work(lost=HostSlow(str(key), "is still at it")) for key in stations}

    def close(self) -> None:
        for station in self._stations.values():
            station.pool.shutdown(wait=False, cancel_futures=True)
            if station.busy is None or station.busy.done():
                station.server.close()

    def _ready(self, station: _Station) -> bool:
        if station.busy is not None and not station.busy.done():
            station.last = None
            return False
        station.busy = None
        return self._clock.monotonic() >= station.not_before

    def _note(self, station: _Station, view: Answer[HostView]) -> None:
        if isinstance(view, Fact):
            station.failures, station.not_before, station.last, station.away_since = 0, 0.0, None, None
            return
        station.away_since = station.away_since or self._clock.now()
        if view is not station.last:
            station.last = view
            wait_for = min(float(1 << min(station.failures, 20)), self._back_off)
            station.failures += 1
            # a little earlier or later, so that not all servers of a broken network are tried at once
            station.not_before = self._clock.monotonic() + wait_for * (0.75 + 0.5 * self._chance())

    def _slow(self, key: HostKey, what: str) -> Missing:
        return Missing(HostSlow(str(key), what), str(key), self._clock.now())

    def _broken(self, key: HostKey, error: Exception) -> Missing:
        return Missing(_defect(key, error), str(key), self._clock.now())


def _defect(key: HostKey, error: Exception) -> HostDefect:
    log.error("a defect ended the work on a server", host=str(key), exc_info=error)
    return HostDefect(str(key), f"{type(error).__name__}: {error}"[:500])


class _Round(Generic[T]):
    """What was handed to several threads at once."""

    def __init__(self, futures: dict[HostKey, Future[T]]) -> None:
        self.futures = futures

    def results(self, patience: float, instead: Callable[[HostKey, Exception], T]) -> dict[HostKey, T]:
        """Those that are done within so many seconds. What a thread raised is a defect, and one server's alone:
        `instead` says what stands for its result."""
        wait(self.futures.values(), patience)
        return {key: _result(key, future, instead) for key, future in self.futures.items() if future.done()}


def _result(key: HostKey, future: Future[T], instead: Callable[[HostKey, Exception], T]) -> T:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - recorded with its traceback; the other servers' work goes on
        return instead(key, error)


def _work(server: ReplicaServer, changes: Sequence[HostChange]) -> Work:
    lost: Report | None = None
    refused: Mapping[DbUser, Report] = {}
    try:
        refused = server.carry_out(changes)
    except StepFailed as failure:
        lost = failure.report
    answer = server.look(sorted({change.user for change in changes}))
    if isinstance(answer, Missing):
        return Work(refused, None, lost or HostLost(str(server.key), answer.report.message()))
    return Work(refused, answer.value, lost)
