"""What is lost in the middle of a switchover: the link between the disks, or the way to the other node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labstore.failover.states import PairState
from labstore.failover.steps import Met, met, value
from labstore.ports.storage_node import Aspect, Do, Order, RunsFound, ServerFound, UnitsFound
from tests.support.fake_cluster import Killed, World
from tests.unit.failover.test_crash import ALPHA, BETA, PLAIN, mover, served_by_alpha
from tests.unit.failover.worlds import pair, serving


def lost_at(world: World, moment: str, lose: Callable[[], None]) -> None:
    """`lose` is done at this moment of what comes."""
    tick = world.tick

    def ticked(what: str) -> None:
        tick(what)
        if what == moment:
            lose()

    world.tick = ticked  # type: ignore[method-assign]


def test_the_link_is_lost_when_the_source_has_let_go() -> None:
    """Whose data is the newer was never asked until then: both have the same."""
    world = served_by_alpha(PLAIN)
    lost_at(world, "alpha: after demote:tools", world.cut_link)
    run = mover(world).switchover()
    assert run.done, [report.text() for report in run.reports]
    assert world.serving() == BETA
    assert all(world.acknowledged <= disk.writes for disk in world.machines[BETA].disks.values())


def test_the_target_is_lost_when_the_source_has_let_go() -> None:
    """It is said what was done, and that to run it again goes on."""
    world = served_by_alpha(PLAIN)
    lost_at(world, "alpha: after demote:tools", lambda: setattr(world, "network", False))
    run = mover(world).switchover()
    assert not run.done and not run.refused
    (source, given), (target, taken) = run.moves
    assert (source, given.done, target, taken.done) == ("alpha", True, "beta", False)
    assert [report.code for report in run.reports] == ["failover-node-unreachable"]
    world.network = True
    assert mover(world).switchover().done
    assert world.serving() == BETA


@pytest.mark.parametrize("barrier", [False, True], ids=["no barrier", "a barrier of a dead run"])
def test_a_target_on_which_no_word_can_be_left_takes_nothing(barrier: bool) -> None:
    world = served_by_alpha(PLAIN)
    if barrier:
        world.machines[BETA].barrier = set(PLAIN.cluster.service_addresses)
    node = mover(world).partner.look  # the last look before the word
    own = mover(world)
    looks: list[object] = []

    def look(aspects: frozenset[Aspect]) -> object:
        looks.append(aspects)
        found = node(aspects)
        world.network = False
        return found

    own.partner.look = look  # type: ignore[method-assign,assignment]
    with pytest.raises(Exception, match="beta"):
        own.switchover(BETA)
    assert looks and world.serving() == ALPHA


def target_half_up() -> World:
    """A switchover was killed when beta had begun to mount."""
    twin, world = served_by_alpha(PLAIN), served_by_alpha(PLAIN)
    moments = twin.log_of(lambda: mover(twin).switchover())
    world.kill_at = world.ticks + moments.index("beta: after mount:state")
    with pytest.raises(Killed):
        mover(world).switchover()
    return world


def test_a_target_that_is_half_up_is_not_taken_down_by_what_is_said() -> None:
    world = target_half_up()
    named = mover(world).named()
    assert named.state is PairState.HALF_UP
    assert named.next.startswith("`labstore failover switchover` goes on; `labstore failover abort` on alpha goes back")


def test_what_abort_would_do_is_shown_and_is_what_it_does() -> None:
    """A target that is half up gives back what it has before the source serves again."""
    world = target_half_up()
    proposal = mover(world).propose_abort()
    assert proposal is not None and not proposal.refusals
    assert [part.node for part in proposal.parts] == ["beta", "alpha"]
    assert world.serving() is None, "only shown"
    run = mover(world).abort()
    assert run.done and world.serving() == ALPHA
    done = [key for _, moved in run.moves for key in (result.key for result in moved.results)]
    shown = [step.key for part in proposal.parts for step in part.plan.steps]
    assert set(shown) <= set(done)
    assert mover(world, BETA).propose_abort() is None, "the partner serves"


def test_a_unit_that_is_not_there_keeps_no_move_from_its_end() -> None:
    absent = UnitsFound(frozenset(), frozenset(), True, frozenset(map(str, pair().settings.units)))
    assert absent.absent and met(Order(Do.START_UNITS), serving(units=absent), pair()) is Met.YES
    assert met(Order(Do.START_UNITS), serving(units=UnitsFound(allowed=True)), pair()) is Met.NO


def test_a_server_whose_threads_were_ended_writes_down_nothing() -> None:
    """It knows no clients any more; nfsdcld's names are what there is."""
    facts = serving(server=ServerFound(0, mountd=True))
    assert met(Order(Do.RECORD), facts, pair()) is Met.YES
    assert met(Order(Do.RECORD), serving(), pair()) is Met.NO


def test_a_run_that_is_not_gone_on_with_ends_with_the_next() -> None:
    world = served_by_alpha(PLAIN)
    mover(world)._mover(world.node(BETA)).begin("switchover to beta", world.node(BETA).look())
    assert value(world.node(BETA).look().runs, RunsFound()).unfinished == "switchover to beta"
    assert mover(world, BETA).down().done, "there is nothing to do"
    assert value(world.node(BETA).look().runs, RunsFound()).unfinished == ""
