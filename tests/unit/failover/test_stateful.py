"""Anything that people, cables and power supplies may do to a pair, in any order, with runs that are killed anywhere:
the world checks itself at every change, acknowledged writes are never served as if they had not been, and in the end
the pair serves again."""

from __future__ import annotations

import contextlib
import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from labstore.failover.boot import boot as at_boot
from labstore.failover.cluster import PairMover, Run, Wish
from labstore.failover.resolve import discard, find, reconnect
from labstore.failover.states import PairState
from labstore.model.failover import Pair, Proof
from labstore.model.names import HostName
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Override
from labstore.system.locks import Locked
from tests.support.fake_cluster import Killed, World
from tests.support.small_pair import ALPHA, BETA, pair, with_export_tree

ROUNDS = int(os.environ.get("LABSTORE_FAILOVER_ROUNDS", "60"))
"""More make it thorough: 2000 take some minutes."""
NODES = st.sampled_from((ALPHA, BETA))
KILL = st.none() | st.integers(0, 90)


class Operators(RuleBasedStateMachine):
    """`unfenced`: something was acknowledged that the other side could neither get nor be told of. Nobody can rule out
    then that the other side, if it takes over on a person's word, lacks it (nfs_ha 2.5)."""

    world: World

    @initialize(tree=st.booleans())
    def begin(self, tree: bool) -> None:
        self.world = World(with_export_tree(pair()) if tree else pair())
        self.unfenced = False

    def mover(self, here: HostName) -> PairMover:
        seen = Pair(self.world.pair.cluster, self.world.pair.settings, here)
        other = self.world.node(self.world.other(here)).over_network()
        return PairMover(seen, self.world.node(here), other, self.world.clock)

    def attempt(self, here: HostName, kill: int | None, act: object) -> None:
        """A run that may be refused, fail or be killed; a dead machine runs nothing."""
        if not self.world.machines[here].alive:
            return
        self.world.kill_at = None if kill is None else self.world.ticks + kill
        with contextlib.suppress(Killed, StepFailed, Locked):
            act(self.mover(here))  # type: ignore[operator]
        self.world.kill_at = None
        for machine in self.world.machines.values():
            machine.held = False  # the kernel lets go of a dead process's locks

    # --- people -----------------------------------------------------------------------------------------------------

    def proof(self, here: HostName) -> Proof | None:
        """People tell the truth: a machine is off if they say so."""
        other = self.world.other(here)
        return None if self.world.machines[other].alive else Proof(other, "the operator's word", "test", "now")

    @rule(here=NODES, kill=KILL, word=st.booleans())
    def up(self, here: HostName, kill: int | None, word: bool) -> None:
        self.attempt(here, kill, lambda m: m.up(Wish(proof=self.proof(here) if word else None)))

    @rule(here=NODES, kill=KILL, outage=st.booleans())
    def down(self, here: HostName, kill: int | None, outage: bool) -> None:
        allowed = frozenset({Override.ALLOW_OUTAGE}) if outage else frozenset[Override]()
        self.attempt(here, kill, lambda m: m.down(Wish(allowed)))

    @rule(here=NODES, kill=KILL, to=st.none() | NODES)
    def switchover(self, here: HostName, kill: int | None, to: HostName | None) -> None:
        self.attempt(here, kill, lambda m: m.switchover(to))

    @rule(here=NODES, kill=KILL)
    def abort(self, here: HostName, kill: int | None) -> None:
        self.attempt(here, kill, lambda m: m.abort())

    @rule(here=NODES)
    def resolve_what_is_not_split(self, here: HostName) -> None:
        self.attempt(here, None, lambda m: reconnect(m, find(m)))

    # --- the world --------------------------------------------------------------------------------------------------

    @rule()
    def write(self) -> None:
        self.world.write()
        self.unfenced = self.unfenced or self.world.unseen()

    @rule()
    def cut_link(self) -> None:
        self.world.cut_link()

    @rule()
    def heal_link(self) -> None:
        self.world.heal_link()

    @rule()
    def cut_network(self) -> None:
        self.world.network = False

    @rule()
    def heal_network(self) -> None:
        self.world.network = True

    @rule(node=NODES)
    def power_off(self, node: HostName) -> None:
        self.world.power_off(node)

    @rule(node=NODES, kill=KILL)
    def reboot(self, node: HostName, kill: int | None) -> None:
        self.world.power_off(node)
        self.world.boot(node)
        self.attempt(node, kill, lambda m: at_boot(m, patience=0.0))

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_as_it_must_not_be(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    @invariant()
    def what_was_acknowledged_is_served(self) -> None:
        if not hasattr(self, "world") or self.unfenced:
            return
        active = self.world.serving()
        if active is not None:
            for disk in self.world.machines[active].disks.values():
                assert self.world.acknowledged <= disk.writes

    def teardown(self) -> None:
        """Everything is repaired; then somebody brings the pair up, by what `status` says."""
        if not hasattr(self, "world"):
            return
        self.world.network = True
        self.world.heal_link()
        for node in self.world.machines:
            self.world.boot(node)
            self.attempt(node, None, lambda m: at_boot(m, patience=0.0))
        for _ in range(6):
            if self.world.serving() is not None and self.mover(ALPHA).named().state is PairState.HEALTHY:
                break
            self.follow_the_advice()
        else:
            raise AssertionError(f"not healthy: {self.mover(ALPHA).named()}")
        self.what_was_acknowledged_is_served()

    def follow_the_advice(self) -> None:
        """What an operator does at 3 a.m.: the next command that `status` names, on the node that it names."""
        mover = self.mover(ALPHA)
        named = mover.named()
        found = find(mover)
        if found.partings:
            loser = next(n for n in self.world.machines if n != self.world.serving())
            if found.split and any(role for role in self.roles(loser)):
                self.done(self.mover(loser).down(Wish(frozenset({Override.ALLOW_OUTAGE}))))
            discard(mover, find(mover), loser) if found.split else reconnect(mover, found)
        else:
            on = BETA if f"on {BETA}:" in named.next else ALPHA
            self.done(self.mover(on).up())

    def roles(self, name: HostName) -> list[bool]:
        return [role == "Primary" for role in self.world.machines[name].roles.values()]

    def done(self, run: Run) -> None:
        assert run.done, [report.text() for report in run.reports]


def test_a_pair_survives_its_operators() -> None:
    run_state_machine_as_test(Operators, settings=settings(max_examples=ROUNDS, stateful_step_count=25, deadline=None))  # type: ignore[no-untyped-call]
