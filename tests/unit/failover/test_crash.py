"""kill -9 before, inside and after every step of `up`, `down` and `switchover`, in every state of the partner: run
again, each converges, and on the way nothing is ever as it must not be (the world checks itself at every change;
upstream #20, #21)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labstore.failover.cluster import PairMover, Run, Wish
from labstore.failover.steps import down_orders, key, up_orders
from labstore.model.failover import Proof
from labstore.reports.report import Override
from tests.support.fake_cluster import Killed, World
from tests.support.small_pair import ALPHA, BETA, pair


def serves(world: World, name: str) -> bool:
    """Clients are served, it was seen that they are, and everything that belongs to the active node runs."""
    found = [m for node, m in world.machines.items() if node == name]
    me = found[0]
    return world.serving() == name and me.verified and me.units and not any(world.handovers.values())


PROOF = Proof(ALPHA, "the operator's word", "test", "now")


def mover(world: World, here: str = ALPHA) -> PairMover:
    other = BETA if here == ALPHA else ALPHA
    own = ALPHA if here == ALPHA else BETA
    return PairMover(pair(own), world.node(own), world.node(other).over_network(), world.clock)


def served_by_alpha() -> World:
    world = World(pair())
    assert mover(world).up().done
    assert world.serving() == ALPHA
    world.write()
    return world


def nobody_serves() -> World:
    return World(pair())


def alpha_lost_power() -> World:
    world = served_by_alpha()
    world.power_off(ALPHA)
    return world


def beta_lost_power() -> World:
    world = served_by_alpha()
    world.power_off(BETA)
    return world


def link_is_cut() -> World:
    world = served_by_alpha()
    world.cut_link()
    world.write()
    return world


def alpha_cannot_be_asked() -> World:
    world = nobody_serves()
    world.network = False
    return world


OUTAGE = Wish(frozenset({Override.ALLOW_OUTAGE}))
CASES: dict[str, tuple[Callable[[], World], Callable[[World], Run], Callable[[World], bool]]] = {
    "up, nobody serves": (nobody_serves, lambda w: mover(w).up(), lambda w: serves(w, ALPHA)),
    "up, the partner is not reachable but connected": (
        alpha_cannot_be_asked,
        lambda w: mover(w, BETA).up(),
        lambda w: serves(w, BETA),
    ),
    "up, the partner is dead, with proof": (
        alpha_lost_power,
        lambda w: mover(w, BETA).up(Wish(proof=PROOF)),
        lambda w: serves(w, BETA),
    ),
    "down, the partner is ready": (
        served_by_alpha,
        lambda w: mover(w).down(),
        lambda w: w.serving() is None and not w.machines[ALPHA].mounted and not w.machines[ALPHA].addresses,
    ),
    "down, the partner is dead": (
        beta_lost_power,
        lambda w: mover(w).down(OUTAGE),
        lambda w: not w.machines[ALPHA].mounted and not w.machines[ALPHA].addresses,
    ),
    "down, the link is cut": (
        link_is_cut,
        lambda w: mover(w).down(OUTAGE),
        lambda w: not w.machines[ALPHA].mounted and not w.machines[ALPHA].addresses,
    ),
    "switchover from the active node": (
        served_by_alpha,
        lambda w: mover(w).switchover(),
        lambda w: serves(w, BETA) and not w.machines[ALPHA].mounted,
    ),
    "switchover from the standby": (
        served_by_alpha,
        lambda w: mover(w, BETA).switchover(),
        lambda w: serves(w, BETA) and not w.machines[ALPHA].mounted,
    ),
}


def steps_of(case: str) -> int:
    """How many moments there are at which the run can be killed."""
    begin, act, _ = CASES[case]
    world = begin()
    before = world.ticks
    assert act(world).done
    return world.ticks - before


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_not_disturbed_reaches_its_end(case: str) -> None:
    begin, act, reached = CASES[case]
    world = begin()
    run = act(world)
    assert run.done, [report.text() for report in run.reports]
    assert reached(world)
    world.check()


@pytest.mark.parametrize("case", CASES)
def test_doing_it_again_does_nothing(case: str) -> None:
    begin, act, _ = CASES[case]
    if case.startswith("switchover"):
        pytest.skip("doing it again goes back: that is what a switchover is")
    world = begin()
    act(world)
    before = world.ticks
    assert act(world).done
    assert world.ticks == before


@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_moment_the_next_run_converges(case: str) -> None:
    begin, act, reached = CASES[case]
    moments = steps_of(case)
    assert moments > 15
    for moment in range(moments):
        world = begin()
        world.kill_at = world.ticks + moment
        with pytest.raises(Killed):
            act(world)
        world.check()
        world.write()
        run = act(world)
        assert run.done, f"moment {moment}: {[report.text() for report in run.reports]}"
        assert reached(world), f"moment {moment}"
        served = world.serving()
        if served is not None:
            assert all(world.acknowledged <= disk.writes for disk in world.machines[served].disks.values())


@pytest.mark.parametrize("case", ["down, the partner is ready", "switchover from the active node"])
def test_killed_at_any_moment_abort_goes_back_to_serving(case: str) -> None:
    begin, act, _ = CASES[case]
    for moment in range(steps_of(case)):
        world = begin()
        world.kill_at = world.ticks + moment
        with pytest.raises(Killed):
            act(world)
        served_there = world.serving() == BETA
        run = mover(world).abort()
        if served_there:
            assert not run.done  # clients are served by the other node: there is nothing to go back from
        else:
            assert run.done, f"moment {moment}: {[report.text() for report in run.reports]}"
            assert world.serving() == ALPHA


@pytest.mark.parametrize("case", CASES)
def test_killed_twice_it_still_converges(case: str) -> None:
    begin, act, reached = CASES[case]
    moments = steps_of(case)
    for first in range(0, moments, 3):
        for second in range(0, moments, 4):
            world = begin()
            world.kill_at = world.ticks + first
            with pytest.raises(Killed):
                act(world)
            world.kill_at = world.ticks + second
            try:
                run = act(world)
            except Killed:
                run = act(world)
            world.kill_at = None
            assert run.done, f"moments {first}, {second}: {[report.text() for report in run.reports]}"
            assert reached(world)


@pytest.mark.parametrize("case", ["switchover from the active node", "down, the partner is ready"])
def test_the_whole_node_dies_at_any_moment_and_the_other_takes_over_with_proof(case: str) -> None:
    begin, act, _ = CASES[case]
    for moment in range(steps_of(case)):
        world = begin()
        world.kill_at = world.ticks + moment
        with pytest.raises(Killed):
            act(world)
        world.power_off(ALPHA)
        run = mover(world, BETA).up(Wish(proof=PROOF))
        assert run.done, f"moment {moment}: {[report.text() for report in run.reports]}"
        assert world.serving() == BETA
        world.write()
        world.boot(ALPHA)
        world.check()
        assert world.serving() == BETA
        assert all(world.acknowledged <= disk.writes for disk in world.machines[ALPHA].disks.values()), "no resync"


def test_what_takes_time_is_done_before_clients_are_made_to_wait() -> None:
    """Only what must be behind the barrier is behind it."""
    assert [key(order) for order in down_orders(pair())][:2] == ["stop-units", "block"]
    up = [key(order) for order in up_orders(pair())]
    assert up[0] == "block"
    assert up.index("unblock") < up.index("start-units") < up.index("verify") < up.index("certify")


def test_what_is_stopped_first_is_started_last() -> None:
    """The state volume comes first and goes last; the address comes last and goes before the mounts."""
    up, down = ([key(order) for order in orders(pair())] for orders in (up_orders, down_orders))
    assert up.index("mount:state") < up.index("mount:tools") and down.index("unmount:tools") < down.index(
        "unmount:state"
    )
    assert up.index("place-exports") < up.index("start-server") < up.index("add-addresses") < up.index("unblock")
    assert down.index("stop-server") < down.index("stop-recovery") < down.index("remove-addresses")
    assert down.index("remove-addresses") < down.index("unmount:tools") < down.index("demote:state")
