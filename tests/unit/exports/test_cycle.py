"""What a cycle of exports does with what the world shows it, on fakes. Failure modes of the original by number."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labstore.exports.history import Pin
from labstore.model.address import Client
from labstore.model.cloud import Project
from labstore.model.names import ExportPath, ProjectName
from labstore.model.site import Brake, BrakeLimits, Expect, ExportsSettings
from labstore.ports.export_server import PartlyServed
from labstore.ports.node import VolumeState
from labstore.reconcile.record import Outcome, Record, State
from labstore.reports.exports import ApplyFailed, ForeignFile
from labstore.reports.report import Override
from tests.support.fakes import REGION, instance, refusing
from tests.support.small_site import World, path_of, project, public, site, three_projects


@pytest.fixture
def world(tmp_path: Path) -> World:
    return three_projects(tmp_path)


def codes(record: Record) -> set[str]:
    return {report.code for report in record.reports}


def test_every_instance_of_a_project_mounts_its_share_and_no_other(world: World) -> None:
    assert world.clients("tools") == tuple(f"172.16.1.{n}" for n in range(11, 17))
    assert world.clients("maps") == ("172.16.2.11", "172.16.2.12", "172.16.2.13")
    assert world.clients("cvn") == ("172.16.3.11",)


def test_a_cycle_without_change_writes_nothing_and_calls_nobody(world: World) -> None:
    for _ in range(3):
        record = world.cycle.run()
        assert record.state is State.CONVERGED
    assert (world.server.calls, world.server.writes) == (0, 0)  # upstream #11


def test_a_new_instance_is_admitted_by_the_next_poll(world: World) -> None:
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.clock.advance(3)
    world.cycle.run()
    assert "172.16.1.17" in world.clients("tools")
    assert world.server.calls == 1


def test_a_deleted_instance_is_cut_off_by_the_next_poll(world: World) -> None:
    world.inventory.delete("tools-3")
    world.clock.advance(3)
    record = world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")
    assert record.steps[0]["removes"] == {"172.16.1.13": "gone"}  # upstream #9


def test_the_only_instance_of_a_project_is_cut_off_when_the_cloud_says_deleted(world: World) -> None:
    world.inventory.delete("cvn-1")
    world.clock.advance(3)
    world.cycle.run()
    assert world.clients("cvn") == ()


@pytest.mark.parametrize("broken", ["projects", REGION, f"{REGION}/p-tools"])
def test_a_failed_answer_removes_nothing_and_is_said_loudly(world: World, broken: str) -> None:
    before = world.table()
    world.inventory.instances.clear()
    world.inventory.broken = {broken, REGION} if broken == "projects" else {broken, f"{REGION}/p-maps"}
    world.inventory.broken |= {f"{REGION}/p-cvn"}
    for _ in range(10):
        world.clock.advance(301)
        record = world.cycle.run()
        assert record.state is State.HOLDING  # upstream #1, #2
        assert "source-failed" in codes(record)
    assert world.table() == before


def test_one_projects_failure_does_not_stop_the_others(world: World) -> None:
    world.inventory.broken = {f"{REGION}/p-tools"}
    world.inventory.add(instance("maps-4", "p-maps", "172.16.2.14"))
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.2.14" in world.clients("maps")  # upstream #3
    assert len(world.clients("tools")) == 6


def test_a_project_that_vanished_from_the_identity_service_keeps_its_clients(world: World) -> None:
    del world.inventory.projects["p-maps"]
    world.clock.advance(301)
    record = world.cycle.run()
    assert len(world.clients("maps")) == 3
    assert "project-gone" in codes(record)


def test_a_disabled_project_keeps_its_clients(world: World) -> None:
    world.inventory.add_project("maps", enabled=False)
    world.clock.advance(301)
    record = world.cycle.run()
    assert len(world.clients("maps")) == 3
    assert "project-disabled" in codes(record)


def test_an_instance_missing_from_a_listing_but_there_when_asked_for_is_kept(world: World) -> None:
    world.inventory.hidden = {"id-tools-2"}
    for _ in range(5):
        world.clock.advance(301)
        record = world.cycle.run()
    assert "172.16.1.12" in world.clients("tools")
    assert "absence-contradicted" in codes(record)


def test_absence_that_cannot_be_confirmed_is_doubt_for_ever(world: World) -> None:
    world.inventory.hidden, world.inventory.truthful = {"id-tools-2"}, False
    for _ in range(5):
        world.clock.advance(301)
        record = world.cycle.run()
    assert "172.16.1.12" in world.clients("tools")
    assert record.state is State.HOLDING


def test_an_address_that_left_a_living_instance_goes_after_two_complete_listings(world: World) -> None:
    world.inventory.add(instance("tools-2", "p-tools", "172.16.1.99"))
    world.clock.advance(3)
    world.cycle.run()
    assert "172.16.1.99" in world.clients("tools")
    assert "172.16.1.12" in world.clients("tools"), "one listing is not enough"
    world.clock.advance(301)
    world.cycle.run()
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.1.12" not in world.clients("tools")


def test_two_looks_at_one_listing_are_not_two_listings(world: World) -> None:
    world.declare(settings=replace(world.site.exports, poll=1000.0, listing=1000.0))
    world.inventory.add(instance("tools-2", "p-tools", "172.16.1.99"))
    for _ in range(5):
        world.clock.advance(1)
        world.cycle.run()
    assert "172.16.1.12" in world.clients("tools")


def test_doubt_survives_a_restart_of_the_daemon(world: World) -> None:
    world.inventory.add(instance("tools-2", "p-tools", "172.16.1.99"))
    world.clock.advance(301)
    world.cycle.run()
    world.start()
    world.clock.advance(5)
    world.cycle.run()
    assert "172.16.1.12" not in world.clients("tools")


@pytest.mark.parametrize("status", ["UNKNOWN", "BUILD", "ERROR"])
def test_an_instance_whose_addresses_are_not_told_keeps_what_it_had(world: World, status: str) -> None:
    world.inventory.add(instance("tools-2", "p-tools", status=status, told=False))
    for _ in range(5):
        world.clock.advance(301)
        world.cycle.run()
    assert "172.16.1.12" in world.clients("tools")


def test_an_address_that_moved_to_another_project_changes_hands_in_one_step(world: World) -> None:
    world.inventory.announces = False
    world.inventory.delete("tools-3")
    world.clock.advance(60)
    world.inventory.add(instance("maps-4", "p-maps", "172.16.1.13"))
    record = world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")  # upstream #9
    assert "172.16.1.13" in world.clients("maps")
    assert record.steps[0]["removes"] == {"172.16.1.13": "moved"}, "the revocation comes first"
    assert world.server.calls == 1


def test_of_two_projects_that_show_an_address_the_later_instance_wins(world: World) -> None:
    world.clock.advance(60)
    world.inventory.add(instance("maps-4", "p-maps", "172.16.1.13"))
    record = world.cycle.run()
    assert "172.16.1.13" in world.clients("maps")
    assert "172.16.1.13" not in world.clients("tools")
    assert "address-contested" in codes(record)


def test_of_two_projects_whose_claims_cannot_be_ordered_neither_is_admitted_anew(world: World) -> None:
    now = world.clock.now()
    world.inventory.add(instance("maps-4", "p-maps", "172.16.9.9", created=now))
    world.inventory.add(instance("tools-7", "p-tools", "172.16.9.9", created=now))
    record = world.cycle.run()
    assert "172.16.9.9" not in world.clients("maps") + world.clients("tools")
    assert "address-contested" in codes(record)


def test_a_new_project_of_an_old_name_does_not_inherit_the_share(world: World) -> None:
    del world.inventory.projects["p-maps"]
    world.inventory.add_project("maps", id_="p-impostor")
    world.inventory.add(instance("evil", "p-impostor", "172.16.66.6"))
    world.clock.advance(301)
    record = world.cycle.run()
    assert "172.16.66.6" not in world.clients("maps")
    assert record.state is State.REFUSED
    assert "project-identity-changed" in codes(record)
    world.cycle.run(overrides=frozenset({Override.ALLOW_PROJECT_IDENTITY}))
    assert "172.16.66.6" in world.clients("maps")


def test_two_projects_of_one_name_admit_nobody_new(world: World) -> None:
    world.inventory.add_project("maps", id_="p-maps-other-domain")
    world.inventory.add(instance("evil", "p-maps-other-domain", "172.16.66.6"))
    world.clock.advance(301)
    record = world.cycle.run()
    assert len(world.clients("maps")) == 3
    assert "project-ambiguous" in codes(record)


def test_half_of_the_listing_missing_is_braked_even_if_the_cloud_confirms_it(world: World) -> None:
    world.inventory.announces = False
    for number in (1, 2, 3, 4):
        world.inventory.delete(f"tools-{number}")
    world.declare(settings=replace(world.site.exports, brake=Brake(proven=BrakeLimits(0.5, 0.3, 200, 2))))
    world.clock.advance(301)
    record = world.cycle.run()
    assert len(world.clients("tools")) == 6  # upstream #4
    assert record.state is State.REFUSED
    assert "mass-removal" in codes(record)
    record = world.cycle.run(overrides=frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert world.clients("tools") == ("172.16.1.15", "172.16.1.16")
    assert record.state is State.CONVERGED


def test_the_brake_does_not_keep_newcomers_waiting(world: World) -> None:
    world.declare([project("tools", 50380), project("cvn", 50116)])
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.REFUSED
    assert len(world.clients("maps")) == 3
    assert "172.16.1.17" in world.clients("tools")


def test_the_last_client_does_not_go_on_absence_alone(world: World) -> None:
    world.inventory.add(instance("cvn-1", "p-cvn", "172.16.99.1"))
    world.declare(settings=replace(world.site.exports, allow_networks=(Client("172.16.0.0/20"),)))
    for _ in range(4):
        world.clock.advance(301)
        record = world.cycle.run()
    assert world.clients("cvn") == ("172.16.3.11",)
    assert "last-client" in codes(record)
    world.declare([replace(each, expect=Expect.NONE) for each in world.site.projects])
    world.clock.advance(301)
    world.cycle.run()
    assert world.clients("cvn") == ()


def test_a_project_without_instances_is_exported_to_nobody(world: World) -> None:
    world.inventory.add_project("empty")
    world.declare([*world.site.projects, project("empty", 50999)])
    world.clock.advance(301)
    record = world.cycle.run()
    assert path_of("empty") not in world.table().by_path
    assert record.state is State.CONVERGED


def test_an_unknown_project_is_said_and_harms_nobody(world: World) -> None:
    world.declare([*world.site.projects, project("typo", 50999)])
    world.clock.advance(301)
    record = world.cycle.run()
    assert "project-unknown" in codes(record)
    assert len(world.table()) == 3


def test_nothing_is_exported_from_a_volume_that_is_not_mounted(world: World) -> None:
    world.node.volumes["misc"] = VolumeState.NOT_MOUNTED
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.inventory.delete("maps-1")
    world.clock.advance(3)
    record = world.cycle.run()
    assert "172.16.1.17" not in world.clients("tools")  # upstream #13
    assert "volume-unfit" in codes(record)
    assert "172.16.2.11" not in world.clients("maps"), "a revocation does not wait for a volume"


def test_a_standby_node_writes_nothing_and_asks_nobody(world: World) -> None:
    world.node.active = False
    world.inventory.instances.clear()
    listings = world.inventory.listings
    record = world.cycle.run(full=True)
    assert record.state is State.STANDBY  # upstream #12
    assert (world.server.calls, world.inventory.listings) == (0, listings)


def test_a_node_that_cannot_tell_its_role_changes_nothing(world: World) -> None:
    world.node.active = None
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.REFUSED
    assert world.server.calls == 0


def test_an_empty_table_is_never_right_unless_declared(tmp_path: Path) -> None:
    world = World.of(tmp_path, site([project("cvn", 50116)]))
    world.inventory.add_project("cvn")
    world.inventory.add(instance("cvn-1", "p-cvn", "172.16.3.11"))
    world.cycle.run()
    world.declare([])
    record = world.cycle.run(full=True, overrides=frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert "would-be-empty" in codes(record)  # upstream #5
    assert world.clients("cvn")
    world.declare(settings=replace(world.site.exports, expect_private=Expect.NONE))
    world.cycle.run(full=True, overrides=frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert not world.table()


def test_not_even_the_clouds_word_empties_the_table(world: World) -> None:
    for name in list(world.inventory.instances):
        world.inventory.delete(name.removeprefix("id-"))
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.REFUSED
    assert "would-be-empty" in codes(record)
    assert len(world.clients("tools")) == 6


def test_a_file_that_is_not_ours_is_left_and_the_others_go_on(world: World) -> None:
    world.server.foreign = (ForeignFile("/etc/exports.d/new.exports", "it exports to 3 clients"),)
    world.inventory.add_project("new")
    world.inventory.add(instance("new-1", "p-new", "172.16.4.11"))
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.declare([*world.site.projects, project("new", 50999)])
    world.clock.advance(301)
    record = world.cycle.run()
    assert {"file-not-ours", "foreign-file"} <= codes(record)  # upstream #7
    assert world.clients("new") == ()
    assert "172.16.1.17" in world.clients("tools")


def test_a_refused_admission_does_not_delay_a_revocation(world: World) -> None:
    world.inventory.delete("tools-3")
    world.inventory.add(instance("maps-4", "p-maps", "172.16.2.14"))
    refusals = iter([refusing(), lambda _step: None])
    trouble = next(refusals)

    def once(step: str) -> None:
        nonlocal trouble
        if step == "begin" and world.server.calls:
            trouble = next(refusals)
        trouble(step)

    world.server.trouble = once
    world.clock.advance(3)
    record = world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")
    assert record.state is State.FAILED
    assert {result.outcome for result in record.results} == {Outcome.DONE, Outcome.FAILED}


def test_one_path_that_was_wrong_before_fails_alone(world: World) -> None:
    """The generation is in force, and is remembered as such: a revocation elsewhere is done."""

    def wrong(step: str) -> None:
        if step == "told":
            raise PartlyServed(ApplyFailed("fake server", "maps is not served as wanted"), (path_of("maps"),), 1)

    world.server.trouble = wrong
    world.inventory.delete("tools-3")
    world.inventory.add(instance("maps-4", "p-maps", "172.16.2.14"))
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.FAILED
    outcomes = {result.key.split()[0]: result.outcome for result in record.results}
    assert outcomes == {str(path_of("tools")): Outcome.DONE, str(path_of("maps")): Outcome.FAILED}
    assert "172.16.1.13" not in world.clients("tools")
    assert world.history.newest() == world.server.generation
    assert world.cycle.run().state is State.CONVERGED
    world.inventory.delete("tools-4")
    world.clock.advance(3)
    assert world.cycle.run().state is State.FAILED, "it is said also where nothing was to be done there"


def test_addresses_outside_the_allowed_networks_are_said_and_not_exported(world: World) -> None:
    world.declare(settings=replace(world.site.exports, allow_networks=(Client("172.16.0.0/21"),)))
    world.inventory.add(instance("tools-7", "p-tools", "198.51.100.7"))
    world.clock.advance(3)
    record = world.cycle.run()
    assert "198.51.100.7" not in world.clients("tools")
    assert "address-not-allowed" in codes(record)


def test_a_project_that_owns_its_subnet_has_one_client(world: World) -> None:
    settings = replace(world.site.exports, subnets={ProjectName("tools"): (Client("172.16.1.0/24"),)})
    world.declare(settings=settings)
    world.clock.advance(3)
    record = world.cycle.run()
    assert world.clients("tools") == ("172.16.1.0/24",)
    assert all(not step["removes"] for step in record.steps), "covered is not removed"


def test_a_subnet_in_which_somebody_else_lives_is_not_exported(world: World) -> None:
    world.inventory.add(instance("maps-4", "p-maps", "172.16.1.200"))
    world.declare(settings=replace(world.site.exports, subnets={ProjectName("tools"): (Client("172.16.1.0/24"),)}))
    world.clock.advance(3)
    record = world.cycle.run()
    assert "172.16.1.0/24" not in world.clients("tools")
    assert "subnet-contested" in codes(record)
    assert len(world.clients("tools")) == 6


def test_public_shares_have_their_declared_clients(tmp_path: Path) -> None:
    world = World.of(tmp_path, site([], [public("scratch", "172.16.0.0/21"), public("dumps", world=True)]))
    record = world.cycle.run()
    assert record.state is State.CONVERGED
    scratch, dumps = (world.table().by_path[f"/srv/misc/{name}"] for name in ("scratch", "dumps"))  # type: ignore[index]
    assert scratch.clients == ("172.16.0.0/21",)
    assert not scratch.world
    assert dumps.world


def test_last_known_good_is_served_before_anything_is_asked(world: World) -> None:
    world.server.live = replace(world.server.live, exports=())
    world.inventory.broken = {"projects", REGION}
    listings = world.inventory.listings
    world.start()
    assert world.cycle.serve_first().calls == 1  # upstream #23
    assert len(world.clients("tools")) == 6
    assert world.inventory.listings == listings


def test_a_lost_exports_directory_is_restored_from_history(world: World) -> None:
    world.server.stored = world.server.live = replace(world.server.live, exports=())
    world.server.generation = None
    world.start()
    world.cycle.serve_first()
    assert len(world.clients("tools")) == 6


def test_a_lost_history_goes_on_above_the_number_on_file(world: World) -> None:
    on_file = world.server.generation
    assert on_file is not None
    world.history.close()
    for path in world.history_file.parent.glob("history.sqlite*"):
        path.unlink()
    world.start()
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    assert world.cycle.run().state is State.CONVERGED
    assert world.server.generation == on_file + 1
    assert "172.16.1.17" in world.clients("tools")
    assert len(world.clients("maps")) == 3


def with_subnet(world: World) -> None:
    """tools owns 172.16.1.0/24, by the inventory's word, and is granted it."""
    tools = world.inventory.projects["p-tools"]
    world.inventory.projects["p-tools"] = replace(tools, subnets=(Client("172.16.1.0/24"),))
    world.clock.advance(301)
    world.cycle.run()
    assert world.clients("tools") == ("172.16.1.0/24",)


