"""Carrying out a plan: ledger, servers, files and ledger again, in rounds of so many accounts.

The order within an account is the plan's: what a tenant can read is in the ledger before, and accepted by the servers
that answer. Killed anywhere, the next look finds what is left to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from labstore.dbusers.course import DbStep
from labstore.dbusers.crew import Crew, Work
from labstore.dbusers.desired import Limiter, granted, surplus, wanted
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.turns import MINTING, Act, Change, Stage, turned
from labstore.dbusers.vault import Vault
from labstore.dbusers.way import found_verifier
from labstore.model.accounts import DbUser, NativeHash, account_name
from labstore.model.database import FoundAccount, HostKey
from labstore.model.ledger import AccountRow, Debt, Event, Lease, Tombstone
from labstore.ports.credential_writer import CredentialWriter, FileOwner
from labstore.ports.ledger import Bury, Ledger, LedgerFailed, Note, Places, Put, Write
from labstore.ports.replica_server import HostChange, HostVerb
from labstore.reconcile.facts import Fact
from labstore.reconcile.record import Outcome, Result
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import LedgerDown, NotAsWanted, WaitsFor
from labstore.reports.report import Report

_VERBS = {
    Act.CREATE: HostVerb.CREATE,
    Act.ALTER: HostVerb.ALTER,
    Act.REVOKE: HostVerb.REVOKE,
    Act.GRANT: HostVerb.GRANT,
    Act.LOCK: HostVerb.LOCK,
    Act.END_SESSIONS: HostVerb.END_SESSIONS,
    Act.DROP: HostVerb.DROP,
}
_NEEDS_ALL = frozenset({Act.REPLACE, Act.WITHDRAW, Act.BURY, Act.END})
"""Acts that are taken only where every server that answered did its part before. A file waits for that until the moment
that its step carries: one server that is read-only for long must not keep a tool from the others."""
_MAKING = frozenset({Act.CREATE, Act.ALTER, Act.REVOKE, Act.GRANT})
_RIGHTS = frozenset({Act.REVOKE, Act.GRANT})
WRITERS = 8
"""Files written at a time: each waits for the disk."""


@dataclass
class Applier:
    """Carries out the steps of one plan. Raises NotLeader, LedgerFailed."""

    facts: DbFacts
    ledger: Ledger
    lease: Lease
    crew: Crew
    writer: CredentialWriter
    vault: Vault
    now: Callable[[], datetime]
    _results: dict[str, Result] = field(default_factory=dict, init=False)
    _queues: dict[DbUser, deque[DbStep]] = field(default_factory=dict, init=False)
    _failed: dict[DbUser, dict[str, Report]] = field(default_factory=dict, init=False)

    def carry_out(self, steps: Sequence[DbStep]) -> tuple[Result, ...]:
        """A result for every step, in their order."""
        settings = self.facts.settings
        self._limiter = Limiter(settings, self.facts.ledger.rules, self.facts.at)
        self._hosts = {host.key: host for host in settings.hosts}
        # with every new account a server goes through all roles that were ever granted (rebuild_role_grants of its
        # sql_acl.cc): all are made before the first gets its rights
        left = self._turn(steps, until=_RIGHTS)
        self._turn(left, until=frozenset())
        return tuple(self._results[step.key] for step in steps)

    def _turn(self, steps: Sequence[DbStep], until: frozenset[Act]) -> list[DbStep]:
        """Work on each account until its next step is one of these acts; what is left then."""
        left: list[DbStep] = []
        pacing = self.facts.settings.pacing
        for self._queues in _chunks(steps, pacing.chunk):
            self.lease = self.ledger.lead(self.lease.holder, pacing.lease)
            left += self._work_off(until)
        return left

    def _work_off(self, until: frozenset[Act]) -> Iterator[DbStep]:
        do = {Stage.LEDGER: self._in_ledger, Stage.HOST: self._on_servers, Stage.FILE: self._in_homes}
        while self._queues:
            for stage in Stage:
                heads = {user: head for user, queue in self._queues.items() if (head := _head(queue, stage, until))}
                if heads:
                    do[stage](heads)
            going: dict[DbUser, deque[DbStep]] = {}
            for user, queue in self._queues.items():
                if queue and _change(queue[0]).act in until:
                    yield from queue
                elif queue:
                    going[user] = queue
            self._queues = going

    # --- results ----------------------------------------------------------------------------------------------------

    def _done(self, step: DbStep) -> None:
        self._results[step.key] = Result(step.key, Outcome.DONE)

    def _fail(self, steps: Sequence[DbStep], report: Report, outcome: Outcome = Outcome.FAILED) -> None:
        """The first of these steps failed; the others, and what of the account comes after them, are not tried."""
        self._results[steps[0].key] = Result(steps[0].key, outcome, report)
        queue = self._queues[_change(steps[0]).user]
        waits = WaitsFor(str(_change(steps[0]).user), report.message())
        for later in (*steps[1:], *queue):
            self._results[later.key] = Result(later.key, Outcome.SKIPPED, waits)
        queue.clear()

    def _held_back(self, steps: Sequence[DbStep]) -> bool:
        """Whether the first step has to wait because of a server; then all of them are skipped."""
        change = _change(steps[0])
        failed = self._failed.get(change.user, {})
        if change.until is not None and change.until <= self.facts.at:
            return False
        if change.act is Act.PUBLISH:
            failed = {key: why for key, why in failed.items() if self._hosts[HostKey.parse(key)].required}
        elif change.act not in _NEEDS_ALL:
            return False
        if not failed:
            return False
        why = next(iter(failed.values()))
        self._fail(steps, WaitsFor(str(change.user), why.message()), Outcome.SKIPPED)
        return True

    # --- the ledger -------------------------------------------------------------------------------------------------

    def _in_ledger(self, heads: Mapping[DbUser, Sequence[DbStep]]) -> None:
        rows = self.ledger.read().accounts
        ready = {user: steps for user, steps in heads.items() if not self._held_back(steps)}
        writes = {user: self._writes(rows.get(user), steps) for user, steps in ready.items()}
        if not writes:
            return
        try:
            self.ledger.write(self.lease, [write for each in writes.values() for write in each])
        except LedgerFailed:
            self._one_by_one(ready, writes)
            return
        for steps in ready.values():
            for step in steps:
                self._settled(step)

    def _one_by_one(self, heads: Mapping[DbUser, Sequence[DbStep]], writes: Mapping[DbUser, Sequence[Write]]) -> None:
        """One account's row must not hold the others up (upstream #42). Raises LedgerFailed where nothing can be
        written at all."""
        last: LedgerFailed | None = None
        good = 0
        for user, steps in heads.items():
            try:
                self.ledger.write(self.lease, writes[user])
            except LedgerFailed as error:
                last = error
                self._fail(steps, LedgerDown(str(error)))
            else:
                good += 1
                for step in steps:
                    self._settled(step)
        if last is not None and not good:
            raise last

    def _settled(self, step: DbStep) -> None:
        self._done(step)
        change = _change(step)
        if change.act in (Act.CONFIRM, Act.OVERLAP, Act.ADOPT, Act.BURY):
            self.vault.forget(change.user)

    def _writes(self, row: AccountRow | None, steps: Sequence[DbStep]) -> list[Write]:
        """The row after all of these steps, and an event for each of them."""
        at = self.now()
        events: list[Event] = []
        for step in steps:
            change = _change(step)
            if change.act is Act.BURY:
                assert row is not None
                return [*map(Note, events), self._bury(row, step, at)]
            # a rotation is as old as what it was decided on: a word that came meanwhile is owed another one
            moment = self.facts.heard if change.act is Act.ROTATE else None
            row = turned(row, change, self._verifier(change), moment or at)
            events.append(_event(step))
        assert row is not None
        return [*map(Note, events[:-1]), Put(row, events[-1])]

    def _bury(self, row: AccountRow, step: DbStep, at: datetime) -> Bury:
        why = f"{row.cause}, since {row.suspended_at:%Y-%m-%d}" if row.suspended_at else step.why
        stone = Tombstone(row.user, row.kind, row.name, row.uid, row.entry_uuid, at, why)
        return Bury(row, stone, _event(step))

    def _verifier(self, change: Change) -> NativeHash | None:
        if change.act in MINTING:
            return NativeHash.of(self.vault.mint(change.user, change.generation))
        if change.act is Act.ADOPT:
            answer = self.facts.files[change.user]
            assert isinstance(answer, Fact)
            return answer.value.verifier
        if change.act is Act.KNOW:
            views = (a.value.accounts.get(change.user) for a in self.facts.hosts.values() if isinstance(a, Fact))
            return found_verifier(views)
        return None

    # --- servers ----------------------------------------------------------------------------------------------------

    def _on_servers(self, heads: Mapping[DbUser, Sequence[DbStep]]) -> None:
        rows = self.ledger.read().accounts
        steps: dict[HostKey, list[DbStep]] = {}
        for user, mine in heads.items():
            failed = self._failed.get(user, {})
            for step in mine:
                if (why := failed.get(_change(step).host)) is not None:
                    self._results[step.key] = Result(step.key, Outcome.FAILED, why)
                else:
                    steps.setdefault(HostKey.parse(_change(step).host), []).append(step)
        if not steps:
            return
        changes = {key: [self._host_change(rows, key, step) for step in mine] for key, mine in steps.items()}
        done = self.crew.carry_out(changes, self.facts.settings.pacing.work_patience)
        for key, work in done.items():
            for step in steps[key]:
                self._judge(rows, key, step, work)
        self._note_places(steps, done)

    def _host_change(self, rows: Mapping[DbUser, AccountRow], key: HostKey, step: DbStep) -> HostChange:
        change = _change(step)
        verb = _VERBS[change.act]
        if change.act not in _MAKING:
            return HostChange(verb, change.user)
        return HostChange(verb, change.user, wanted(rows[change.user], self._hosts[key], self._limiter))

    def _judge(self, rows: Mapping[DbUser, AccountRow], key: HostKey, step: DbStep, work: Work) -> None:
        """What the server has now decides, not what it answered (DESIGN law 5)."""
        change = _change(step)
        report = self._trouble(rows, key, change, work)
        if report is None:
            self._done(step)
        else:
            self._results[step.key] = Result(step.key, Outcome.FAILED, report)
            self._failed.setdefault(change.user, {})[str(key)] = report

    def _trouble(self, rows: Mapping[DbUser, AccountRow], key: HostKey, change: Change, work: Work) -> Report | None:
        if change.user in work.refused:
            return work.refused[change.user]
        if work.found is None:
            return work.lost
        found = work.found.get(change.user)
        if self._as_wanted(rows, key, change, found):
            return work.lost if change.act is Act.END_SESSIONS else None
        return work.lost or NotAsWanted(str(change.user), str(key), "absent" if found is None else "otherwise")

    def _as_wanted(
        self, rows: Mapping[DbUser, AccountRow], key: HostKey, change: Change, found: FoundAccount | None
    ) -> bool:
        if change.act is Act.DROP:
            return found is None
        if change.act in (Act.LOCK, Act.END_SESSIONS):
            return found is None or found.locked
        if found is None:
            return False
        host = self._hosts[key]
        if change.act is Act.GRANT:
            return granted(found, change.user, host)
        if change.act is Act.REVOKE:
            return granted(found, change.user, host) and not surplus(found, change.user, host)
        target = wanted(rows[change.user], host, self._limiter)
        return (found.verifiers, found.limits, found.locked) == (target.ways_in, target.limits, target.locked)

    def _note_places(self, steps: Mapping[HostKey, Sequence[DbStep]], done: Mapping[HostKey, Work]) -> None:
        """Where each account is now, for the tables that others read; and the events of what was changed."""
        debts = self.ledger.read().debts
        at = self.now()
        writes: list[Write] = []
        changed: dict[DbUser, dict[str, list[str]]] = {}
        for key, work in done.items():
            owed = debts.get(key, {})
            users = {_change(step).user for step in steps[key]}
            if work.found is not None:
                present = tuple(sorted(user for user in users if user in work.found and user in owed))
                absent = {
                    user: _debt(owed.get(user), work.refused.get(user) or work.lost, at)
                    for user in users
                    if user not in work.found
                }
                if present or absent:
                    writes.append(Places(key, present, absent))
            for step in steps[key]:
                if self._results[step.key].outcome is Outcome.DONE:
                    acts = changed.setdefault(_change(step).user, {})
                    acts.setdefault(_change(step).act.value, []).append(str(key))
        writes += [Note(Event("servers", str(user), detail=acts)) for user, acts in changed.items()]
        self.ledger.write(self.lease, writes)

    # --- files ------------------------------------------------------------------------------------------------------

    def _in_homes(self, heads: Mapping[DbUser, Sequence[DbStep]]) -> None:
        """One step per account: what follows it is the ledger's."""
        for user, steps in heads.items():
            self._queues[user].extendleft(reversed(steps[1:]))
        ready = [steps[0] for steps in heads.values() if not self._held_back(steps[:1])]
        rows = self.ledger.read().accounts
        with ThreadPoolExecutor(min(WRITERS, len(ready) or 1), "files") as pool:
            troubles = list(pool.map(lambda step: self._file(step, rows[_change(step).user]), ready))
        for step, trouble in zip(ready, troubles, strict=True):
            if trouble is None:
                self._done(step)
            else:
                self._fail([step], trouble)

    def _file(self, step: DbStep, row: AccountRow) -> Report | None:
        """One file, in a thread of the pool. Returns what went wrong."""
        change = _change(step)
        owner = FileOwner(row.kind, account_name(row.kind, row.name), row.uid, row.user)
        try:
            match change.act:
                case Act.PUBLISH:
                    self.writer.publish(owner, self.vault.password(change.user, change.generation))
                case Act.REPLACE:
                    self.writer.replace(owner, self.vault.password(change.user, change.generation))
                case Act.PROTECT:
                    answer = self.facts.files[change.user]
                    assert isinstance(answer, Fact) and answer.value.verifier is not None
                    self.writer.protect(owner, answer.value.verifier)
                case _:
                    self.writer.withdraw(owner)
        except StepFailed as failure:
            return failure.report
        return None


