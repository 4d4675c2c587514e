"""kill -9 before, inside and after every step of `up`, `down`, `switchover` and `abort`, in every state of the partner:
run again, each converges, and on the way nothing is ever as it must not be. The world checks itself at every change:
never two nodes with mounts or two primaries, no address without exports, no server on an empty directory (upstream #20,
#21)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from labstore.failover.cluster import PairMover, Run, Wish
from labstore.failover.states import NodeState, PairState, node_state
from labstore.failover.steps import down_orders, key, up_orders, value
from labstore.model.failover import Pair, Proof
from labstore.model.names import HostName
from labstore.ports.storage_node import Order, RunsFound
from labstore.reports.report import Override
from tests.support.fake_cluster import Killed, World
from tests.support.small_pair import ALPHA, BETA, pair, with_export_tree

PROOF = Proof(ALPHA, "the operator's word", "test", "now")
OUTAGE = Wish(frozenset({Override.ALLOW_OUTAGE}))
PLAIN, TREE = pair(), with_export_tree(pair())


def mover(world: World, here: str = ALPHA) -> PairMover:
    own, other = (ALPHA, BETA) if here == ALPHA else (BETA, ALPHA)
    seen = Pair(world.pair.cluster, world.pair.settings, own)
    return PairMover(seen, world.node(own), world.node(other).over_network(), world.clock)


# --- where a run begins ----------------------------------------------------------------------------------------------


def nobody_serves(about: Pair) -> World:
    return World(about)


def just_booted(about: Pair) -> World:
    """DRBD was not started on alpha."""
    world = World(about)
    world.machines[ALPHA].attached = False
    return world


def served_by_alpha(about: Pair) -> World:
    world = World(about)
    assert mover(world).up().done
    assert world.serving() == ALPHA
    world.write()
    return world


def alpha_lost_power(about: Pair) -> World:
    world = served_by_alpha(about)
    world.power_off(ALPHA)
    return world


def beta_lost_power(about: Pair) -> World:
    world = served_by_alpha(about)
    world.power_off(BETA)
    return world


def link_is_cut(about: Pair) -> World:
    world = served_by_alpha(about)
    world.cut_link()
    world.write()
    return world


def partner_cannot_be_asked(about: Pair) -> World:
    world = nobody_serves(about)
    world.network = False
    return world


def barrier_left_on_beta(about: Pair) -> World:
    world = served_by_alpha(about)
    world.machines[BETA].barrier = set(about.cluster.service_addresses)
    return world


def down_was_cut_off(about: Pair) -> World:
    """In the middle: the server is stopped, the volumes are mounted."""
    twin, world = served_by_alpha(about), served_by_alpha(about)
    moments = twin.log_of(lambda: mover(twin).down())
    world.kill_at = world.ticks + moments.index("alpha: after stop-recovery")
    with pytest.raises(Killed):
        mover(world).down()
    return world


def barrier_was_lifted_by_hand(about: Pair) -> World:
    """Before `up` came to it."""
    twin, world = nobody_serves(about), nobody_serves(about)
    moments = twin.log_of(lambda: mover(twin).up())
    world.kill_at = world.ticks + moments.index("alpha: after add-addresses")
    with pytest.raises(Killed):
        mover(world).up()
    world.machines[ALPHA].barrier = set()
    return world


# --- where it ends ---------------------------------------------------------------------------------------------------


def serves(world: World, name: str) -> bool:
    """Clients are served, it was seen that they are, and everything that belongs to the active node runs."""
    me = next(machine for node, machine in world.machines.items() if node == name)
    other = next(machine for node, machine in world.machines.items() if node != name)
    rest = not (other.mounted or other.addresses or other.threads or other.units)
    return world.serving() == name and me.verified and me.units and rest and world.handover is None and not world.aside


def is_down(world: World) -> bool:
    """Nothing of the service is left on alpha, and a client that comes to it gets no answer."""
    me = world.machines[ALPHA]
    return not (me.mounted or me.addresses or me.threads or me.mountd or me.recovery or me.units or me.binds)


@dataclass(frozen=True)
class Case:
    begin: Callable[[Pair], World]
    act: Callable[[World], Run]
    reached: Callable[[World], bool]
    orders: Callable[[Pair], tuple[str, ...]]
    """The steps that it must have taken, so that none is left out of what is killed."""
    about: Pair = PLAIN

    @property
    def again_goes_back(self) -> bool:
        """Doing it again when it is done is another move."""
        return self.orders is SWITCHOVER


def _of(
    *lists: Callable[[Pair], tuple[Order, ...]], without: tuple[str, ...] = ()
) -> Callable[[Pair], tuple[str, ...]]:
    return lambda about: tuple(
        order.do.value for orders in lists for order in orders(about) if order.do.value not in without
    )


DOWN = _of(down_orders)
SWITCHOVER = _of(down_orders, up_orders, without=("attach",))
DOWN_ONLY = _of(down_orders, without=("stop-units",))
UP = _of(up_orders, without=("attach", "certify"))
"""Nothing is to be attached, and nobody held a lock."""
CASES = {
    "up, nobody serves": Case(nobody_serves, lambda w: mover(w).up(), lambda w: serves(w, ALPHA), UP),
    "up, just booted": Case(
        just_booted, lambda w: mover(w).up(), lambda w: serves(w, ALPHA), lambda about: (*UP(about), "attach")
    ),
    "up, with an export tree": Case(nobody_serves, lambda w: mover(w).up(), lambda w: serves(w, ALPHA), UP, TREE),
    "up, the partner is connected but cannot be asked": Case(
        partner_cannot_be_asked, lambda w: mover(w, BETA).up(), lambda w: serves(w, BETA), UP
    ),
    "up, the partner is dead, with proof": Case(
        alpha_lost_power, lambda w: mover(w, BETA).up(Wish(proof=PROOF)), lambda w: serves(w, BETA), UP
    ),
    "up, after a down that was cut off": Case(
        down_was_cut_off, lambda w: mover(w).up(), lambda w: serves(w, ALPHA), lambda _: ("start-server", "unblock")
    ),
    "up, somebody else lifted the barrier": Case(
        barrier_was_lifted_by_hand, lambda w: mover(w).up(), lambda w: serves(w, ALPHA), lambda _: ("unblock",)
    ),
    "down, somebody else lifted the barrier": Case(
        barrier_was_lifted_by_hand, lambda w: mover(w).down(), lambda w: is_down(w) and not w.aside, DOWN_ONLY
    ),
    "down, the partner is ready": Case(served_by_alpha, lambda w: mover(w).down(), is_down, DOWN),
    "down, with an export tree": Case(served_by_alpha, lambda w: mover(w).down(), is_down, DOWN, TREE),
    "down, the partner is dead": Case(beta_lost_power, lambda w: mover(w).down(OUTAGE), is_down, DOWN),
    "down, the link is cut": Case(link_is_cut, lambda w: mover(w).down(OUTAGE), is_down, DOWN),
    "switchover from the active node": Case(
        served_by_alpha, lambda w: mover(w).switchover(), lambda w: serves(w, BETA), SWITCHOVER
    ),
    "switchover from the standby": Case(
        served_by_alpha, lambda w: mover(w, BETA).switchover(), lambda w: serves(w, BETA), SWITCHOVER
    ),
    "switchover, the barrier of a dead run is up": Case(
        barrier_left_on_beta, lambda w: mover(w).switchover(), lambda w: serves(w, BETA), SWITCHOVER
    ),
    "switchover with an export tree": Case(
        served_by_alpha, lambda w: mover(w).switchover(), lambda w: serves(w, BETA), SWITCHOVER, TREE
    ),
    "abort of a down that was cut off": Case(
        down_was_cut_off, lambda w: mover(w).abort(), lambda w: serves(w, ALPHA), lambda _: ("start-server", "unblock")
    ),
}


def undisturbed(case: Case) -> tuple[World, tuple[str, ...]]:
    """The world after the whole run, and the moments at which it could have been killed, each with its name."""
    world = case.begin(case.about)
    run: list[Run] = []
    moments = world.log_of(lambda: run.append(case.act(world)))
    assert run[0].done, [report.text() for report in run[0].reports]
    return world, moments


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_not_disturbed_reaches_its_end(name: str) -> None:
    world, _ = undisturbed(CASES[name])
    assert CASES[name].reached(world)
    world.check()


@pytest.mark.parametrize("name", CASES)
def test_every_step_of_the_list_has_a_moment_before_inside_and_after_it(name: str) -> None:
    """What is killed below is made from the list of steps: none may be missing from it."""
    case = CASES[name]
    _, moments = undisturbed(case)
    for step in case.orders(case.about):
        where = [moment for moment in moments if _step_of(moment) == step]
        kinds = {moment.split(": ")[1].split()[0] for moment in where}
        assert {"journal", "act", "after"} <= kinds, f"{step}: {kinds}"


def _step_of(moment: str) -> str:
    return moment.rsplit(maxsplit=1)[-1].partition(":")[0]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.again_goes_back])
def test_doing_it_again_does_nothing(name: str) -> None:
    world, _ = undisturbed(CASES[name])
    before = world.ticks
    assert CASES[name].act(world).done
    assert world.ticks == before


def killed(case: Case) -> Iterator[tuple[str, World]]:
    """The world after a kill at each moment of the run."""
    _, moments = undisturbed(case)
    assert len(moments) > 10
    for number, moment in enumerate(moments):
        world = case.begin(case.about)
        world.kill_at = world.ticks + number
        with pytest.raises(Killed):
            case.act(world)
        world.check()
        yield f"killed at {moment}", world


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_moment_the_next_run_converges(name: str) -> None:
    case = CASES[name]
    for moment, world in killed(case):
        world.write()
        run = case.act(world)
        assert run.done, f"{moment}: {[report.text() for report in run.reports]}"
        assert case.reached(world), moment
        served = world.serving()
        if served is not None:
            assert all(world.acknowledged <= disk.writes for disk in world.machines[served].disks.values()), moment


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_moment_status_names_what_is_half_done_and_the_next_command(name: str) -> None:
    for moment, world in killed(CASES[name]):
        named = mover(world).named()
        halves = [facts for facts in mover(world).view().facts() if node_state(facts, PLAIN) is NodeState.PARTIAL]
        if halves or world.serving() is None:
            assert named.state not in (PairState.HEALTHY, PairState.SERVING_ALONE), moment
            assert "labstore failover" in named.next, f"{moment}: {named.state}"


@pytest.mark.parametrize(
    "name", ["down, the partner is ready", "switchover from the active node", "down, with an export tree"]
)
def test_killed_at_any_moment_abort_goes_back_to_serving(name: str) -> None:
    for moment, world in killed(CASES[name]):
        served_there = world.serving() == BETA
        run = mover(world).abort()
        if served_there:
            assert not run.done  # clients are served by the other node: there is nothing to go back from
        else:
            assert run.done, f"{moment}: {[report.text() for report in run.reports]}"
            assert world.serving() == ALPHA, moment
            begun = [value(each.runs, RunsFound()).unfinished for each in mover(world).view().facts()]
            assert begun == ["", ""], f"{moment}: nobody is told any more to go on with what was aborted"


@pytest.mark.parametrize("name", CASES)
def test_killed_twice_it_still_converges(name: str) -> None:
    case = CASES[name]
    count = len(undisturbed(case)[1])
    for first in range(0, count, 13):
        for second in range(first % 5, count, 17):
            world = case.begin(case.about)
            world.kill_at = world.ticks + first
            with pytest.raises(Killed):
                case.act(world)
            world.kill_at = world.ticks + second
            try:
                run = case.act(world)
            except Killed:
                run = case.act(world)
            world.kill_at = None
            assert run.done, f"moments {first}, {second}: {[report.text() for report in run.reports]}"
            assert case.reached(world)


@pytest.mark.parametrize("name", ["switchover from the active node", "down, the partner is ready"])
def test_the_whole_node_dies_at_any_moment_and_the_other_takes_over_with_proof(name: str) -> None:
    for moment, world in killed(CASES[name]):
        world.power_off(ALPHA)
        run = mover(world, BETA).up(Wish(proof=PROOF))
        assert run.done, f"{moment}: {[report.text() for report in run.reports]}"
        assert world.serving() == BETA
        world.write()
        world.boot(ALPHA)
        world.check()
        assert world.serving() == BETA
        assert all(world.acknowledged <= disk.writes for disk in world.machines[ALPHA].disks.values()), "no resync"


@pytest.mark.parametrize("dies", [ALPHA, BETA])
def test_either_node_dies_at_any_moment_of_a_switchover_and_the_other_serves(dies: HostName) -> None:
    """The word that it is off is asked for, and enough."""
    other = BETA if dies == ALPHA else ALPHA
    for moment, world in killed(CASES["switchover from the active node"]):
        world.power_off(dies)
        proof = Proof(dies, "the operator's word", "test", "now")
        run = mover(world, other).up(Wish(proof=proof))
        assert run.done, f"{moment}: {[report.text() for report in run.reports]}"
        assert world.serving() == other
        assert all(world.acknowledged <= disk.writes for disk in world.machines[other].disks.values()), moment


# --- the order -------------------------------------------------------------------------------------------------------


def test_what_takes_time_is_done_before_clients_are_made_to_wait() -> None:
    """Only what must be behind the barrier is behind it."""
    assert [key(order) for order in down_orders(pair())][:2] == ["stop-units", "block"]
    up = [key(order) for order in up_orders(pair())]
    assert up[0] == "block"
    assert up.index("unblock") < up.index("start-units") < up.index("verify") < up.index("certify")


def test_what_is_stopped_first_is_started_last() -> None:
    """The state volume comes first and goes last; the address comes last and goes before the mounts."""
    up, down = ([key(order) for order in orders(TREE)] for orders in (up_orders, down_orders))
    assert up.index("mount:state") < up.index("mount:tools") < up.index("bind") < up.index("place-exports")
    assert down.index("unmount:tools") < down.index("unmount:state")
    assert up.index("place-exports") < up.index("start-server") < up.index("add-addresses") < up.index("unblock")
    assert down.index("stop-server") < down.index("stop-recovery") < down.index("remove-addresses")
    assert down.index("remove-addresses") < down.index("unmount:tools") < down.index("demote:state")