@pytest.mark.parametrize("broken", ["projects", REGION])
def test_a_failed_source_does_not_take_a_projects_network(world: World, broken: str) -> None:
    with_subnet(world)
    world.inventory.broken = {broken}
    if broken == REGION:
        world.inventory.projects["p-tools"] = Project("p-tools", "tools")
    for _ in range(4):
        world.clock.advance(301)
        world.cycle.run()
    assert world.clients("tools") == ("172.16.1.0/24",)


def test_a_network_that_is_no_longer_the_projects_gives_way_to_single_addresses(world: World) -> None:
    with_subnet(world)
    world.inventory.projects["p-tools"] = Project("p-tools", "tools")
    world.clock.advance(301)
    world.cycle.run()
    assert len(world.clients("tools")) == 6


def test_a_stranger_in_a_network_ends_its_grant_at_once(world: World) -> None:
    with_subnet(world)
    world.inventory.add(instance("maps-9", "p-maps", "172.16.1.200"))
    world.clock.advance(3)
    world.cycle.run()
    assert len(world.clients("tools")) == 6
    assert "172.16.1.200" not in world.clients("tools")


def test_a_new_project_of_an_old_name_is_held_however_often_it_is_looked_at(world: World) -> None:
    del world.inventory.projects["p-maps"]
    world.inventory.add_project("maps", id_="p-impostor")
    for number in (1, 2, 3):
        world.inventory.delete(f"maps-{number}")
    world.inventory.add(instance("evil", "p-impostor", "172.16.66.6"))
    for _ in range(4):
        world.clock.advance(301)
        record = world.cycle.run()
    world.start()
    record = world.cycle.run()
    assert world.clients("maps") == ()
    assert "project-identity-changed" in codes(record)


