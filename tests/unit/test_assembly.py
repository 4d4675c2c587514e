"""From a site to concrete objects: the only place where that happens."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from labstore.assembly import (
    ExportsRoom,
    SiteFiles,
    SiteSource,
    StateElsewhere,
    cluster_here,
    exports_lock,
    from_site_file,
    history_file,
    inventory_of,
    server_of,
)
from labstore.exports.backends.ganesha import NfsGanesha
from labstore.exports.backends.knfsd import Knfsd
from labstore.model.site import Site
from labstore.ports.node import VolumeState
from labstore.reports.in_file import BadFile, Origin
from labstore.sources.static import FileInventory
from labstore.system.exportfs import RootExportfs, SudoExportfs
from labstore.system.locks import Locked
from tests.support.cli_world import CliWorld
from tests.support.fake_clock import FakeClock


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    return CliWorld.of(tmp_path)


class Clockwork:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def source(world: CliWorld, clock: Clockwork | None = None) -> SiteSource:
    return SiteSource(from_site_file(world.site_file), world.site_file, monotonic=clock or Clockwork())


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- the site source -------------------------------------------------------------------------------------------------


def test_files_are_read_again_when_they_change_and_only_then(world: CliWorld) -> None:
    reads = 0
    inner = from_site_file(world.site_file)

    def read() -> SiteFiles:
        nonlocal reads
        reads += 1
        return inner()

    site = SiteSource(read, world.site_file)
    assert site() is site()
    assert reads == 1
    rewrite(world.site_file, "gid: 50380", "gid: 50381")
    assert site().project("tools").gid == 50381
    assert (site().project("tools").gid, reads) == (50381, 2)


def test_a_mistake_keeps_the_last_good_site_and_is_told_until_it_is_put_right(world: CliWorld) -> None:
    """upstream #3, #6"""
    site = source(world)
    good = site()
    rewrite(world.site_file, "gid: 50380", "gid: -3")
    assert site() is good
    assert any("gid" in report.message() for report in site.concerns())
    assert site() is good
    rewrite(world.site_file, "gid: -3", "gid: 50381")
    assert site().project("tools").gid == 50381
    assert site.concerns() == ()


def test_a_file_that_vanishes_is_a_mistake_like_any_other(world: CliWorld) -> None:
    site = source(world)
    good, text = site(), world.site_file.read_text()
    world.site_file.unlink()
    assert site() is good
    assert site.concerns()
    world.site_file.write_text(text)
    assert site() == good
    assert not site.concerns()


def test_mounts_files_are_watched_too(world: CliWorld) -> None:
    mounts = world.base / "mounts.yaml"
    mounts.write_text("private:\n  extra: {gid: 50999, mounts: {project: true}}\npublic: {}\n")
    world.site_file.write_text(world.site_file.read_text() + "projects_file: mounts.yaml\n")
    site = source(world)
    assert site().project("extra").gid == 50999
    rewrite(mounts, "50999", "50998")
    assert site().project("extra").gid == 50998


def test_what_was_wrong_elsewhere_is_tried_again_after_a_while(world: CliWorld) -> None:
    """A mounts file that the site file newly names and that is not there yet: its coming changes no stat we know."""
    clock = Clockwork()
    site = source(world, clock)
    site()
    world.site_file.write_text(world.site_file.read_text() + "projects_file: mounts.yaml\n")
    site()
    assert site.concerns()
    (world.base / "mounts.yaml").write_text("private: {}\npublic: {}\n")
    clock.now = 14.0
    site()
    assert site.concerns()
    clock.now = 16.0
    site()
    assert not site.concerns()


def test_the_first_reading_must_succeed(world: CliWorld) -> None:
    world.site_file.write_text("site: [\n")
    with pytest.raises(BadFile):
        source(world)


def test_a_site_without_our_cluster_is_not_taken(world: CliWorld) -> None:
    site = source(world)
    room = ExportsRoom(site, "primary", "test", hands=world.hands)
    good = site()
    text = world.site_file.read_text()
    world.site_file.write_text(text.replace("primary", "renamed"))
    assert site() is good
    assert "primary, which is served here, is no longer there" in site.concerns()[0].message()
    assert room.cycle().observer.cluster.name == "primary"


# --- which cluster ---------------------------------------------------------------------------------------------------


