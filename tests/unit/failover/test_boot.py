"""After a boot: who serves by itself, and who waits for a person (upstream #13)."""

from __future__ import annotations

from labstore.failover.boot import boot
from labstore.failover.cluster import PairMover, Wish
from labstore.model.failover import Proof
from labstore.model.names import HostName
from tests.support.fake_cluster import World
from tests.support.small_pair import ALPHA, BETA, pair


def mover(world: World, own: HostName) -> PairMover:
    partner = world.other(own)
    return PairMover(pair(own, **_changed(world)), world.node(own), world.node(partner).over_network(), world.clock)


def _changed(world: World) -> dict[str, bool]:
    return {"serve_at_boot": world.pair.settings.serve_at_boot}


def served_by_alpha(**changes: bool) -> World:
    world = World(pair(**changes))
    assert mover(world, ALPHA).up().done
    world.write()
    return world


def lose_power(world: World, *names: HostName) -> None:
    for name in names:
        world.power_off(name)


def boots(world: World, name: HostName) -> str:
    """What the boot unit does on a node; why it does not serve, empty where it does."""
    run, said = boot(mover(world, name), patience=30)
    assert run is None or run.done
    return "" if run is not None else said[0].message()


def test_after_a_power_cut_of_both_the_one_that_served_last_serves() -> None:
    world = served_by_alpha()
    lose_power(world, ALPHA, BETA)
    world.boot(BETA)
    assert "not the one that served last" in boots(world, BETA)
    world.boot(ALPHA)
    assert boots(world, ALPHA) == ""
    assert world.serving() == ALPHA


def test_a_node_that_comes_back_alone_waits_for_a_person() -> None:
    world = served_by_alpha()
    lose_power(world, ALPHA, BETA)
    world.boot(ALPHA)
    assert "the partner is not connected" in boots(world, ALPHA)
    assert world.serving() is None


def test_a_node_that_died_does_not_take_the_service_from_the_one_that_took_over() -> None:
    world = served_by_alpha()
    lose_power(world, ALPHA)
    world.clock.sleep(60)
    assert mover(world, BETA).up(Wish(proof=Proof(ALPHA, "the operator's word", "test", "now"))).done
    world.write()
    world.boot(ALPHA)
    assert "the service is there already" in boots(world, ALPHA)
    lose_power(world, ALPHA, BETA)
    world.boot(ALPHA)
    world.boot(BETA)
    assert "the partner served last" in boots(world, ALPHA)
    assert boots(world, BETA) == ""
    assert world.serving() == BETA


def test_a_partner_that_cannot_be_asked_may_have_part_of_the_service() -> None:
    world = served_by_alpha()
    lose_power(world, ALPHA, BETA)
    world.boot(ALPHA)
    world.boot(BETA)
    world.network = False
    assert "the partner cannot be asked" in boots(world, ALPHA)
    assert world.serving() is None


def test_a_site_may_want_no_service_at_boot() -> None:
    world = served_by_alpha(serve_at_boot=False)
    lose_power(world, ALPHA, BETA)
    world.boot(BETA)
    world.boot(ALPHA)
    assert "serve_at_boot is off" in boots(world, ALPHA)
    assert world.serving() is None
