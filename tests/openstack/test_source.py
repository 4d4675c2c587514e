"""The OpenStack source against the real OpenStack: what it must see, and what no fault may make it believe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labstore.model.cloud import Instance, Presence
from labstore.model.site import OpenStackSettings
from labstore.ports.inventory import Snapshot
from labstore.reconcile.facts import Fact, Missing
from labstore.sources.openstack import OpenStackInventory
from labstore.sources.openstack.manners import Manners
from labstore.sources.openstack.reports import OnlyOwnProjects, WrongScope
from labstore.system.clock import SystemClock
from tests.openstack.cloud import REGIONS, Lab, Undo
from tests.openstack.faults import FAULTS, NOTHING, Blind, Fault, provoked, stock_policy

MANNERS = Manners(fresh_token=3.0, rest=(2.0,))
SETTLED = 120.0
"""Seconds within which a fault is seen for what it is: caches of roles live a second, a dead cell is given up on in
four, and the machine may be busy."""
HEALED = 60.0
"""Seconds within which everything is known again after a fault is undone."""
PROMPT = 10.0
"""Seconds within which a new or deleted instance is seen."""


def inventory(lab: Lab, cloud: str = "novaobserver", deadline: float = 20.0) -> OpenStackInventory:
    settings = OpenStackSettings(cloud=cloud, clouds_file=Path(lab.clouds), call_deadline=deadline)
    return OpenStackInventory(settings, SystemClock(), MANNERS)


def told(snapshot: Snapshot, region: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    """What is known for a fact of a region, in the words of expected.json."""
    assert isinstance(snapshot.projects, Fact)
    names = {id_: project.name for id_, project in snapshot.projects.value.items()}
    seen: dict[str, dict[str, dict[str, list[str]]]] = {}
    for id_, name in names.items():
        answer = snapshot.regions[region].of(id_)
        if isinstance(answer, Fact):
            seen[name] = {instance.name: _addresses(instance) for instance in answer.value}
    return seen


def _addresses(instance: Instance) -> dict[str, list[str]]:
    entries = instance.addresses or ()
    return {
        kind: sorted(str(entry.address) for entry in entries if entry.kind == kind) for kind in ("fixed", "floating")
    }


def assert_complete(snapshot: Snapshot, lab: Lab) -> None:
    assert snapshot.missing() == ()
    for region in REGIONS:
        seen = told(snapshot, region)
        assert {name: seen[name] for name in lab.expected()} == lab.expected()
        assert not any(seen[name] for name in seen.keys() - lab.expected().keys())


def complete(snapshot: Snapshot, lab: Lab) -> bool:
    try:
        assert_complete(snapshot, lab)
    except AssertionError:
        return False
    return True


def until(look: Callable[[], bool], seconds: float) -> float:
    started = time.monotonic()
    while not look():
        assert time.monotonic() - started < seconds, f"not so after {seconds:g} s"
        time.sleep(0.5)
    return time.monotonic() - started


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_every_project_in_both_regions_is_as_neutron_says(lab: Lab) -> None:
    source = inventory(lab)
    first = source.listing()
    assert_complete(first, lab)
    assert_complete(source.changes(first), lab)
    print(f"\n{len(first.instances())} instances in {len(first.regions)} regions, {first.requests} requests")


def test_under_stock_policy_every_project_is_as_neutron_says(lab: Lab) -> None:
    with provoked(Fault("stock policy", stock_policy, NOTHING), lab):
        snapshot = inventory(lab).listing()
        for region in REGIONS:
            assert told(snapshot, region) == lab.expected()
            others = snapshot.regions[region].others
            assert isinstance(others, Missing)
            assert isinstance(others.report, OnlyOwnProjects)


@pytest.mark.parametrize("scope", ["system", "domain"])
def test_a_login_of_another_scope_is_refused(lab: Lab, scope: str) -> None:
    snapshot = inventory(lab, f"novaobserver-{scope}").listing()
    assert isinstance(snapshot.projects, Missing)
    assert snapshot.projects.report == WrongScope(f"novaobserver-{scope}", scope)
    assert snapshot.instances() == []


def temporary(lab: Lab, request: pytest.FixtureRequest, name: str, wait: bool = True) -> str:
    """A server of maps that is gone after the test, however that ends."""
    server = lab.boot("maps", name, wait=wait)
    request.addfinalizer(lambda: lab.delete("maps", server))
    return server


def test_a_new_server_and_a_deleted_one_are_seen_within_seconds(lab: Lab, request: pytest.FixtureRequest) -> None:
    source = inventory(lab)
    snapshot = source.listing()
    server = temporary(lab, request, "brief", wait=False)

    def admitted() -> bool:
        nonlocal snapshot
        snapshot = source.changes(snapshot)
        found = [each for each in snapshot.instances() if each.id == server]
        return len(found) == len(REGIONS) and all(each.addresses for each in found)

    def gone() -> bool:
        nonlocal snapshot
        snapshot = source.changes(snapshot)
        return all(server in region.deleted for region in snapshot.regions.values())

    seen = until(admitted, PROMPT)
    lab.delete("maps", server, wait=False)
    lost = until(gone, PROMPT)
    assert server not in {each.id for each in snapshot.instances()}
    print(f"\nseen with its addresses {seen:.1f} s after create, declared deleted {lost:.1f} s after delete")


def test_a_floating_address_is_seen_by_the_next_listing(lab: Lab) -> None:
    source = inventory(lab)
    server = next(each for each in source.listing().instances() if each.name == "maps-tiles1")
    undo = Undo()
    try:
        address = lab.give_floating("maps", server.id)
        undo.later(lambda: lab.take_floating("maps", address))

        def seen() -> bool:
            found = next(each for each in source.listing().instances() if each.id == server.id)
            return len(found.addresses or ()) == 2

        until(seen, PROMPT)
    finally:
        undo.now()
    until(lambda: complete(source.listing(), lab), HEALED)


def test_the_living_are_told_from_the_gone_whatever_their_project(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Nova answers 404 for a living server of another project: an observer must not believe it."""
    source = inventory(lab)
    server = temporary(lab, request, "confirmed")
    instances = source.listing().instances()
    assert set(source.confirm(instances).values()) == {Presence.PRESENT}
    lab.delete("maps", server)
    answers = source.confirm(instances)
    assert {id_ for id_, presence in answers.items() if presence is Presence.GONE} == {server}
    assert Presence.UNKNOWN not in answers.values()


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_fault_makes_anything_absent(lab: Lab, fault: Fault) -> None:
    source = inventory(lab, deadline=fault.deadline)
    until(lambda: complete(source.listing(), lab), HEALED)
    before = source.listing()
    with provoked(fault, lab):
        assert_nothing_is_absent(before, source.changes(before))
        blind = until(lambda: is_blind(before, looked(before, source), fault.blind), SETTLED)
        said = source.listing().missing()
        assert Presence.GONE not in source.confirm(one_of_each(before)).values()
        assert_restart_is_harmless(lab, before, fault)
    healed = until(lambda: complete(source.listing(), lab), HEALED)
    words = "; ".join(sorted({answer.report.message() for answer in said}))[:300]
    print(f"\n{fault.name}: known after {blind:.1f} s, healed after {healed:.1f} s; said: {words or 'nothing'}")


