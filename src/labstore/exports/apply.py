"""Carrying out a plan of exports: one generation, one call on the server, read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labstore.exports.desired import Desired
from labstore.exports.facts import ExportFacts
from labstore.exports.history import History
from labstore.exports.observe import figures
from labstore.exports.plan import ExportPlan, ExportStep, after, granted_after, path_of
from labstore.formats.exports5 import option_text
from labstore.model.address import Client
from labstore.model.names import ExportPath
from labstore.ports.clock import Clock
from labstore.ports.export_server import ExportServer, PartlyServed
from labstore.reconcile.record import Outcome, Result
from labstore.reconcile.runner import StepFailed


@dataclass(frozen=True)
class Applied:
    """What carrying out came to: a result per step, the generation that is now stored, calls on the server."""

    results: tuple[Result, ...] = ()
    generation: int | None = None
    calls: int = 0


@dataclass(frozen=True)
class Applier:
    server: ExportServer
    history: History
    clock: Clock

    def carry_out(self, facts: ExportFacts, goal: Desired, plan: ExportPlan, who: str, why: str) -> Applied:
        """Apply all steps as one generation. If the server refuses that, those that revoke on positive proof are
        applied alone: no failed admission may delay them."""
        if not plan.steps:
            return Applied(generation=facts.served.generation)
        try:
            return self._generation(facts, goal, plan.steps, who, why)
        except StepFailed as failure:
            failed = tuple(Result(step.key, Outcome.FAILED, failure.report) for step in plan.steps)
            revoking = tuple(step for step in plan.steps if step.revokes)
            if not revoking or len(revoking) == len(plan.steps):
                return Applied(failed, facts.served.generation)
        try:
            done = self._generation(facts, goal, revoking, who, f"{why} (revocations alone)")
        except StepFailed:
            return Applied(failed, facts.served.generation)
        urgent = {step.key for step in revoking}
        return Applied(
            done.results + tuple(each for each in failed if each.key not in urgent), done.generation, done.calls
        )

    def _generation(
        self, facts: ExportFacts, goal: Desired, steps: tuple[ExportStep, ...], who: str, why: str
    ) -> Applied:
        table = after(facts.served.stored, steps)
        grants = granted_after(facts, goal, table)
        if table == facts.served.stored and facts.served.generation is not None:
            try:
                calls = self.server.apply(table, facts.served.generation)
            except PartlyServed as partly:
                return Applied(_but(steps, partly), facts.served.generation, partly.calls)
            return Applied(_done(steps), facts.served.generation, calls)
        number = self.history.begin(
            grants,
            self.clock.now(),
            who,
            why,
            figures(facts),
            map(step_words, steps),
            _endings(steps),
            above=facts.served.generation or 0,
        )
        try:
            calls = self.server.apply(table, number)
        except PartlyServed as partly:
            self.history.commit(number)
            return Applied(_but(steps, partly), number, partly.calls)
        except StepFailed:
            self.settle()
            raise
        self.history.commit(number)
        return Applied(_done(steps), number, calls)

    def settle(self) -> None:
        """After a failure or a restart: what the server's files carry decides which generation came to be."""
        served = self.server.observe()
        self.history.settle(getattr(getattr(served, "value", None), "generation", None))


def step_words(step: ExportStep) -> Mapping[str, Any]:
    """A step for records, `--json` and the page: what changes, not the whole export."""
    part = step.after or step.before
    return {
        "key": step.key,
        "verb": step.verb.value,
        "owner": str(part.owner) if part else None,
        "path": str(path_of(step)),
        "adds": [str(client) for client in step.after.clients] if step.after else [],
        "removes": {client: proof.value for client, proof in step.removes.items()},
        "options": _options(step),
        "why": step.why,
    }


def _options(step: ExportStep) -> Mapping[str, str] | None:
    """The options before and after, None where the step changes none."""
    if step.before is None or step.after is None or step.before.options == step.after.options:
        return None
    return {"before": option_text(step.before.options), "after": option_text(step.after.options)}


def _done(steps: Iterable[ExportStep]) -> tuple[Result, ...]:
    return tuple(Result(step.key, Outcome.DONE) for step in steps)


def _but(steps: Iterable[ExportStep], partly: PartlyServed) -> tuple[Result, ...]:
    """All done but those of the paths that are not served as wanted; where none of these is among the steps, the first
    of the paths stands for itself."""
    done = tuple(
        Result(step.key, Outcome.FAILED, partly.report)
        if path_of(step) in partly.paths
        else Result(step.key, Outcome.DONE)
        for step in steps
    )
    told = any(result.outcome is Outcome.FAILED for result in done)
    return done if told else (*done, Result(str(partly.paths[0]), Outcome.FAILED, partly.report))


def _endings(steps: Iterable[ExportStep]) -> dict[tuple[ExportPath, Client], str]:
    return {
        (path_of(step), client): step.why
        for step in steps
        if step.removes and step.before
        for client in step.before.clients
    }