def test_a_rollback_does_not_let_back_in_what_is_not_positively_there(world: World) -> None:
    first = world.history.newest()
    assert first is not None
    world.inventory.announces = False
    world.inventory.delete("tools-3")
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")
    world.history.set_pin(Pin(first, world.clock.now() + timedelta(hours=1), "op@host", "test"))
    world.server.calls = 0
    for _ in range(4):
        world.clock.advance(3)
        world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")
    assert world.server.calls == 0, "no flapping"
    world.inventory.broken = {"projects", REGION}
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")


def test_a_rollback_lets_back_in_who_is_positively_there(world: World) -> None:
    first = world.history.newest()
    assert first is not None
    world.declare(
        settings=replace(world.site.exports, allow_networks=(Client("172.16.2.0/24"), Client("172.16.3.0/24")))
    )
    world.clock.advance(3)
    world.cycle.run(overrides=frozenset(Override))
    assert world.clients("tools") == ()
    world.history.set_pin(Pin(first, world.clock.now() + timedelta(hours=1), "op@host", "test"))
    world.clock.advance(3)
    world.cycle.run()
    assert len(world.clients("tools")) == 6


def test_a_rollback_does_not_open_to_the_world_what_the_site_file_closed(tmp_path: Path) -> None:
    world = World.of(tmp_path, site([], [public("dumps", world=True)]))
    world.cycle.run()
    first = world.history.newest()
    assert first is not None
    world.site = replace(world.site, public=(public("dumps", "172.16.0.0/21"),))
    world.cycle.run(overrides=frozenset(Override))
    world.history.set_pin(Pin(first, world.clock.now() + timedelta(hours=1), "op@host", "test"))
    world.clock.advance(3)
    world.cycle.run(overrides=frozenset(Override))
    export = world.table().by_path.get(ExportPath("/srv/misc/dumps"))
    assert export is None or not export.world


