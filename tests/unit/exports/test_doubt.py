"""What is not known decides nothing: neither against a client nor for a stranger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labstore.exports.history import Pin
from labstore.model.address import Client
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ProjectName
from labstore.reconcile.record import Record, State
from labstore.reports.exports import ForeignFile
from labstore.reports.report import Override
from tests.support.fakes import REGION, instance
from tests.support.small_site import World, path_of, project, site, three_projects

SUBNET, MAPS_INSIDE = Client("172.16.1.0/24"), "172.16.1.200"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return three_projects(tmp_path)


def codes(record: Record) -> set[str]:
    return {report.code for report in record.reports}


@pytest.mark.parametrize("named", [(), ("tools", "tools")], ids=["by no name", "by two"])
def test_adopted_clients_stay_while_it_is_not_known_whose_the_share_is(tmp_path: Path, named: tuple[str, ...]) -> None:
    """A wrong domain in the site file hides a project; its own instances are no strangers for that."""
    world = World.of(tmp_path, site([project("tools", 50380)]))
    for number, name in enumerate(named):
        world.inventory.add_project(name, id_=f"p-{number}")
    world.inventory.add_project("called otherwise", id_="p-tools")
    addresses = [f"172.16.1.{number}" for number in range(11, 15)]
    for address in addresses:
        world.inventory.add(instance(f"i-{address}", "p-tools", address))
    (wanted,) = world.site.wanted("primary")
    adopted = ExportTable((Export.of("tools", path_of("tools"), addresses, wanted.options),))
    world.server.stored = world.server.live = adopted
    world.server.generation = 1
    for _ in range(3):
        world.clock.advance(301)
        record = world.cycle.run(full=True)
        assert record.state is not State.CONVERGED
    assert world.clients("tools") == tuple(addresses)


def test_another_instance_of_the_project_may_have_the_address_of_a_deleted_one(world: World) -> None:
    """Nothing was written down when it took the place: no client changed."""
    world.inventory.delete("tools-3")
    world.inventory.add(instance("tools-again", "p-tools", "172.16.1.13"))
    world.clock.advance(3)
    assert world.cycle.run().state is State.CONVERGED
    world.inventory.broken = {f"{REGION}/p-tools"}
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.HOLDING and "172.16.1.13" in world.clients("tools")
    world.inventory.broken.clear()
    world.inventory.delete("tools-again")
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools"), "all answers are there again"


@pytest.mark.parametrize("broken", [f"{REGION}/p-maps", REGION, "projects"])
def test_a_network_is_not_opened_while_it_is_not_known_who_lives_in_it(world: World, broken: str) -> None:
    world.inventory.add(instance("maps-4", "p-maps", MAPS_INSIDE))
    world.declare(settings=replace(world.site.exports, subnets={ProjectName("tools"): (SUBNET,)}))
    world.clock.advance(3)
    assert "subnet-contested" in codes(world.cycle.run())
    world.inventory.broken = {broken}
    world.clock.advance(301)
    world.cycle.run()
    assert not any(Client(client).covers(Client(MAPS_INSIDE)) for client in world.clients("tools"))


def test_who_had_an_address_loses_it_to_nobody_who_was_there_before_because_he_cannot_be_seen(world: World) -> None:
    """Nova shows the address of tools-3 for a while after maps-4 got it: the younger one has it."""
    world.clock.advance(60)
    world.inventory.add(instance("maps-4", "p-maps", "172.16.1.13"))
    world.clock.advance(3)
    world.cycle.run()
    assert "172.16.1.13" in world.clients("maps") and "172.16.1.13" not in world.clients("tools")
    world.inventory.broken = {f"{REGION}/p-maps"}
    world.clock.advance(301)
    world.cycle.run()
    assert "172.16.1.13" in world.clients("maps") and "172.16.1.13" not in world.clients("tools")
    world.clock.advance(60)
    world.inventory.add(instance("tools-9", "p-tools", "172.16.1.13"))
    world.clock.advance(3)
    world.cycle.run()
    assert "172.16.1.13" in world.clients("tools"), "a later claim is a positive sight"
    assert "172.16.1.13" not in world.clients("maps")


def test_one_server_that_shows_everybodys_addresses_takes_the_share_from_nobody(tmp_path: Path) -> None:
    """Ports on a network of one's own may have any address."""
    world = World.of(tmp_path, site([project(f"p{n}", 50000 + n) for n in range(30)]))
    addresses = []
    for n in range(30):
        id_ = world.inventory.add_project(f"p{n}")
        for k in range(4):
            addresses.append(f"172.16.{n}.{k + 1}")
            world.inventory.add(instance(f"p{n}-{k}", id_, addresses[-1]))
    world.clock.advance(60)
    world.cycle.run()
    world.inventory.add(instance("many", world.inventory.add_project("mallory"), *addresses))
    world.clock.advance(3)
    record = world.cycle.run()
    assert record.state is State.REFUSED and {"mass-removal", "address-contested"} <= codes(record)
    assert sum(len(world.clients(f"p{n}")) for n in range(30)) == 120
    world.cycle.run(overrides=frozenset({Override.ALLOW_MASS_REMOVAL, Override.ALLOW_EMPTY}))
    assert sum(len(world.clients(f"p{n}")) for n in range(30)) == 0


def test_more_deletions_than_are_asked_for_are_said_with_the_word_that_lets_them_go(tmp_path: Path) -> None:
    world = World.of(tmp_path, site([project("tools", 50380)]))
    id_ = world.inventory.add_project("tools")
    names = [f"i{number}" for number in range(800)]
    for number, name in enumerate(names):
        world.inventory.add(instance(name, id_, f"172.16.{number // 200}.{number % 200 + 1}"))
    world.clock.advance(60)
    world.cycle.run()
    world.inventory.announces = False
    for name in names[:401]:
        world.inventory.delete(name)
    world.clock.advance(301)
    record = world.cycle.run(full=True)
    assert "many-missed" in codes(record) and len(world.clients("tools")) == 800
    assert world.inventory.calls == 0, "a list that lies costs no request for each"
    (said,) = [report for report in record.reports if report.code == "many-missed"]
    assert "401 instances" in said.text() and "--allow-mass-removal" in said.text()
    world.cycle.run(full=True, overrides=frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert len(world.clients("tools")) == 399


def test_a_pin_that_ran_out_is_forgotten_and_asks_for_nobody(world: World) -> None:
    newest = world.history.newest()
    assert newest is not None
    world.inventory.announces = False
    world.inventory.delete("tools-3")
    for _ in range(3):
        world.clock.advance(301)
        world.cycle.run(full=True)
    assert "172.16.1.13" not in world.clients("tools")
    world.history.set_pin(Pin(newest, world.clock.now() + timedelta(seconds=60), "op@host", "a look"))
    world.clock.advance(61)
    world.inventory.calls = 0
    world.cycle.run(full=True)
    assert (world.inventory.calls, world.history.pin()) == (0, None)


@pytest.mark.parametrize("file", ["/archive/tools", "/etc/exports.d/tools"])
def test_what_is_not_the_projects_file_holds_up_nothing_of_it(world: World, file: str) -> None:
    world.server.foreign = (ForeignFile(file, "it exports to 3 clients"),)
    world.inventory.delete("tools-3")
    world.clock.advance(3)
    record = world.cycle.run()
    assert "172.16.1.13" not in world.clients("tools")
    assert "file-not-ours" not in codes(record)
