"""Moving one node: look, take the next step that is not met, see that it is met, until nothing is left.

A run can be ended at any point, also by a power cut. The next one looks at what is there and goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from labstore.failover.plan import MovePlan, MoveStep
from labstore.failover.steps import KINDS, Met, key, met, title
from labstore.model.drbd import ResourceName
from labstore.model.failover import Pair
from labstore.ports.clock import Clock
from labstore.ports.storage_node import EVERYTHING, Aspect, Entry, Event, NodeFacts, Order, Said, StorageNode
from labstore.reconcile.facts import Fact
from labstore.reconcile.plan import Step, Verb
from labstore.reconcile.record import Outcome, Result
from labstore.reconcile.runner import StepFailed, Stepwise
from labstore.reports.failover import StepNotDone
from labstore.reports.report import Report

LOOK_AGAIN = 0.1
"""Seconds between two looks at whether a step has brought what it should."""

Decide = Callable[[NodeFacts], MovePlan]
"""From fresh facts about the node to a guarded plan."""


class Moment(StrEnum):
    BEGIN = "begin"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """A step began or ended. `expected` is how long it usually takes here."""

    node: str
    step: str
    title: str
    moment: Moment
    seconds: float = 0.0
    expected: float | None = None
    said: Said | None = None


@dataclass(frozen=True)
class Moved:
    """How a run on one node ended: what became of each step, what is left, what was said, and the last facts."""

    results: tuple[Result, ...]
    left: MovePlan
    facts: NodeFacts
    said: tuple[Report, ...] = ()
    data: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do and nothing failed."""
        failed = any(result.outcome is not Outcome.DONE for result in self.results)
        return not failed and self.left.empty and not self.left.refusals


def new_run() -> str:
    return secrets.token_hex(6)


@dataclass
class Mover:
    """Runs plans on `node`. `tell` is called as steps begin and end."""

    pair: Pair
    node: StorageNode
    clock: Clock
    run: str
    tell: Callable[[Progress], None] = lambda _progress: None
    _facts: NodeFacts | None = field(default=None, init=False)
    _verb: str = field(default="", init=False)
    _said_verb: bool = field(default=False, init=False)
    _said: list[Report] = field(default_factory=list, init=False)
    _data: dict[str, str] = field(default_factory=dict, init=False)

    def look(self) -> NodeFacts:
        """Everything about the node, data generations too where it does not see its partner. Raises StepFailed where
        the node cannot be reached."""
        facts = self.node.look(EVERYTHING)
        if not sees_partner(facts, self.pair):
            facts = merged(facts, self.node.look(frozenset({Aspect.GENERATIONS})), {Aspect.GENERATIONS})
        self._facts = facts
        return facts

    def move(self, verb: str, decide: Decide, facts: NodeFacts | None = None) -> Moved:
        """Carry out what `decide` plans, step by step. What goes wrong in the world is in the result."""
        began = self.clock.monotonic()
        self._facts = facts or self.look()
        if not self._said_verb:
            self._verb = verb
        expected = self.node.expected()
        stepwise = Stepwise(
            plan=lambda: decide(self._known),
            act=lambda step: self._act(step, expected.get(step.key)),
        )
        results, left = stepwise.run()
        moved = Moved(results, left, self._known, tuple(self._said), dict(self._data), self.clock.monotonic() - began)
        if moved.done and self._said_verb:
            self._note(Event.END, data={"seconds": f"{moved.seconds:.2f}"})
        return moved

    def do(self, verb: str, order: Order, facts: NodeFacts) -> NodeFacts:
        """Carry out one order beforehand; returns the facts as they are then. Raises StepFailed."""
        self._facts, self._verb = facts, verb
        step: MoveStep = Step(key(order), Verb.CHANGE, None, order, title(order))
        if met(order, facts, self.pair) is not Met.YES:
            self._act(step, None)
        return self._known

    @property
    def _known(self) -> NodeFacts:
        assert self._facts is not None
        return self._facts

    def _act(self, step: MoveStep, expected: float | None) -> None:
        order = step.after
        assert order is not None
        name = str(self.node.name)
        if self._verb:
            self._note(Event.RUN, data={"verb": self._verb})
            self._verb, self._said_verb = "", True
        self._note(Event.STEP, step.key, _proof(order))
        self.tell(Progress(name, step.key, title(order), Moment.BEGIN, expected=expected))
        began = self.clock.monotonic()
        try:
            said = self.node.act(order)
            self._said += said.reports
            self._data |= said.data
            self._await(step)
        except StepFailed as failure:
            seconds = self.clock.monotonic() - began
            self._note(Event.FAILED, step.key, {"reason": failure.report.message()})
            self.tell(Progress(name, step.key, title(order), Moment.FAILED, seconds, expected))
            raise
        seconds = self.clock.monotonic() - began
        self._note(Event.DONE, step.key, {"seconds": f"{seconds:.3f}", **said.data})
        self.tell(Progress(name, step.key, title(order), Moment.DONE, seconds, expected, said))

    def _await(self, step: MoveStep) -> None:
        """Look until the step is met. Raises StepFailed when its time is over."""
        order = step.after
        assert order is not None
        kind = KINDS[order.do]
        ends = self.clock.monotonic() + kind.deadline(self.pair)
        while True:
            self._facts = merged(self._known, self.node.look(kind.aspects), kind.aspects)
            state = met(order, self._known, self.pair)
            if state is Met.YES:
                return
            if self.clock.monotonic() >= ends:
                reason = (
                    "it was done, and is not seen to be so" if state is Met.NO else "it cannot be seen whether it is"
                )
                raise StepFailed(StepNotDone(str(self.node.name), title(order), reason))
            self.clock.sleep(LOOK_AGAIN)

    def _note(self, event: Event, step: str = "", data: dict[str, str] | None = None) -> None:
        entry = Entry(self.clock.now().isoformat(timespec="milliseconds"), self.run, event, step, data or {})
        for report in self.node.note(entry):
            if report not in self._said:
                self._said.append(report)


def _proof(order: Order) -> dict[str, str]:
    """On whose word a partner is taken for dead, for the journal."""
    proof = order.proof
    return {} if proof is None else {"partner is off": f"{proof.node}: {proof.how}, {proof.who}, {proof.at}"}


def merged(facts: NodeFacts, newer: NodeFacts, aspects: frozenset[Aspect] | set[Aspect]) -> NodeFacts:
    """The facts with these aspects as they were seen later."""
    changed = {aspect.value: newer.answer(aspect) for aspect in aspects}
    return replace(facts, at=newer.at, **changed)  # type: ignore[arg-type]


def sees_partner(facts: NodeFacts, pair: Pair) -> bool:
    """Whether DRBD connects every resource of the node."""
    if not isinstance(facts.replication, Fact):
        return False
    found = facts.replication.value
    names = [ResourceName(resource.name) for resource in pair.settings.replication.resources]
    return all(name in found and found[name].connected for name in names)