def test_a_disabled_project_admits_nobody_new(world: World) -> None:
    world.inventory.add_project("maps", enabled=False)
    world.inventory.add(instance("maps-9", "p-maps", "172.16.2.99"))
    world.clock.advance(301)
    world.cycle.run()
    assert world.clients("maps") == ("172.16.2.11", "172.16.2.12", "172.16.2.13")


def test_any_is_as_right_as_some_where_the_site_file_says_so(world: World) -> None:
    world.declare([replace(each, expect=Expect.ANY) for each in world.site.projects])
    world.inventory.add(instance("cvn-1", "p-cvn", "172.16.99.1"))
    world.declare(settings=replace(world.site.exports, allow_networks=(Client("172.16.0.0/20"),)))
    for _ in range(4):
        world.clock.advance(301)
        world.cycle.run()
    assert world.clients("cvn") == ()


def test_a_pinned_generation_is_served_until_its_time_is_over(world: World) -> None:
    first = world.history.newest()
    assert first is not None
    world.inventory.delete("tools-3")
    world.inventory.add(instance("tools-7", "p-tools", "172.16.1.17"))
    world.clock.advance(3)
    world.cycle.run()
    world.history.set_pin(Pin(first, world.clock.now() + timedelta(hours=1), "op@host", "investigating"))
    record = world.cycle.run()
    assert "pinned" in codes(record)
    assert "172.16.1.17" not in world.clients("tools")
    assert "172.16.1.13" not in world.clients("tools"), "what is positively deleted does not come back"
    world.clock.advance(3601)
    world.cycle.run()
    assert "172.16.1.17" in world.clients("tools")


def test_a_project_that_is_renamed_keeps_its_identity_by_id(world: World) -> None:
    world.inventory.projects["p-maps"] = Project("p-maps", "maps-renamed")
    world.clock.advance(301)
    world.cycle.run()
    assert len(world.clients("maps")) == 3


def test_settings_have_sane_defaults() -> None:
    assert ExportsSettings().brake.absent.holds_overall(21, 10000)
    assert not ExportsSettings().brake.proven.holds_overall(10, 12)