def test_the_node_says_which_cluster(world: CliWorld) -> None:
    site = source(world)()
    assert cluster_here(site, node="labstore1.example.org").name == "primary"
    assert cluster_here(site, "primary", "elsewhere").name == "primary"
    for name, node in ((None, "elsewhere"), ("nothing", "labstore1")):
        with pytest.raises(BadFile):
            cluster_here(site, name, node)


def test_a_single_cluster_without_nodes_is_everybody_s(world: CliWorld) -> None:
    rewrite(world.site_file, "    nodes: {labstore1: {}, labstore2: {}}\n", "")
    assert cluster_here(source(world)(), node="anything").name == "primary"


# --- the parts -------------------------------------------------------------------------------------------------------


def test_parts_are_made_of_what_the_site_says(world: CliWorld) -> None:
    site = source(world)()
    server = server_of(site, site.clusters[0], FakeClock())
    assert isinstance(server, Knfsd)
    assert server.store == world.base / "state/exports/primary/knfsd"
    assert isinstance(server.exportfs, RootExportfs if os.geteuid() == 0 else SudoExportfs)
    assert isinstance(inventory_of(site.inventory, FakeClock()), FileInventory)


def test_ganesha_is_made_where_the_cluster_runs_it(world: CliWorld) -> None:
    rewrite(world.site_file, "  primary:\n", "  primary:\n    backend: ganesha\n")
    site = source(world)()
    server = server_of(site, site.clusters[0], FakeClock())
    assert isinstance(server, NfsGanesha)
    assert server.store == world.base / "state/exports/primary/ganesha"


def test_a_room_is_made_anew_only_when_its_parts_change(world: CliWorld) -> None:
    room = ExportsRoom(source(world), "primary", "test", hands=world.hands)
    first = room.cycle()
    first.run()
    rewrite(world.site_file, "gid: 50380", "gid: 50381")
    assert room.cycle() is first, "projects are read by the same reconciler"
    rewrite(world.site_file, "172.16.0.10", "172.16.0.11")
    second = room.cycle()
    assert second is not first
    assert (second.number, second.observer.cluster.service_addresses) == (1, ("172.16.0.11",))


def test_a_dry_room_leaves_no_trace(world: CliWorld) -> None:
    room = ExportsRoom(source(world), "primary", "test", dry=True, hands=world.hands)
    room.cycle().propose()
    assert not (world.base / "state").exists()


def test_a_pair_remembers_on_the_volume_that_moves(world: CliWorld) -> None:
    room = ExportsRoom(SiteSource(world.as_pair(), world.site_file), "primary", "test", hands=world.hands)
    room.cycle().run()
    assert history_file(room.source(), "primary") == world.base / "srv/.labstore/exports/history.sqlite"
    assert history_file(room.source(), "primary").exists()


@pytest.mark.parametrize("state", [VolumeState.NOT_MOUNTED, VolumeState.WRONG_FILESYSTEM, VolumeState.READ_ONLY])
def test_nothing_is_written_where_that_volume_is_not_mounted(world: CliWorld, state: VolumeState) -> None:
    world.node.volumes["misc"] = state
    room = ExportsRoom(SiteSource(world.as_pair(), world.site_file), "primary", "test", hands=world.hands)
    with pytest.raises(StateElsewhere, match=state.value):
        room.cycle()
    assert not (world.base / "srv").exists()


def test_the_history_is_made_where_it_belongs(world: CliWorld) -> None:
    site = source(world)
    ExportsRoom(site, "primary", "test", hands=world.hands).cycle().run()
    assert history_file(site(), "primary") == world.base / "state/exports/primary/history.sqlite"
    assert history_file(site(), "primary").exists()


def test_a_lock_is_waited_for_and_then_given_up(world: CliWorld) -> None:
    site = source(world)()
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    with (
        exports_lock(site, "primary", "one"),
        pytest.raises(Locked, match="one, pid"),
        exports_lock(site, "primary", "two", 0.2, pause),
    ):
        pass
    assert len(waits) >= 2


def test_origins_are_named(world: CliWorld) -> None:
    with pytest.raises(BadFile, match=r"site\.yaml: there is no cluster x"):
        cluster_here(source(world)(), "x", file="site.yaml")


def unfit(_site: Site) -> None:
    raise BadFile([Origin("x").problem("no", "do")])


def test_a_site_that_does_not_fit_at_first_is_refused(world: CliWorld) -> None:
    with pytest.raises(BadFile):
        SiteSource(from_site_file(world.site_file), world.site_file, unfit)
