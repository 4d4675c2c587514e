"""Moving one node: look, take the next step that is not met, see that it is met, until nothing is left.

A run can be ended at any point, also by a power cut. The next one looks at what is there and goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from labstore.failover.plan import MovePlan, MoveStep
from labstore.failover.steps import KINDS, Kind, Met, key, met, title, value
from labstore.model.drbd import ResourceName
from labstore.model.failover import Pair
from labstore.ports.clock import Clock
from labstore.ports.storage_node import EVERYTHING, Aspect, Entry, Event, NodeFacts, Order, RunsFound, Said, StorageNode
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
    _expected: Mapping[str, float] | None = field(default=None, init=False)
    _unwritten: list[Entry] = field(default_factory=list, init=False)
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
        self._expected = self.node.expected()
        return facts

    def move(self, verb: str, decide: Decide, facts: NodeFacts | None = None) -> Moved:
        """Carry out what `decide` plans, step by step. What goes wrong in the world is in the result."""
        began = self.clock.monotonic()
        self._facts = facts or self.look()
        if not self._said_verb:
            self._verb = verb
        expected = self._expected or {}
        stepwise = Stepwise(
            plan=lambda: decide(self._known),
            act=lambda step: self._act(step, expected.get(step.key)),
        )
        results, left = stepwise.run()
        moved = Moved(results, left, self._known, data=dict(self._data), seconds=self.clock.monotonic() - began)
        if moved.done and (self._said_verb or value(self._known.runs, RunsFound()).unfinished):
            self._write(Event.END, data={"seconds": f"{moved.seconds:.2f}"})
        self._flush()
        return replace(moved, said=tuple(self._said))

    def give_up(self) -> None:
        """What an earlier run began on the node is not gone on with. Raises StepFailed."""
        self._write(Event.END)
        self.node.note(*self._written())

    def begin(self, verb: str, facts: NodeFacts, order: Order | None = None) -> NodeFacts:
        """Leave word of the run on the node before its steps, and carry out one order beforehand; returns the facts as
        they are then. Raises StepFailed."""
        self._facts, self._verb = facts, verb
        self._say_verb()
        if order is not None and met(order, facts, self.pair) is not Met.YES:
            step: MoveStep = Step(key(order), Verb.CHANGE, None, order, title(order))
            self._act(step, None)
        if self._unwritten:
            self._say(self.node.note(*self._written()))
        return self._known

    @property
    def _known(self) -> NodeFacts:
        assert self._facts is not None
        return self._facts

    def _act(self, step: MoveStep, expected: float | None) -> None:
        order = step.after
        assert order is not None
        kind, name = KINDS[order.do], str(self.node.name)
        self._say_verb()
        self._write(Event.STEP, step.key, _proof(order))
        self.tell(Progress(name, step.key, title(order), Moment.BEGIN, expected=expected))
        began = self.clock.monotonic()
        try:
            taken = self.node.take(self._written(), order, kind.aspects)
            self._say(taken.said.reports)
            self._data |= taken.said.data
            self._await(order, kind, taken.facts)
        except StepFailed as failure:
            seconds = self.clock.monotonic() - began
            self._write(Event.FAILED, step.key, {"reason": failure.report.message()})
            self._flush()
            self.tell(Progress(name, step.key, title(order), Moment.FAILED, seconds, expected))
            raise
        seconds = self.clock.monotonic() - began
        self._write(Event.DONE, step.key, {"seconds": f"{seconds:.3f}", **taken.said.data})
        self.tell(Progress(name, step.key, title(order), Moment.DONE, seconds, expected, taken.said))

    def _await(self, order: Order, kind: Kind, seen: NodeFacts) -> None:
        """Look until the step is met. Raises StepFailed when its time is over."""
        ends = self.clock.monotonic() + kind.deadline(self.pair)
        while True:
            self._facts = merged(self._known, seen, kind.aspects)
            state = met(order, self._known, self.pair)
            if state is Met.YES:
                return
            if self.clock.monotonic() >= ends:
                reason = (
                    "it was done, and is not seen to be so" if state is Met.NO else "it cannot be seen whether it is"
                )
                raise StepFailed(StepNotDone(str(self.node.name), title(order), reason))
            self.clock.sleep(LOOK_AGAIN)
            seen = self.node.look(kind.aspects)

    # --- the journal ------------------------------------------------------------------------------------------------

    def _say_verb(self) -> None:
        """Once a run, before its first step."""
        if self._verb:
            self._write(Event.RUN, data={"verb": self._verb})
            self._verb, self._said_verb = "", True

    def _write(self, event: Event, step: str = "", data: dict[str, str] | None = None) -> None:
        """A line for the node's journal. It goes along with the next step, so that it is not waited for by itself: a
        run that is killed before that leaves a journal that ends with the step's beginning."""
        at = self.clock.now().isoformat(timespec="milliseconds")
        self._unwritten.append(Entry(at, self.run, event, step, data or {}))

    def _written(self) -> tuple[Entry, ...]:
        entries, self._unwritten = tuple(self._unwritten), []
        return entries

    def _flush(self) -> None:
        """Write what is left. A node that cannot be reached for it any more is told of."""
        if self._unwritten:
            try:
                self._say(self.node.note(*self._written()))
            except StepFailed as failure:
                self._say((failure.report,))

    def _say(self, reports: tuple[Report, ...]) -> None:
        self._said += [report for report in dict.fromkeys(reports) if report not in self._said]


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
