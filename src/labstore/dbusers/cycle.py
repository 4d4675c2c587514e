"""One cycle: lead, look, plan, guard, apply, record. The daemon and all commands run this."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from labstore.dbusers.apply import Applier
from labstore.dbusers.desired import served
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.governor import Governor, noted
from labstore.dbusers.guards import guard
from labstore.dbusers.observe import Observer
from labstore.dbusers.plan import DbPlan, plan_accounts
from labstore.dbusers.requests import finished
from labstore.dbusers.turns import Act, Change
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.ledger import AccountRow, AccountState, Debt, Lease, LedgerView, ListingNote
from labstore.ports.ledger import LedgerFailed, Listed, Note, NotLeader, Places, SchemaUnfit, Write
from labstore.ports.node import Node
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.plan import Plan, Step
from labstore.reconcile.record import Outcome, Record, Result, State, state_of
from labstore.reports.dbusers import LedgerDown, OtherLeader
from labstore.reports.report import Override, Report
from labstore.reports.state import StateUnusable
from labstore.system.locks import Locked

NO_OVERRIDES: frozenset[Override] = frozenset()
SHOWN_STEPS = 200
"""Steps, results and untouched accounts of a cycle that its record names; the figures count all of them."""


@dataclass(frozen=True)
class Proposal:
    """A plan with the facts it was made from."""

    facts: DbFacts
    plan: DbPlan


@dataclass
class DbCycle:
    """The reconciler of database accounts. `node` says whether this machine has the service address; `governor` is
    told what holds, where one works beside. `holder` names this machine to the ledger; of its processes `turn` lets one
    at a time work (it raises Locked for the others), so that one that was killed is followed at once.
    """

    observer: Observer
    node: Node
    holder: str
    number: int = 0
    governor: Governor | None = None
    turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    _prepared: bool = field(default=False, init=False)
    _lease: Lease | None = field(default=None, init=False)
    _seen: dict[str, datetime] = field(default_factory=dict, init=False)

    @property
    def settings(self) -> DbusersSettings:
        return self.observer.settings

    def run(self, overrides: frozenset[Override] = NO_OVERRIDES, only: Plan[Change] | None = None) -> Record:
        """One whole cycle. What goes wrong in the world is in the record; only defects are raised. With `only`, no
        other steps are carried out than that plan's: the plan that was shown is the plan that is applied."""
        self.number += 1
        started = self.observer.clock.now()
        standby = self._standby()
        if standby is not None:
            self._rest()
            return self._record(started, State.STANDBY, reports=standby)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.turn())
            except Locked as other:
                return self._record(started, State.STANDBY, reports=(OtherLeader(other.holder),))
            except OSError as error:
                where = str(self.settings.state_dir)
                return self._record(started, State.FAILED, reports=(StateUnusable(where, str(error)),))
            return self._lead(started, overrides, only)

    def propose(self, overrides: frozenset[Override] = NO_OVERRIDES) -> Proposal:
        """What `run` would do, by the same code. Changes nothing. Raises LedgerFailed."""
        facts = self.observer.facts(overrides)
        return Proposal(facts, guard(facts, plan_accounts(facts), overrides))

    def resign(self) -> None:
        """Let another process lead at once."""
        if self._lease is not None:
            self.observer.ledger.resign(self._lease)
            self._lease = None

    # --- the parts --------------------------------------------------------------------------------------------------

    def _standby(self) -> tuple[Report, ...] | None:
        """None if this machine is to work (upstream's rule: the holder of the service address)."""
        answer = self.node.holds(self.settings.service_addresses)
        if isinstance(answer, Missing):
            return (answer.report,)
        return None if answer.value else ()

    def _rest(self) -> None:
        if self.governor is not None:
            self.governor.rest()

    def _prepare(self) -> None:
        if not self._prepared:
            self.observer.ledger.prepare()
            self._prepared = True

    def _lead(self, started: datetime, overrides: frozenset[Override], only: Plan[Change] | None) -> Record:
        try:
            self._prepare()
            self._lease = self.observer.ledger.lead(self.holder, self.settings.pacing.lease)
            self.observer.ledger.add_hosts(self._lease, [host.key for host in self.settings.hosts])
            proposal = self.propose(overrides)
            if only is not None:
                proposal = replace(proposal, plan=_both(proposal.plan, only))
            return self._carry_out(started, proposal)
        except NotLeader as other:
            self._lease = None
            self._rest()
            return self._record(started, State.STANDBY, reports=(OtherLeader(other.holder),))
        except (LedgerFailed, SchemaUnfit) as error:
            self._prepared = False
            return self._record(started, State.FAILED, reports=(LedgerDown(str(error)),))

    def _carry_out(self, started: datetime, proposal: Proposal) -> Record:
        assert self._lease is not None
        facts, plan, ledger = proposal.facts, proposal.plan, self.observer.ledger
        if self.governor is not None:
            self.governor.govern(facts)
        applier = Applier(
            facts, ledger, self._lease, self.observer.crew, self.observer.writer, self.observer.vault, ledger.now
        )
        results = applier.carry_out(plan.steps)
        self._lease = applier.lease
        after, ended = ledger.read(), self.governor.ended() if self.governor is not None else ()
        notes = map(Note, noted(ended))
        ledger.write(self._lease, [*_listed(facts), *_places(facts, after), *finished(facts, after, facts.at), *notes])
        return self._finish(started, proposal, results, ledger.read(), ended)

    def _finish(
        self,
        started: datetime,
        proposal: Proposal,
        results: tuple[Result, ...],
        ledger: LedgerView,
        ended: tuple[Report, ...],
    ) -> Record:
        facts, plan = proposal.facts, proposal.plan
        missing = facts.missing
        reports = [answer.report for answer in missing] + list(plan.reports)
        reports += [refusal.report for refusal in plan.refusals]
        troubles = [result for result in results if result.outcome is not Outcome.DONE]
        reports += [result.report for result in troubles[:SHOWN_STEPS] if result.report]
        reports += ended[:SHOWN_STEPS]
        state = state_of(plan, results, (), bool(missing))
        figures = _figures(facts, plan, results, ledger, self._last_seen(facts))
        refused = [Result(each.keys[0], Outcome.REFUSED, each.report) for each in plan.refusals if each.keys]
        every = (*refused, *troubles, *_successes(results))
        return self._record(started, state, plan, every, tuple(reports), figures)

    def _last_seen(self, facts: DbFacts) -> dict[str, datetime]:
        self._seen |= {str(key): answer.at for key, answer in facts.hosts.items() if isinstance(answer, Fact)}
        return self._seen

    def _record(
        self,
        started: datetime,
        state: State,
        plan: DbPlan | None = None,
        results: tuple[Result, ...] = (),
        reports: tuple[Report, ...] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> Record:
        untouched = dict(list(plan.untouched.items())[:SHOWN_STEPS]) if plan else {}
        return Record(
            room="dbusers",
            number=self.number,
            started=started,
            ended=self.observer.clock.now(),
            state=state,
            facts=dict(figures or {}),
            steps=tuple(step_words(step) for step in plan.steps[:SHOWN_STEPS]) if plan else (),
            untouched=untouched,
            results=results[:SHOWN_STEPS],
            reports=tuple(dict.fromkeys(reports)),
        )


def step_words(step: Step[Change]) -> Mapping[str, Any]:
    """A step for records, `--json` and the page."""
    change = step.after
    assert change is not None
    return {
        "key": step.key,
        "verb": step.verb.value,
        "account": str(change.user),
        "act": change.act.value,
        "host": change.host,
        "generation": change.generation,
        "removes": {account: proof.value for account, proof in step.removes.items()},
        "why": step.why,
    }


def _both(plan: DbPlan, only: Plan[Change]) -> DbPlan:
    """The steps that are in both plans, as long as all before them of the same account are."""
    shown = {step.key for step in only.steps}
    broken: set[str] = set()
    kept: list[Step[Change]] = []
    for step in plan.steps:
        assert step.after is not None
        user = str(step.after.user)
        if step.key in shown and user not in broken:
            kept.append(step)
        else:
            broken.add(user)
    return replace(plan, steps=tuple(kept))


def _listed(facts: DbFacts) -> Iterator[Write]:
    """Notes of complete listings whose count is another than the last one's."""
    for kind, answer in facts.listings.items():
        if isinstance(answer, Fact):
            count = len(answer.value.entries) + len(answer.value.rejected)
            known = facts.ledger.listings.get(kind)
            if known is None or known.count != count:
                yield Listed(ListingNote(kind, answer.at, count))


def _places(facts: DbFacts, ledger: LedgerView) -> Iterator[Write]:
    """Accounts that a server has although the tables say that it lacks them (upstream #52), or that it shall not have:
    the original wrote those down as present too."""
    for key, answer in facts.hosts.items():
        if isinstance(answer, Fact):
            found, host = answer.value.accounts, facts.settings.host(key)
            there = tuple(user for user in ledger.debts.get(key, ()) if user in found or not served(user, host))
            if there:
                yield Places(key, there)


def _successes(results: tuple[Result, ...]) -> tuple[Result, ...]:
    return tuple(result for result in results if result.outcome is Outcome.DONE)


def _figures(
    facts: DbFacts, plan: DbPlan, results: tuple[Result, ...], ledger: LedgerView, seen: Mapping[str, datetime]
) -> dict[str, Any]:
    """What was looked at and done, in numbers: no account is named."""
    accounts = Counter(
        f"{row.kind.value} {'suspended' if row.suspended else row.state.value}" for row in ledger.accounts.values()
    )
    done = {result.key for result in results if result.outcome is Outcome.DONE}
    acts: Counter[str] = Counter()
    created: Counter[str] = Counter()
    for step in plan.steps:
        change = step.after
        assert change is not None
        outcome = "done" if step.key in done else "errored"
        acts[f"{change.act.value} {change.user.kind.value} {outcome}"] += 1
        if change.act in (Act.CREATE, Act.DROP):
            created[f"{change.host} {change.user.kind.value} {change.act.value} {outcome}"] += 1
    hosts = {
        str(host.key): {
            "answers": isinstance(facts.hosts.get(host.key), Fact),
            "present": ledger.present.get(host.key, 0),
            "absent": len(ledger.debts.get(host.key, ())),
            "last_seen": seen[str(host.key)].isoformat() if str(host.key) in seen else None,
            "looked": answer.value.looked if isinstance(answer := facts.hosts.get(host.key), Fact) else None,
        }
        for host in facts.settings.hosts
    }
    return {
        "accounts": dict(accounts),
        "tombstones": len(ledger.tombstones),
        "acts": dict(acts),
        "created": dict(created),
        "hosts": hosts,
        "listed": {
            kind.value: len(answer.value.entries) if isinstance(answer, Fact) else None
            for kind, answer in facts.listings.items()
        },
        "unconverged": _unconverged(ledger),
        "oldest_unconverged": _oldest(ledger, facts.at),
        "refused": len({key for refusal in plan.refusals for key in refusal.keys}),
        "untouched": len(plan.untouched),
        "steps": len(plan.steps),
        "failed": len(results) - len(done),
    }


def _unconverged(ledger: LedgerView) -> int:
    """Accounts on their way, and places where one is owed."""
    going = sum(row.state in _GOING for row in ledger.accounts.values())
    return going + len(_owed(ledger))


def _oldest(ledger: LedgerView, at: datetime) -> float:
    """Seconds for which the oldest of them has been so."""
    since = [
        row.password_at
        for row in ledger.accounts.values()
        if row.state in _GOING and row.state is not AccountState.DROPPING and not row.suspended
    ]
    since += [debt.since or row.password_at for row, debt in _owed(ledger)]
    # what was found out while the cycle ran is younger than its facts
    return max((max((at - moment).total_seconds(), 0.0) for moment in since if moment is not None), default=0.0)


_GOING = frozenset({AccountState.ISSUING, AccountState.ROTATING, AccountState.DROPPING})
"""An open window of a rotation is not waited for."""


def _owed(ledger: LedgerView) -> list[tuple[AccountRow, Debt]]:
    """What servers lack of accounts that shall work there; a suspended one is owed to nobody."""
    rows = ledger.accounts
    every = ((rows[user], debt) for owed in ledger.debts.values() for user, debt in owed.items() if user in rows)
    return [(row, debt) for row, debt in every if not row.suspended]
