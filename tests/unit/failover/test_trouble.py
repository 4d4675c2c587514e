"""What goes wrong in the middle of a move (acceptance 7): it stops there, says what it is, and there is a way on and a
way back."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labstore.failover.cluster import PairMover, Wish
from labstore.failover.node import LocalNode
from labstore.failover.places import Places
from labstore.failover.states import PairState
from labstore.model.drbd import DiskState
from labstore.model.failover import Pair
from labstore.model.names import HostName
from labstore.ports.storage_node import Entry, Event
from labstore.reports.report import Override, Severity
from tests.support.fake_cluster import World
from tests.support.small_pair import ALPHA, BETA, TOOLS, pair


def mover(world: World, here: HostName = ALPHA) -> PairMover:
    seen = Pair(world.pair.cluster, world.pair.settings, here)
    return PairMover(seen, world.node(here), world.node(world.other(here)).over_network(), world.clock)


@pytest.fixture
def world() -> World:
    found = World(pair())
    assert mover(found).up().done
    found.write()
    return found


# --- a server that does not end --------------------------------------------------------------------------------------


def test_a_stuck_server_stops_the_move_within_its_deadline_and_before_anything_is_unmounted(world: World) -> None:
    world.machines[ALPHA].stuck = True
    began = world.clock.monotonic()
    run = mover(world).down()
    assert not run.done
    deadline = world.pair.settings.deadlines.server
    assert deadline <= world.clock.monotonic() - began < 2 * deadline
    assert [report.code for report in run.reports] == ["failover-step-not-done"]
    assert "it was done, and is not seen to be so" in run.reports[0].text()
    me = world.machines[ALPHA]
    assert me.mounted and me.recovery and me.addresses, "nothing that comes after it was begun"


def test_from_a_stuck_server_one_goes_back_to_serving(world: World) -> None:
    world.machines[ALPHA].stuck = True
    mover(world).down()
    named = mover(world).named()
    assert named.state is PairState.HALF_DOWN and "labstore failover abort" in named.next
    world.machines[ALPHA].stuck = False
    assert mover(world).abort().done
    assert world.serving() == ALPHA


def test_or_goes_on_when_it_has_ended(world: World) -> None:
    world.machines[ALPHA].stuck = True
    mover(world).down()
    world.machines[ALPHA].stuck = False
    assert mover(world).down().done
    assert mover(world, BETA).up().done and world.serving() == BETA


def test_a_stuck_switchover_leaves_the_other_node_without_an_address(world: World) -> None:
    world.machines[ALPHA].stuck = True
    assert not mover(world).switchover().done
    assert not world.machines[BETA].addresses and not world.machines[BETA].mounted
    world.machines[ALPHA].stuck = False
    assert mover(world).abort().done and world.serving() == ALPHA
    assert all(world.acknowledged <= disk.writes for disk in world.machines[ALPHA].disks.values())


# --- a disk that is full ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [ALPHA, BETA])
def test_a_journal_that_cannot_be_written_is_told_and_stops_no_move(world: World, full: HostName) -> None:
    """Clients are waiting by then; whether a step is done is looked up, never read from the journal."""
    world.machines[full].disk_full = True
    run = mover(world).switchover()
    assert run.done and world.serving() == BETA
    (said,) = [report for report in run.reports if report.code == "not-journaled"]
    assert said.severity is not Severity.ERROR and "No space left on device" in said.text()


def local(tmp_path: Path, state: Path) -> LocalNode:
    """This machine, as far as its journal goes."""
    observer: Any = SimpleNamespace(places=Places(pair(), tmp_path, state), name=ALPHA)
    node = object.__new__(LocalNode)
    node.observer = observer
    return node


ENTRY = Entry("2026-05-29T11:54:00+00:00", "r1", Event.RUN, "", {"verb": "down"})


def test_a_journal_that_somebody_replaced_by_a_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "primary.journal").symlink_to(tmp_path / "elsewhere")
    (said,) = local(tmp_path, tmp_path).note(ENTRY)
    assert said.code == "not-journaled" and "alpha" in said.text()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (said,) = local(tmp_path, tmp_path / "file" / "below").note(ENTRY)
    assert said.code == "not-journaled"


def test_a_journal_with_room_says_nothing(tmp_path: Path) -> None:
    node = local(tmp_path, tmp_path / "state")
    assert node.note(ENTRY) == () and node.journal.entries() == (ENTRY,)
    assert node.note(replace(ENTRY, event=Event.END)) == ()
    assert node.journal.unfinished() == ()


def test_a_run_whose_end_finds_no_room_does_not_look_unfinished(tmp_path: Path) -> None:
    """The next switchover would take it for one to be finished, and go nowhere (seen on a full disk)."""
    node = local(tmp_path, tmp_path)
    node.note(ENTRY, replace(ENTRY, event=Event.END))
    second = replace(ENTRY, run="r2", data={"verb": "switchover to beta"})
    node.note(second)
    (tmp_path / "primary.journal").open("a").write('{"at": "half of a li')
    assert node.journal.unfinished() == (second,)
    with no_room(tmp_path / "primary.journal"):
        (said,) = node.note(replace(second, event=Event.END))
    assert said.code == "not-journaled"
    assert node.journal.unfinished() == () and node.journal.entries()[0] == ENTRY


@contextlib.contextmanager
def no_room(file: Path) -> Iterator[None]:
    """No file of this process can be longer than this one is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- a partner that is not whole -------------------------------------------------------------------------------------


def test_half_a_copy_is_never_promoted(world: World) -> None:
    """A secondary that is Inconsistent while it resyncs, and the active node is taken down or dies."""
    for disk in world.machines[BETA].disks.values():
        disk.state = DiskState.INCONSISTENT
    refused = mover(world).switchover()
    assert refused.refused and world.serving() == ALPHA
    assert not mover(world).down().done and world.serving() == ALPHA
    assert mover(world).down(Wish(frozenset({Override.ALLOW_OUTAGE}))).done
    taken = mover(world, BETA).up(Wish(frozenset(Override)))
    assert not taken.done and not world.machines[BETA].mounted
    assert mover(world).up().done and world.serving() == ALPHA


# --- somebody who holds a volume -------------------------------------------------------------------------------------


def test_a_busy_volume_is_told_before_clients_are_cut_off_and_evicted_only_if_allowed(world: World) -> None:
    world.machines[ALPHA].holders[TOOLS] = "process 4711 bash: cwd /srv/tools"
    refused = mover(world).down()
    assert refused.refused and world.serving() == ALPHA
    assert "process 4711 bash" in refused.refused[0].text()
    assert mover(world).down(Wish(frozenset({Override.EVICT}))).done
