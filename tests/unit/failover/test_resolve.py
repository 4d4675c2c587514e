"""A split brain: both sides are compared, the loss of each choice is shown, and nothing is ever given up silently
(acceptance 4; upstream #22)."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.failover.cluster import PairMover, Wish
from labstore.failover.lineage import Lineage, compare
from labstore.failover.resolve import discard, find, reconnect
from labstore.failover.states import PairState
from labstore.model.drbd import Generations
from labstore.model.failover import Pair, Proof
from labstore.model.names import HostName
from labstore.ports.storage_node import Do
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Override
from tests.support.fake_cluster import World
from tests.support.pair_cli import PairCli
from tests.support.small_pair import ALPHA, BETA, pair

OUTAGE = Wish(frozenset({Override.ALLOW_OUTAGE}))
LIE = Proof(ALPHA, "the operator's word", "test", "now")


def mover(world: World, here: HostName = ALPHA) -> PairMover:
    seen = Pair(world.pair.cluster, world.pair.settings, here)
    return PairMover(seen, world.node(here), world.node(world.other(here)).over_network(), world.clock)


def split(world: World) -> World:
    """Both sides written: alpha serves, the link and the network go, and somebody gives a false word."""
    assert mover(world).up().done
    world.write()
    world.cut_link()
    world.network = False
    world.write()
    taken = world.machines[ALPHA].addresses
    world.machines[ALPHA].addresses, world.machines[ALPHA].mounted = set(), set()  # alpha is believed to be off
    world.machines[ALPHA].threads, world.machines[ALPHA].barrier = 0, set(world.pair.cluster.service_addresses)
    for disk in world.machines[BETA].disks.values():
        disk.state = disk.state.UP_TO_DATE
    assert mover(world, BETA).up(Wish(proof=LIE)).done
    world.write()
    world.network = True
    world.heal_link()
    assert taken
    return world


@pytest.fixture
def world() -> World:
    return split(World(pair()))


def test_it_is_named_and_the_next_command_with_it(world: World) -> None:
    """While both are Primary that is worse and comes first."""
    named = mover(world).named()
    assert named.state is PairState.TWO_PRIMARIES and "labstore failover down" in named.next
    assert {"split-brain", "two-primaries"} <= {report.code for report in named.reports}
    assert mover(world).down(OUTAGE).done
    named = mover(world).named()
    assert named.state is PairState.SPLIT_BRAIN and "labstore failover resolve" in named.next


def test_both_sides_are_compared(world: World) -> None:
    world.machines[BETA].newest = "2026-05-29 12:01:07 shared/tools/log"
    found = find(mover(world))
    assert [str(parting.resource) for parting in found.split] == ["state", "tools"]
    first, second = found.split[0].sides
    assert (first.node, first.serves, second.node, second.serves) == ("alpha", False, "beta", True)
    assert (first.role, second.role) == ("Primary", "Primary")
    assert second.newest == "2026-05-29 12:01:07 shared/tools/log"
    assert found.split[0].lineage is Lineage.DIVERGED


def test_it_is_not_ended_by_connecting(world: World) -> None:
    with pytest.raises(StepFailed) as raised:
        reconnect(mover(world), find(mover(world)))
    assert "--discard NODE" in raised.value.report.text()
    assert find(mover(world)).split


@pytest.mark.parametrize("victim", [ALPHA, BETA])
def test_a_side_that_is_primary_is_never_given_up(world: World, victim: HostName) -> None:
    before = {name: machine.disks for name, machine in world.machines.items()}
    with pytest.raises(StepFailed) as raised:
        discard(mover(world), find(mover(world)), victim)
    assert raised.value.report.code == "partner-serves"
    assert {name: machine.disks for name, machine in world.machines.items()} == before


@pytest.mark.parametrize("here", [ALPHA, BETA])
def test_the_side_that_is_given_up_is_kept_as_a_snapshot_and_takes_over_the_other_s_data(
    world: World, here: HostName
) -> None:
    assert mover(world).down(OUTAGE).done
    kept = {name: disk.writes for name, disk in world.machines[BETA].disks.items()}
    discard(mover(world, here), find(mover(world, here)), ALPHA)
    assert world.machines[ALPHA].snapshots == ["state", "tools"] and not world.machines[BETA].snapshots
    assert {name: disk.writes for name, disk in world.machines[ALPHA].disks.items()} == kept
    assert world.serving() == BETA
    assert mover(world).named().state is PairState.HEALTHY
    assert find(mover(world)).partings == ()


def test_a_side_that_cannot_be_asked_is_not_weighed(world: World) -> None:
    world.network = False
    with pytest.raises(StepFailed):
        find(mover(world))


def test_sides_of_which_one_was_written_are_connected_without_loss() -> None:
    world = World(pair())
    assert mover(world).up().done
    for name in world.resources:
        world.machines[BETA].alone.add(name)
    world.write()
    found = find(mover(world))
    assert found.partings and not found.split
    assert {parting.lineage for parting in found.partings} == {Lineage.NEWER}
    reconnect(mover(world), found)
    assert mover(world).named().state is PairState.HEALTHY
    assert all(world.acknowledged <= disk.writes for disk in world.machines[BETA].disks.values())


def test_sides_that_do_not_meet_are_told(world: World) -> None:
    assert mover(world).down(OUTAGE).done
    world.link = False
    with pytest.raises(StepFailed) as raised:
        discard(mover(world), find(mover(world)), ALPHA)
    assert "after 60 s" in raised.value.report.text()


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(tmp_path: Path) -> PairCli:
    found = PairCli.of(tmp_path)
    split(found.world)
    return found


def test_the_command_shows_what_each_choice_loses_and_does_nothing(cli: PairCli) -> None:
    cli.world.log.clear()
    shown = cli.run("failover", "resolve")
    assert shown.exit_code == 3, shown.output
    assert "SPLIT BRAIN" in shown.output
    for node in ("alpha", "beta"):
        assert f"--discard {node}: loses" in shown.output
    assert not any(Do.DISCARD in moment or Do.CONNECT in moment for moment in cli.world.log)


def test_the_command_ends_it_as_a_person_decides(cli: PairCli) -> None:
    assert cli.run("failover", "down", "--allow-outage", "--yes").exit_code == 0
    done = cli.run("failover", "resolve", "--discard", "alpha", "--yes")
    assert done.exit_code == 0, done.output
    assert cli.run("failover", "status").exit_code == 0
    again = cli.run("failover", "resolve")
    assert again.exit_code == 0 and "nothing to resolve" in again.output


def test_nobody_gives_up_a_side_without_being_asked(cli: PairCli) -> None:
    cli.run("failover", "down", "--allow-outage", "--yes")
    assert cli.run("failover", "resolve", "--discard", "alpha").exit_code == 2
    assert cli.run("failover", "resolve", "--discard", "gamma", "--yes").exit_code == 2
    assert cli.json("failover", "resolve")["split"] == ["state", "tools"]


# --- whose data is newer ---------------------------------------------------------------------------------------------


def ids(*numbers: int) -> Generations:
    """Current, bitmap, history; the lowest bit only says that the side was Primary."""
    words = [f"{number:016X}" for number in (*numbers, *[0] * (4 - len(numbers)))]
    return Generations(words[0], words[1], (words[2], words[3]))


LINEAGES = [
    (ids(0xA0), ids(0xA1), Lineage.SAME),
    (ids(0xB0, 0xA0), ids(0xA1), Lineage.NEWER),
    (ids(0xC0, 0, 0xA0), ids(0xA0), Lineage.NEWER),
    (ids(0xA0), ids(0xB0, 0xA0), Lineage.OLDER),
    (ids(0xB0, 0xA0), ids(0xC0, 0xA0), Lineage.DIVERGED),
    (ids(0xB0, 0, 0xA0), ids(0xC0, 0xA0), Lineage.DIVERGED),
    (ids(0xB0), ids(0xC0), Lineage.UNRELATED),
    (ids(0xB0, 0xA0), ids(0xC0, 0xD0), Lineage.UNRELATED),
    (ids(4), ids(4), Lineage.EMPTY),
    (ids(4), ids(0xA0), Lineage.OLDER),
    (ids(0xA0), ids(4), Lineage.NEWER),
]


@pytest.mark.parametrize(("own", "other", "wanted"), LINEAGES)
def test_generations_say_whose_data_is_newer(own: Generations, other: Generations, wanted: Lineage) -> None:
    assert compare(own, other) is wanted


def test_the_comparison_is_the_same_from_the_other_side() -> None:
    turned = {Lineage.NEWER: Lineage.OLDER, Lineage.OLDER: Lineage.NEWER}
    for own, other, wanted in LINEAGES:
        assert compare(other, own) is turned.get(wanted, wanted)
