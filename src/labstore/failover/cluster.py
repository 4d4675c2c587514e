"""What an operator asks for: up, down, switchover, abort; each looks at both nodes, decides, and moves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from labstore.failover.facts import Situation
from labstore.failover.guards import NO_OVERRIDES, guard_down, guard_switchover, guard_up
from labstore.failover.mover import Decide, Moved, Mover, Progress, merged, new_run, sees_partner
from labstore.failover.plan import MovePlan, plan_down, plan_up
from labstore.failover.states import SWITCHOVER, Named, NodeState, PairView, name_state, node_state
from labstore.failover.steps import value
from labstore.model.failover import Pair, Proof
from labstore.model.names import HostName
from labstore.ports.clock import Clock
from labstore.ports.storage_node import EVERYTHING, Aspect, Do, NodeFacts, Order, RunsFound, StorageNode
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Plan
from labstore.reconcile.record import Outcome, Result
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import NotDecided, PartnerServes
from labstore.reports.report import Override, Report
from labstore.reports.sources import SourceFailed
from labstore.system.locks import Locked


@dataclass(frozen=True)
class Wish:
    """What a person allows for one run."""

    overrides: frozenset[Override] = NO_OVERRIDES
    proof: Proof | None = None

    @property
    def evict(self) -> bool:
        return Override.EVICT in self.overrides

    @property
    def force(self) -> bool:
        return Override.ACCEPT_DATA_LOSS in self.overrides


@dataclass(frozen=True)
class Part:
    """What is to be done on one node."""

    node: str
    plan: MovePlan


@dataclass(frozen=True)
class Proposal:
    """What a run would do on each node, in order, or why it would not."""

    verb: str
    parts: tuple[Part, ...]

    @property
    def refusals(self) -> tuple[Report, ...]:
        return tuple(dict.fromkeys(r.report for part in self.parts for r in part.plan.refusals))


@dataclass(frozen=True)
class Run:
    """How a run ended: its parts in order; those that were not begun are not there."""

    verb: str
    moves: tuple[tuple[str, Moved], ...] = ()
    refused: tuple[Report, ...] = ()

    @property
    def done(self) -> bool:
        return not self.refused and bool(self.moves) and all(moved.done for _, moved in self.moves)

    @property
    def reports(self) -> tuple[Report, ...]:
        found = [*self.refused]
        for _, moved in self.moves:
            found += [result.report for result in moved.results if result.report is not None]
            found += [refusal.report for refusal in moved.left.refusals]
            found += moved.said
        return tuple(dict.fromkeys(found))

    @property
    def seconds(self) -> float:
        return sum(moved.seconds for _, moved in self.moves)


@dataclass
class PairMover:
    """Moves a pair. `own` is the node that is meant (mostly this one), `partner` the other; each may be behind ssh."""

    pair: Pair
    own: StorageNode
    partner: StorageNode
    clock: Clock
    tell: Callable[[Progress], None] = lambda _progress: None
    run: str = field(default_factory=new_run)

    # --- looking ----------------------------------------------------------------------------------------------------

    def view(self) -> PairView:
        """Both nodes, in the order of the site file; one that cannot be reached is Missing."""
        answers = {str(node.name): self._asked(node) for node in (self.own, self.partner)}
        return PairView(self.pair, tuple((str(n.name), answers[str(n.name)]) for n in self.pair.cluster.nodes))

    def named(self) -> Named:
        return name_state(self.view())

    def _asked(self, node: StorageNode) -> Answer[NodeFacts]:
        try:
            facts = node.look(EVERYTHING)
            if not sees_partner(facts, self.pair):
                facts = merged(facts, node.look(frozenset({Aspect.GENERATIONS})), {Aspect.GENERATIONS})
        except StepFailed as failure:
            return Missing(failure.report, str(node.name), self.clock.now())
        return Fact(facts, str(node.name), facts.at)

    # --- down -------------------------------------------------------------------------------------------------------

    def propose_down(self, wish: Wish = Wish()) -> Proposal:
        """What `down` would do. Changes nothing. Raises StepFailed where this node cannot be looked at."""
        facts = self._mover(self.own).look()
        return Proposal("down", (Part(str(self.own.name), self._down(self.own, wish)(facts)),))

    def down(self, wish: Wish = Wish()) -> Run:
        """Take this node out of service. Raises StepFailed, Locked before anything was begun."""
        with self._held("down", self.own):
            return self._moved("down", self.own, self._down(self.own, wish))

    def _down(self, node: StorageNode, wish: Wish) -> Decide:
        """Who holds the volumes is found once, before clients are cut off."""
        holders = () if wish.evict else node.holders()
        pair, unasked = self._seen_by(node), _unasked(self.clock.now())

        def decide(facts: NodeFacts) -> MovePlan:
            now = Situation(pair, facts, unasked, holders=holders, evict=wish.evict, run=self.run)
            return guard_down(now, plan_down(now), wish.overrides)

        return decide

    # --- up ---------------------------------------------------------------------------------------------------------

    def propose_up(self, wish: Wish = Wish()) -> Proposal:
        """What `up` would do. Changes nothing. Raises StepFailed where this node cannot be looked at."""
        facts = self._mover(self.own).look()
        return self._here("up", self._up(self.own, self._asked(self.partner), wish)(facts))

    def up(self, wish: Wish = Wish(), verb: str = "up") -> Run:
        """Let this node serve. Raises StepFailed, Locked before anything was begun."""
        with self._held(verb, self.own):
            return self._moved(verb, self.own, self._up(self.own, self._asked(self.partner), wish))

    def _up(
        self, node: StorageNode, partner: Answer[NodeFacts], wish: Wish, switch: bool = False, moving: bool = False
    ) -> Decide:
        pair, guard = self._seen_by(node), guard_switchover if switch else guard_up

        def decide(facts: NodeFacts) -> MovePlan:
            now = Situation(
                pair, facts, partner, wish.proof, evict=wish.evict, force=wish.force, moving=moving, run=self.run
            )
            return guard(now, plan_up(now), wish.overrides)

        return decide

    # --- switchover -------------------------------------------------------------------------------------------------

    def propose_switchover(self, to: HostName | None = None, wish: Wish = Wish()) -> Proposal:
        """What `switchover` would do on both nodes. Changes nothing. Raises StepFailed where one cannot be seen."""
        source, target = self._direction(to)
        source_facts, target_facts = self._mover(source).look(), self._mover(target).look()
        partner = Fact(source_facts, str(source.name), source_facts.at)
        down = self._down(source, wish)(source_facts)
        up = self._up(target, partner, wish, switch=True, moving=True)(target_facts)
        return Proposal(SWITCHOVER + target.name, (Part(str(source.name), down), Part(str(target.name), up)))

    def switchover(self, to: HostName | None = None, wish: Wish = Wish()) -> Run:
        """Move the service to the other node (or to `to`), or finish a switchover that was cut off. Nothing is begun
        unless both halves may be. Raises StepFailed, Locked before anything was begun."""
        source, target = self._direction(to)
        verb = SWITCHOVER + target.name
        with self._held(verb, source), self._held(verb, target):
            receiver = self._mover(target)
            target_facts = receiver.look()
            giver = self._mover(source)
            source_facts = giver.look()
            down = self._down(source, wish)
            seen: Answer[NodeFacts] = Fact(source_facts, str(source.name), source_facts.at)
            refused = self._refusals(down(source_facts), self._up(target, seen, wish, True, True)(target_facts))
            if refused:
                return Run(verb, refused=refused)
            target_facts = self._prepare(receiver, verb, target_facts)
            given = giver.move(verb, down, source_facts)
            if not given.done:
                return Run(verb, ((str(source.name), given),))
            try:
                target_facts, source_facts = self._after_release(target, target_facts, source, given.facts)
            except StepFailed as failure:
                lost = (Result(f"look:{target.name}", Outcome.FAILED, failure.report),)
                return Run(verb, ((str(source.name), given), (str(target.name), Moved(lost, Plan(()), target_facts))))
            released: Answer[NodeFacts] = Fact(source_facts, str(source.name), source_facts.at)
            taken = receiver.move(verb, self._up(target, released, wish), target_facts)
            return Run(verb, ((str(source.name), given), (str(target.name), taken)))

    def _after_release(
        self, target: StorageNode, target_facts: NodeFacts, source: StorageNode, source_facts: NodeFacts
    ) -> tuple[NodeFacts, NodeFacts]:
        """What the target sees now that the source let go; where the two lost sight of each other meanwhile, whose
        data is the newer. Raises StepFailed."""
        roles, ids = frozenset({Aspect.REPLICATION}), frozenset({Aspect.GENERATIONS})
        target_facts = merged(target_facts, target.look(roles), roles)
        if not sees_partner(target_facts, self.pair):
            target_facts = merged(target_facts, target.look(ids), ids)
            source_facts = merged(source_facts, source.look(ids), ids)
        return target_facts, source_facts

    def _prepare(self, receiver: Mover, verb: str, facts: NodeFacts) -> NodeFacts:
        """Word of this run is left on the node that is to serve, so that one that is cut off can be finished in the
        same direction; its barrier is raised before the clients wait for it."""
        state = node_state(facts, self.pair)
        if state is NodeState.SERVING:
            return facts
        return receiver.begin(verb, facts, Order(Do.BLOCK, run=self.run) if state is NodeState.IDLE else None)

    def _refusals(self, *plans: MovePlan) -> tuple[Report, ...]:
        return tuple(dict.fromkeys(refusal.report for plan in plans for refusal in plan.refusals))

    def _direction(self, to: HostName | None) -> tuple[StorageNode, StorageNode]:
        """(from, to): as it is asked for; else as an unfinished switchover went; else away from the node that serves.
        Raises StepFailed where that is not clear."""
        if to is not None:
            return self._towards(to)
        view = self.view()
        for facts in view.facts():
            verb = value(facts.runs, RunsFound()).abandoned
            if verb.startswith(SWITCHOVER):
                return self._towards(HostName(verb.removeprefix(SWITCHOVER)))
        for _, answer in view.nodes:
            if isinstance(answer, Missing):
                raise StepFailed(answer.report)
        serving = [facts.node for facts in view.facts() if node_state(facts, self.pair) is NodeState.SERVING]
        if len(serving) == 1:
            return self._towards(next(node.name for node in self.pair.cluster.nodes if node.name != serving[0]))
        words = {str(facts.node): node_state(facts, self.pair).value for facts in view.facts()}
        found = ", ".join(f"{node} is {state}" for node, state in words.items())
        choices = "say where to: --to NODE; or `labstore failover up` on the node that shall serve"
        raise StepFailed(NotDecided(f"it is not clear from where to where: {found}", choices))

    def _towards(self, name: HostName) -> tuple[StorageNode, StorageNode]:
        both = (self.own, self.partner)
        if name not in [node.name for node in both]:
            choices = " or ".join(str(node.name) for node in both)
            raise StepFailed(NotDecided(f"{name} is no node of cluster {self.pair.cluster.name}", f"--to {choices}"))
        return both if self.partner.name == name else (self.partner, self.own)

    # --- abort ------------------------------------------------------------------------------------------------------

    def propose_abort(self, wish: Wish = Wish()) -> Proposal | None:
        """What `abort` would do; None where it does nothing, because the partner serves. Changes nothing. Raises
        StepFailed where this node cannot be looked at."""
        partner, own = self._asked(self.partner), self._mover(self.own).look()
        if not isinstance(partner, Fact):
            return self._here("abort", self._up(self.own, partner, wish)(own))
        state = node_state(partner.value, self.pair)
        if state is NodeState.SERVING:
            return None
        if state is NodeState.IDLE:
            return self._here("abort", self._up(self.own, partner, wish)(own))
        down = self._down(self.partner, _although_none_takes_over(wish))(partner.value)
        up = self._up(self.own, partner, wish, moving=True)(own)
        return Proposal("abort", (Part(str(self.partner.name), down), Part(str(self.own.name), up)))

    def abort(self, wish: Wish = Wish()) -> Run:
        """Back to serving from this node, after a `down` or a switchover that got stuck. What the partner has begun to
        take up is taken from it first; a partner that serves is left alone. Raises StepFailed, Locked before anything
        was begun."""
        partner = self._asked(self.partner)
        if not isinstance(partner, Fact):
            return self.up(wish, "abort")
        state = node_state(partner.value, self.pair)
        if state is NodeState.SERVING:
            return Run("abort", refused=(PartnerServes(str(self.partner.name), "clients are served from there"),))
        if state is NodeState.IDLE:
            taken = self.up(wish, "abort")
            if taken.done and value(partner.value.runs, RunsFound()).abandoned:
                self._give_up(self.partner)
            return taken
        given = self._taken_back(wish)
        if not given.done:
            return Run("abort", ((str(self.partner.name), given),))
        taken = self.up(wish, "abort")
        return Run("abort", ((str(self.partner.name), given), *taken.moves), taken.refused)

    def _give_up(self, node: StorageNode) -> None:
        """The word of the run that is aborted goes; where that cannot be, the next run there ends it."""
        with contextlib.suppress(StepFailed, Locked), self._held("abort", node):
            self._mover(node).give_up()

    def _taken_back(self, wish: Wish) -> Moved:
        """The partner serves nobody yet, so nothing is lost by its stopping."""
        with self._held("abort", self.partner):
            return self._mover(self.partner).move("abort", self._down(self.partner, _although_none_takes_over(wish)))

    # --- parts ------------------------------------------------------------------------------------------------------

    def _here(self, verb: str, plan: MovePlan) -> Proposal:
        return Proposal(verb, (Part(str(self.own.name), plan),))

    def _moved(self, verb: str, node: StorageNode, decide: Decide) -> Run:
        moved = self._mover(node).move(verb, decide)
        if not moved.results and moved.left.refusals:
            return Run(verb, refused=self._refusals(moved.left))
        return Run(verb, ((str(node.name), moved),))

    def _mover(self, node: StorageNode) -> Mover:
        return Mover(self._seen_by(node), node, self.clock, self.run, self.tell)

    def _seen_by(self, node: StorageNode) -> Pair:
        return Pair(self.pair.cluster, self.pair.settings, node.name)

    @contextlib.contextmanager
    def _held(self, verb: str, node: StorageNode) -> Iterator[None]:
        with node.hold(f"labstore failover {verb}, run {self.run}"):
            yield


def _although_none_takes_over(wish: Wish) -> Wish:
    return Wish(wish.overrides | {Override.ALLOW_OUTAGE}, wish.proof)


def _unasked(now: datetime) -> Missing:
    """`down` decides by what DRBD says of the partner; asking it over another way would only take time."""
    return Missing(SourceFailed("partner", "its state", "it was not asked"), "nobody", now)
