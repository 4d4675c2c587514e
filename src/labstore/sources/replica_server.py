"""A replica server over PyMySQL: seen by digests, changed by lists, never flushed, never replaced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from labstore.formats.grant_tables import UNREADABLE, UnreadableGrant
from labstore.model.accounts import DbUser
from labstore.model.database import FoundAccount, HostKey, WantedAccount
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.ports.clock import Clock
from labstore.ports.replica_server import HostChange, HostVerb, HostView, Session
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import HostLost, HostReadOnly, HostRefused
from labstore.reports.report import Report
from labstore.sources.replica_hands import ABSENT, EXISTS, READ_ONLY, Bucket, Hands, Line, Lost, Refused

T = TypeVar("T")
_ORDER = tuple(HostVerb)
KILL_TRIES = 20
KILL_PAUSE = 0.05


class MariaReplica:
    """See ports.replica_server.ReplicaServer.

    What was seen is kept by bucket with its digest, so that looking again costs one short answer as long as nothing
    changed. Equal accounts are one object, also across servers that share `known`.
    """

    def __init__(
        self,
        settings: ReplicaSettings,
        clock: Clock,
        hands: Callable[[], Hands],
        known: dict[FoundAccount, FoundAccount] | None = None,
    ) -> None:
        self.key: HostKey = settings.key
        self._settings, self._clock, self._connect = settings, clock, hands
        self._hands: Hands | None = None
        self._watch: Hands | None = None
        self._digests: dict[Bucket, tuple[object, ...]] = {}
        self._seen: dict[Bucket, dict[DbUser, FoundAccount]] = {}
        self._all: dict[DbUser, FoundAccount] = {}
        self._known = known if known is not None else {}

    # --- looking ----------------------------------------------------------------------------------------------------

    def observe(self) -> Answer[HostView]:
        return self._answer("its accounts", self._observe)

    def look(self, users: Sequence[DbUser]) -> Answer[Mapping[DbUser, FoundAccount]]:
        def act(hands: Hands) -> Mapping[DbUser, FoundAccount]:
            found: dict[DbUser, FoundAccount] = {}
            for part in _parts(users, 1000):
                found |= self._kept(hands.some(part))
            return found

        return self._answer("accounts", act)

    def sessions(self) -> Answer[tuple[Session, ...]]:
        try:
            if self._watch is None:
                self._watch = self._connect()
            return Fact(self._watch.sessions(), str(self.key), self._clock.now())
        except (Lost, Refused) as error:
            self._let_go_of_watch()
            return self._missing("its sessions", error)

    def _observe(self, hands: Hands) -> HostView:
        digests = hands.digests()
        changed = sorted(b for b in {*digests, *self._digests} if digests.get(b) != self._digests.get(b))
        looked = 0
        if changed:
            # the digests were taken first: what changes in between is read now, and found to differ next time
            lines = hands.everything() if len(changed) > 8 else hands.buckets(changed)
            kept = self._kept(lines)
            looked = len(kept)
            self._remember(changed, kept, digests)
        sessions: dict[DbUser, int] = {}
        for session in hands.sessions():
            sessions[session.user] = sessions.get(session.user, 0) + 1
        return HostView(self._all, sessions, hands.read_only(), looked)

    def _remember(
        self,
        changed: Sequence[Bucket],
        kept: Mapping[DbUser, FoundAccount],
        digests: Mapping[Bucket, tuple[object, ...]],
    ) -> None:
        for bucket in changed:
            self._seen[bucket] = {}
        for user, found in kept.items():
            bucket = Bucket(user.number % Bucket.COUNT)
            if bucket in changed or bucket not in self._seen:
                self._seen.setdefault(bucket, {})[user] = found
        self._digests = dict(digests)
        self._all = {user: found for accounts in self._seen.values() for user, found in accounts.items()}

    def _kept(self, lines: Mapping[DbUser, Line]) -> dict[DbUser, FoundAccount]:
        return {user: self._known.setdefault(found, found) for user, line in lines.items() if (found := _found(line))}

    # --- changing ---------------------------------------------------------------------------------------------------

    def carry_out(self, changes: Sequence[HostChange]) -> Mapping[DbUser, Report]:
        failed: dict[DbUser, Report] = {}
        try:
            hands = self._awake()
            for verb in _ORDER:
                mine = [change for change in changes if change.verb is verb and change.user not in failed]
                for part in self._lists(verb, mine):
                    failed |= self._list(hands, verb, part)
        except (Lost, Refused) as error:
            # what is refused here is the login itself; accounts that are refused cost themselves alone
            self._let_go()
            raise StepFailed(HostLost(str(self.key), str(error))) from error
        return failed

    def _lists(self, verb: HostVerb, changes: Sequence[HostChange]) -> Iterator[list[HostChange]]:
        """Lists of accounts that one statement can do: all with the same limits and lock."""
        if verb in (HostVerb.CREATE, HostVerb.ALTER):
            ordered = sorted(changes, key=_sameness)
            for _, same in groupby(ordered, key=_sameness):
                yield from _parts(list(same), self._settings.batch)
        else:
            yield from _parts(list(changes), self._settings.batch)

    def _list(self, hands: Hands, verb: HostVerb, part: Sequence[HostChange]) -> dict[DbUser, Report]:
        try:
            self._do(hands, verb, part)
        except Refused as error:
            self._stop_if_read_only(error)
            if len(part) == 1:
                return self._one(hands, verb, part[0], error)
        else:
            return {}
        failed: dict[DbUser, Report] = {}
        for change in part:
            try:
                self._do(hands, verb, [change])
            except Refused as error:
                self._stop_if_read_only(error)
                failed |= self._one(hands, verb, change, error)
        return failed

    def _one(self, hands: Hands, verb: HostVerb, change: HostChange, error: Refused) -> dict[DbUser, Report]:
        """What a refusal of one account means: done already, the other way round, or really refused."""
        if error.number in ABSENT and verb in (HostVerb.LOCK, HostVerb.DROP, HostVerb.END_SESSIONS):
            return {}
        if error.number == EXISTS and verb in (HostVerb.CREATE, HostVerb.ALTER):
            other = HostVerb.ALTER if verb is HostVerb.CREATE else HostVerb.CREATE
            try:
                self._do(hands, other, [change])
            except Refused as second:
                error = second
            else:
                return {}
        return {change.user: HostRefused(str(change.user), str(self.key), error.number, str(error))}

    def _do(self, hands: Hands, verb: HostVerb, part: Sequence[HostChange]) -> None:
        users = [change.user for change in part]
        match verb:
            case HostVerb.CREATE:
                hands.create(_wanted(part))
            case HostVerb.ALTER:
                hands.alter(_wanted(part))
            case HostVerb.REVOKE:
                hands.revoke(users)
            case HostVerb.GRANT:
                hands.grant(users)
            case HostVerb.LOCK:
                hands.lock(users)
            case HostVerb.DROP:
                hands.drop(users)
            case HostVerb.END_SESSIONS:
                self._end_sessions(hands, users)

    def _end_sessions(self, hands: Hands, users: Sequence[DbUser]) -> None:
        """Until none is left: one that was just connecting when the account was locked may appear late."""
        wanted = set(users)
        for _ in range(KILL_TRIES):
            left = sorted(wanted & {session.user for session in hands.sessions()})
            if not left:
                return
            hands.kill(left)
            time.sleep(KILL_PAUSE)

    def _stop_if_read_only(self, error: Refused) -> None:
        if error.number in READ_ONLY:
            raise StepFailed(HostReadOnly(str(self.key), f"refuses changes: {error}")) from error

    # --- the governor's part ----------------------------------------------------------------------------------------

    def end_statement(self, session: Session) -> bool:
        return self._ended(lambda watch: watch.end_statement(session))

    def end_session(self, session: Session) -> bool:
        return self._ended(lambda watch: watch.end_session(session))

    def _ended(self, act: Callable[[Hands], bool]) -> bool:
        try:
            if self._watch is None:
                self._watch = self._connect()
            return act(self._watch)
        except (Lost, Refused) as error:
            self._let_go_of_watch()
            raise StepFailed(HostLost(str(self.key), str(error))) from error

    # --- the connection ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._let_go()
        self._let_go_of_watch()

    def _ready(self) -> Hands:
        if self._hands is None:
            self._hands = self._connect()
        return self._hands

    def _awake(self) -> Hands:
        """A connection that answers: an idle one may have been closed by the server. Raises Lost, Refused."""
        if self._hands is not None:
            try:
                self._hands.read_only()
            except Lost:
                self._let_go()
        return self._ready()

    def _answer(self, what: str, act: Callable[[Hands], T]) -> Answer[T]:
        """An idle connection may have been closed by the server: that is tried once more with a new one."""
        for fresh in (self._hands is None, True):
            try:
                return Fact(act(self._ready()), str(self.key), self._clock.now())
            except Lost as error:
                self._let_go()
                if fresh or not error.idle:
                    return self._missing(what, error)
            except Refused as error:
                return self._missing(what, error)
        raise AssertionError("the second try answers")

    def _missing(self, what: str, error: Exception) -> Missing:
        return Missing(HostLost(str(self.key), f"did not give {what}: {error}"), str(self.key), self._clock.now())

    def _let_go(self) -> None:
        if self._hands is not None:
            with contextlib.suppress(Lost, Refused):
                self._hands.close()
        self._hands = None

    def _let_go_of_watch(self) -> None:
        if self._watch is not None:
            with contextlib.suppress(Lost, Refused):
                self._watch.close()
        self._watch = None


def _found(line: Line) -> FoundAccount | None:
    """One account that cannot be read is there all the same, and costs the others nothing."""
    try:
        return line.found()
    except UnreadableGrant:
        return UNREADABLE


def _sameness(change: HostChange) -> tuple[int, int, int, bool]:
    assert change.wanted is not None
    limits = change.wanted.limits
    return limits.max_connections, limits.statement_seconds, limits.queries_per_hour, change.wanted.locked


def _wanted(part: Sequence[HostChange]) -> list[WantedAccount]:
    return [change.wanted for change in part if change.wanted is not None]


def _parts(values: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
