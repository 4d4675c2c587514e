"""One cycle: look, plan, guard, apply, record. The daemon, the commands and the old name all run this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.exports.apply import Applied, Applier, step_words
from labstore.exports.desired import Desired, desired, restored
from labstore.exports.facts import ExportFacts
from labstore.exports.guards import guard
from labstore.exports.history import Pin
from labstore.exports.observe import Observer, figures, projects_in
from labstore.exports.plan import ExportPlan, after, plan_exports
from labstore.model.exports import ExportTable
from labstore.model.site import Site
from labstore.ports.export_server import PartlyServed, Served
from labstore.ports.inventory import Snapshot
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.record import Outcome, Record, Result, State, state_of
from labstore.reports.exports import ManyMissed, NotServed, Pinned
from labstore.reports.report import Override, Report, Severity

RETRY_CEILING = 30.0
"""Seconds at most between two tries at a complete listing while parts of the inventory are Missing."""
NO_OVERRIDES: frozenset[Override] = frozenset()


@dataclass(frozen=True)
class AsPinned:
    """A question: what would be done if this were pinned (None: if nothing were)?"""

    pin: Pin | None


@dataclass(frozen=True)
class Proposal:
    """A plan with the facts and the goal it was made from."""

    facts: ExportFacts
    goal: Desired
    plan: ExportPlan
    said: tuple[Report, ...] = ()


@dataclass
class ExportCycle:
    """The reconciler of one cluster's exports on one node.

    `site` gives the site as it is now (re-read when its files change), `concerns` what is to be said about its files;
    `who` goes into the history.
    """

    site: Callable[[], Site]
    observer: Observer
    who: str
    server_name: str = "the NFS server"
    concerns: Callable[[], tuple[Report, ...]] = tuple
    number: int = 0
    _snapshot: Snapshot | None = field(default=None, init=False)
    _listed_at: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)
    _listing: dict[str, object] = field(default_factory=dict, init=False)

    def serve_first(self) -> Applied:
        """Before anything outside is asked: finish or forget what a killed run left, and see that what was last known
        good is served (DESIGN law 3). Raises StepFailed, sqlite3.Error."""
        served = self.observer.served()
        if isinstance(served, Missing):
            return Applied()
        found, history = served.value, self.observer.history
        history.settle(found.generation)
        newest = history.newest()
        if newest is not None and found.generation is None and not len(found.stored):
            return self._serve(history.table(newest).table, newest)
        if found.drift:
            return self._serve(found.stored, found.generation or 0)
        return Applied(generation=found.generation)

    def run(
        self, why: str = "cycle", full: bool = False, overrides: frozenset[Override] = NO_OVERRIDES, who: str = ""
    ) -> Record:
        """One whole cycle. What goes wrong in the world is in the record; only defects are raised."""
        self.number += 1
        started = self.observer.clock.now()
        active, served = self.observer.role(), self.observer.served()
        if isinstance(active, Fact) and not active.value and Override.ALLOW_STANDBY not in overrides:
            return self._standby(started, served)
        if isinstance(served, Missing):
            return self._record(started, State.FAILED, reports=(served.report,))
        return self._carry_out(started, self._propose(served.value, active, full, overrides), why, who)

    def propose(
        self, full: bool = True, overrides: frozenset[Override] = NO_OVERRIDES, supposing: AsPinned | None = None
    ) -> Answer[Proposal]:
        """What `run` would do, by the same code (upstream #16). Changes nothing."""
        served = self.observer.served()
        if isinstance(served, Missing):
            return served
        proposal = self._propose(served.value, self.observer.role(), full, overrides, supposing)
        return Fact(proposal, proposal.facts.snapshot.source, proposal.facts.at)

    def carry_out(self, proposal: Proposal, why: str, who: str = "") -> Record:
        """Do what was proposed and shown, and nothing else. The caller holds the lock since before it was proposed."""
        self.number += 1
        return self._carry_out(self.observer.clock.now(), proposal, why, who)

    # --- the parts --------------------------------------------------------------------------------------------------

    def _serve(self, table: ExportTable, generation: int) -> Applied:
        try:
            return Applied(generation=generation, calls=self.observer.server.apply(table, generation))
        except PartlyServed as partly:
            wrong = Result(str(partly.paths[0]), Outcome.FAILED, partly.report)
            return Applied((wrong,), generation, partly.calls)

    def _carry_out(self, started: datetime, proposal: Proposal, why: str, who: str) -> Record:
        applier = Applier(self.observer.server, self.observer.history, self.observer.clock)
        applied = applier.carry_out(proposal.facts, proposal.goal, proposal.plan, who or self.who, why)
        self.observer.history.keep_doubts(proposal.goal.doubts)
        self.observer.history.unpin(started)
        return self._finish(started, proposal, applied)

    def _propose(
        self,
        served: Served,
        active: Answer[bool],
        full: bool,
        overrides: frozenset[Override],
        supposing: AsPinned | None = None,
    ) -> Proposal:
        site = self.site()
        pin = supposing.pin if supposing else self.observer.history.pin()
        if pin is not None and pin.until <= self.observer.clock.now():
            pin = None
        pinned = self.observer.history.table(pin.generation) if pin else None
        ask_all = Override.ALLOW_MASS_REMOVAL in overrides
        facts = self.observer.facts(site, self._look(site, full), served, active, pinned, ask_all)
        goal, said = self._goal(facts, pin)
        return Proposal(facts, goal, guard(facts, goal, plan_exports(facts, goal), overrides), said)

    def _goal(self, facts: ExportFacts, pin: Pin | None) -> tuple[Desired, tuple[Report, ...]]:
        """What the inventory asks for, or the generation that a person pinned."""
        if pin is None:
            return desired(facts), ()
        said = Pinned(pin.generation, pin.until.isoformat(timespec="seconds"), pin.who, pin.why)
        return restored(facts, pin.generation, self.observer.history.table(pin.generation)), (said,)

    def _look(self, site: Site, full: bool) -> Snapshot:
        """A complete listing when it is due, else only what changed since the last look."""
        now = self.observer.clock.monotonic()
        if full or self._snapshot is None or now - self._listed_at >= self._listing_due(site):
            self._snapshot = self.observer.inventory.listing()
            self._listed_at = now
            self._note_listing(self._snapshot, now)
        else:
            self._snapshot = self.observer.inventory.changes(self._snapshot)
        self._failures = self._failures + 1 if self._snapshot.missing() else 0
        return self._snapshot

    def _note_listing(self, snapshot: Snapshot, since: float) -> None:
        self._listing["listing_seconds"] = round(self.observer.clock.monotonic() - since, 3)
        if not snapshot.missing():
            self._listing["complete"] = snapshot.at.isoformat(timespec="seconds")

    def _listing_due(self, site: Site) -> float:
        """Seconds between complete listings: sooner, with back-off, while something is Missing or in doubt."""
        if self._failures:
            return min(site.exports.poll * float(1 << min(self._failures, 10)), RETRY_CEILING, site.exports.listing)
        if self.observer.history.doubts():
            return min(site.exports.poll, site.exports.listing)
        return site.exports.listing

    def _finish(self, started: datetime, proposal: Proposal, applied: Applied) -> Record:
        facts, plan = proposal.facts, proposal.plan
        missing, notes = facts.snapshot.missing(), facts.snapshot.notes()
        said = [*proposal.said, *(answer.report for answer in missing), *notes, *plan.reports]
        said += [ManyMissed(facts.unasked)] if facts.unasked else []
        said += [] if facts.served.running else [NotServed(self.server_name)]
        said += [refusal.report for refusal in plan.refusals]
        said += [result.report for result in applied.results if result.report]
        state = state_of(plan, applied.results, plan.reports, bool(missing or notes))
        served = _served_after(facts, plan, applied)
        numbers = {
            **figures(facts),
            **self._listing,
            "generation": applied.generation,
            "calls": applied.calls,
            "served_exports": len(served),
            "served_clients": served.clients,
            "served_projects": projects_in(served),
            "held_clients": sum(len(wanted.held) for wanted in proposal.goal.exports.values()),
        }
        return self._record(started, state, plan, applied, tuple(said), numbers)

    def _standby(self, started: datetime, served: Answer[Served]) -> Record:
        numbers: dict[str, object] = {"active": False}
        if isinstance(served, Fact):
            numbers["served_exports"] = len(served.value.stored)
            numbers["served_clients"] = served.value.stored.clients
        return self._record(started, State.STANDBY, numbers=numbers)

    def _record(
        self,
        started: datetime,
        state: State,
        plan: ExportPlan | None = None,
        applied: Applied | None = None,
        reports: tuple[Report, ...] = (),
        numbers: Mapping[str, object] | None = None,
    ) -> Record:
        concerns = self.concerns()
        if any(report.severity is Severity.ERROR for report in concerns):
            state = State.FAILED
        return Record(
            room="exports",
            number=self.number,
            started=started,
            ended=self.observer.clock.now(),
            state=state,
            facts={"cluster": str(self.observer.cluster.name), **(numbers or {})},
            steps=tuple(step_words(step) for step in plan.steps) if plan else (),
            untouched=plan.untouched if plan else {},
            results=(applied.results if applied else ()) + (_refused(plan) if plan else ()),
            reports=tuple(dict.fromkeys((*concerns, *reports))),
        )


def _served_after(facts: ExportFacts, plan: ExportPlan, applied: Applied) -> ExportTable:
    done = {result.key for result in applied.results if result.outcome is Outcome.DONE}
    return after(facts.served.stored, [step for step in plan.steps if step.key in done])


def _refused(plan: ExportPlan) -> tuple[Result, ...]:
    return tuple(Result(key, Outcome.REFUSED, refusal.report) for refusal in plan.refusals for key in refusal.keys)
