"""Look, plan, do, look again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labstore.binds.apply import Hands
from labstore.binds.facts import BindFacts
from labstore.binds.guards import guard_binds
from labstore.binds.observe import Observer
from labstore.binds.plan import BindPlan, BindStep, plan_binds
from labstore.model.site import Cluster, Site
from labstore.reconcile.record import Outcome, Result, State, state_of
from labstore.reconcile.runner import NotConverging, run_keyed
from labstore.reports.report import Override, Report


@dataclass(frozen=True)
class Proposal:
    facts: BindFacts
    plan: BindPlan


@dataclass(frozen=True)
class Done:
    """What became of each step, and what is left to do or in doubt."""

    results: tuple[Result, ...]
    after: Proposal

    @property
    def reports(self) -> tuple[Report, ...]:
        failed = [result.report for result in self.results if result.report is not None]
        refused = [refusal.report for refusal in self.after.plan.refusals]
        return tuple(dict.fromkeys((*failed, *refused, *self.after.plan.reports)))

    @property
    def state(self) -> State:
        return state_of(self.after.plan, self.results, (), missing=False)


@dataclass(frozen=True)
class BindCycle:
    """One cluster's directories and export tree on this node. `directories` False: the mounts alone."""

    site: Site
    cluster: Cluster
    observer: Observer
    hands: Hands
    directories: bool = True

    def propose(self, overrides: frozenset[Override] = frozenset()) -> Proposal:
        """Changes nothing; never raises for what could not be looked at."""
        facts = self.observer.look(self.site, self.cluster, self.directories)
        return Proposal(facts, guard_binds(facts, plan_binds(facts), overrides))

    def carry_out(
        self,
        proposal: Proposal,
        overrides: frozenset[Override] = frozenset(),
        tell: Callable[[BindStep], None] = lambda _step: None,
    ) -> Done:
        """Every step once; then look whether it came to be. `tell` is called before each."""

        def act(step: BindStep) -> None:
            tell(step)
            self.hands.act(step)

        results = run_keyed(proposal.plan.steps, act)
        after = self.propose(overrides)
        left = {(step.key, step.verb) for step in after.plan.steps}
        done = {step.key: step.verb for step in proposal.plan.steps}
        seen = tuple(
            Result(result.key, Outcome.FAILED, NotConverging(result.key))
            if result.outcome is Outcome.DONE and (result.key, done[result.key]) in left
            else result
            for result in results
        )
        return Done(seen, after)
