"""Limits that hold: an account can unset its own statement time, and keeps the sessions it had when its limit fell.

Each server has a thread that looks at the sessions of our accounts, over a connection of its own, and ends what is
over the budget. The limits, and whose sessions they are to be held to, come from the reconciler's cycle; while that
cannot read the ledger, the last ones hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from labstore.dbusers.desired import Limiter
from labstore.dbusers.facts import DbFacts
from labstore.model.accounts import DbUser, Limits
from labstore.model.database import FoundAccount, HostKey
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.ledger import Event
from labstore.ports.clock import Clock
from labstore.ports.replica_server import ReplicaServer, Session
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import SessionsEnded, StatementsEnded
from labstore.system.log import Logger

log = Logger()
LONGEST_PAUSE = 60.0
"""Seconds between two looks at a server that does not answer, at most."""
STOP = 5.0
"""So long the end of a thread is waited for; one that waits for a frozen server ends with its deadline."""
LimitsOf = Callable[[DbUser], Limits]
Ended = StatementsEnded | SessionsEnded


def overrunning(sessions: Iterable[Session], limits: LimitsOf, grace: float) -> Iterator[tuple[Session, int]]:
    """Sessions whose present statement runs for longer than its account may, each with its budget. Pure."""
    for session in sessions:
        budget = limits(session.user).statement_seconds
        if session.running and budget and session.seconds >= budget + grace:
            yield session, budget


def crowding(sessions: Iterable[Session], limits: LimitsOf) -> Iterator[tuple[Session, int]]:
    """Sessions beyond the number that their account may have, each with that number: the idle ones before those that
    work, the newest before the oldest. Pure."""
    mine: dict[DbUser, list[Session]] = {}
    for session in sessions:
        mine.setdefault(session.user, []).append(session)
    for user, every in mine.items():
        number = limits(user).max_connections
        if number:
            every.sort(key=lambda session: (not session.running, session.number))
            yield from ((session, number) for session in every[number:])


@dataclass(frozen=True)
class Seen:
    """The sessions of one look. Only who is there twice is too many, since one that ends is listed a little longer.
    `missed` ran for so long, and were not ended: a block of statements shows another number for each of them."""

    numbers: frozenset[int] = frozenset()
    missed: Mapping[int, float] = field(default_factory=dict)


NOBODY = Seen()


@dataclass(frozen=True)
class Charge:
    """What the cycle gives into the governor's hands: the limits, and the accounts that are held to them. Those are of
    the ledger and of the site's kinds, and were found touchable: of a server that gave no answer yet nobody is."""

    limiter: Limiter
    users: frozenset[DbUser]
    found: Mapping[HostKey, Mapping[DbUser, FoundAccount]]

    def covers(self, user: DbUser, host: HostKey) -> bool:
        account = self.found.get(host, {}).get(user)
        return user in self.users and account is not None and account.touchable


class Governor:
    """Works beside the reconciler's cycle, on the same servers; `start` and `stop` are the daemon's.

    `govern` and `rest` are the cycle's word, `ended` its question; every other call is for one thread.
    """

    def __init__(self, servers: Sequence[ReplicaServer], settings: DbusersSettings, clock: Clock) -> None:
        self._servers, self._settings, self._clock = tuple(servers), settings, clock
        self._charge: Charge | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._tally = _Tally()

    def govern(self, facts: DbFacts) -> None:
        """From now on the accounts of these facts are held to the ledger's rules and the site's. Of a server that gave
        no answer, what was found last holds."""
        if not self._settings.governor.enabled:
            return
        limiter = Limiter(self._settings, facts.ledger.rules, self._clock.now())
        users = frozenset(user for user in facts.ledger.accounts if user.kind in self._settings.kinds)
        found = {key: answer.value.accounts for key, answer in facts.hosts.items() if isinstance(answer, Fact)}
        before = self._charge.found if self._charge is not None else {}
        self._charge = Charge(limiter, users, {**before, **found})

    def rest(self) -> None:
        """Another machine leads: nothing is ended until the next facts come."""
        self._charge = None

    def ended(self) -> tuple[Ended, ...]:
        """What was ended since this was asked last, added up."""
        return self._tally.taken()

    def start(self) -> None:
        """A thread for each server."""
        self._stopping.clear()
        self._threads = [
            threading.Thread(target=self._watch, args=(server,), name=f"governor-{server.key}", daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads; call it before the servers are let go of."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP)
        self._threads = []

    def look(self, server: ReplicaServer, before: Seen | None = None) -> Seen:
        """One look at one server, and what follows from it. What it returns is to be given to the next look. Raises
        StepFailed where the server does not answer."""
        charge, before = self._charge, before or NOBODY
        if charge is None:
            return NOBODY
        answer = server.sessions()
        if isinstance(answer, Missing):
            raise StepFailed(answer.report)
        host = self._settings.host(server.key)
        grace = self._settings.governor.grace

        def limits(user: DbUser) -> Limits:
            return charge.limiter.limits(user, host)

        sessions = [session for session in answer.value if charge.covers(session.user, server.key)]
        missed: dict[int, float] = {}
        for session, budget in overrunning(sessions, limits, grace):
            # the same statement has been going on since: its parts are too short to be hit one by one
            slips = session.seconds > before.missed.get(session.number, session.seconds)
            if server.end_session(session) if slips else server.end_statement(session):
                self._tally.statement(str(session.user), str(server.key), session.seconds, budget)
            else:
                missed[session.number] = session.seconds
        lasting = [session for session in sessions if session.number in before.numbers]
        for session, number in crowding(lasting, limits):
            if server.end_session(session):
                self._tally.session(str(session.user), str(server.key), number)
        return Seen(frozenset(session.number for session in sessions), missed)

    def _watch(self, server: ReplicaServer) -> None:
        interval = self._settings.governor.interval
        pause, before = interval, NOBODY
        while not self._stopping.wait(pause):
            try:
                before = self.look(server, before)
                pause = interval
            except StepFailed:
                # the cycle says that the server is away; here it is only tried less and less often
                pause = min(max(pause, interval) * 2, LONGEST_PAUSE)
            except Exception:
                log.exception("governor", host=str(server.key))
                pause = LONGEST_PAUSE


def noted(ended: Iterable[Ended]) -> Iterator[Event]:
    """What the ledger keeps of it, so that people can be told why."""
    for report in ended:
        detail: Mapping[str, object] = (
            {"statements": report.count, "longest": round(report.seconds, 1), "budget": report.budget}
            if isinstance(report, StatementsEnded)
            else {"sessions": report.count, "limit": report.limit}
        )
        yield Event("ended over the limit", report.account, report.host, detail)


@dataclass
class _Tally:
    """What was ended, by account and server: a loop of long statements is one line."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _statements: dict[tuple[str, str], StatementsEnded] = field(default_factory=dict)
    _sessions: dict[tuple[str, str], SessionsEnded] = field(default_factory=dict)

    def statement(self, account: str, host: str, seconds: float, budget: int) -> None:
        with self._lock:
            known = self._statements.get((account, host))
            count, longest = (known.count, known.seconds) if known else (0, 0.0)
            self._statements[account, host] = StatementsEnded(account, host, count + 1, max(longest, seconds), budget)

    def session(self, account: str, host: str, limit: int) -> None:
        with self._lock:
            known = self._sessions.get((account, host))
            self._sessions[account, host] = SessionsEnded(account, host, (known.count if known else 0) + 1, limit)

    def taken(self) -> tuple[Ended, ...]:
        with self._lock:
            found: tuple[Ended, ...] = (*self._statements.values(), *self._sessions.values())
            self._statements, self._sessions = {}, {}
        return found