def looked(before: Snapshot, source: OpenStackInventory) -> Snapshot:
    snapshot = source.listing()
    assert_nothing_is_absent(before, snapshot)
    return snapshot


def one_of_each(snapshot: Snapshot) -> list[Instance]:
    """An instance of every project in every region."""
    return list({(each.region, each.project_id): each for each in snapshot.instances()}.values())


def assert_restart_is_harmless(lab: Lab, before: Snapshot, fault: Fault) -> None:
    """An inventory that has not looked before sees no absence either, or at least does not confirm it."""
    fresh = inventory(lab, deadline=fault.deadline)
    snapshot = fresh.listing()
    if isinstance(snapshot.regions_known, Fact) and not fault.plausible:
        assert_nothing_is_absent(before, snapshot)
    assert Presence.GONE not in fresh.confirm(one_of_each(before)).values()


def assert_nothing_is_absent(before: Snapshot, after: Snapshot) -> None:
    """Each instance is seen, or its project's answer is Missing, in every region; nothing is declared deleted."""
    for name, region in before.regions.items():
        for project, answer in region.instances.items():
            assert isinstance(answer, Fact)
            assert not after.regions[name].deleted.keys() & {each.id for each in answer.value}
            now = after.regions[name].of(project)
            if isinstance(now, Fact):
                assert {each.id for each in answer.value} <= {each.id for each in now.value}


def is_blind(before: Snapshot, after: Snapshot, blind: Blind) -> bool:
    """Whether what is Missing is what the fault says, and no more."""
    assert isinstance(before.projects, Fact)
    if isinstance(after.projects, Missing) != blind.list_of_projects:
        return False
    for name, region in before.regions.items():
        for project, answer in region.instances.items():
            assert isinstance(answer, Fact)
            if not answer.value:
                continue
            hidden = name in blind.regions or before.projects.value[project].name in blind.projects
            now = after.regions[name].of(project)
            if isinstance(now, Missing) != hidden:
                return False
            if name in blind.untold and isinstance(now, Fact):
                old = {each.id for each in answer.value}
                assert all(each.addresses is None for each in now.value if each.id in old)
    return True