def _change(step: DbStep) -> Change:
    assert step.after is not None
    return step.after


def _event(step: DbStep) -> Event:
    change = _change(step)
    detail: dict[str, object] = {"why": step.why, "generation": change.generation}
    for name in ("name", "uid", "uuid"):
        if value := getattr(change, name):
            detail[name] = value
    if change.cause is not None:
        detail["cause"] = change.cause.value
    return Event(change.act.value, str(change.user), detail=detail)


def _debt(before: Debt | None, report: Report | None, at: datetime) -> Debt:
    error = report.message() if report else ""
    if before is None:
        return Debt(error, 1 if error else 0, at)
    return Debt(error, before.tries + (1 if error else 0), before.since or at)


def _head(queue: deque[DbStep], stage: Stage, until: frozenset[Act]) -> list[DbStep]:
    """Takes the steps of this stage from the front, but those that are to wait."""
    taken: list[DbStep] = []
    later: list[DbStep] = []
    while queue and _change(queue[0]).stage is stage:
        step = queue.popleft()
        (later if _change(step).act in until else taken).append(step)
    queue.extendleft(reversed(later))
    return taken


def _chunks(steps: Sequence[DbStep], size: int) -> Iterator[dict[DbUser, deque[DbStep]]]:
    """The steps of so many accounts at a time."""
    chunk: dict[DbUser, deque[DbStep]] = {}
    for step in steps:
        user = _change(step).user
        if user not in chunk and len(chunk) >= size:
            yield chunk
            chunk = {}
        chunk.setdefault(user, deque()).append(step)
    if chunk:
        yield chunk
