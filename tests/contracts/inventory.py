"""What every Inventory does. A subclass gives `twin`: a source of projects and instances in the hands of a test."""

from __future__ import annotations

from typing import Protocol

import pytest

from labstore.model.cloud import AddressKind, Instance, Presence
from labstore.ports.inventory import Inventory, Snapshot
from labstore.reconcile.facts import Fact, Missing


class InventoryTwin(Protocol):
    """A source that can be changed and broken behind the inventory's back."""

    inventory: Inventory

    def enrol(self, project: str) -> str:
        """A project without instances; returns its id."""

    def boot(self, project: str, name: str, *addresses: str, floating: str | None = None) -> None:
        """An instance, in a project that may be new."""

    def delete(self, name: str) -> None:
        """The instance is no more."""

    def settle(self) -> None:
        """Let so much time go by that the source stands by what it says."""

    def break_down(self) -> None:
        """The source as a whole gives no answers."""

    def heal(self) -> None: ...


def named(snapshot: Snapshot) -> dict[str, Instance]:
    return {instance.name: instance for instance in snapshot.instances()}


def addresses(instance: Instance) -> dict[str, AddressKind]:
    return {entry.address: entry.kind for entry in instance.addresses or ()}


def project_names(snapshot: Snapshot) -> dict[str, str]:
    assert isinstance(snapshot.projects, Fact)
    return {project.name: id_ for id_, project in snapshot.projects.value.items()}


class InventoryContract:
    """Inherit, and give the fixture `twin`."""

    @pytest.fixture
    def twin(self) -> InventoryTwin:
        raise NotImplementedError

    @pytest.fixture
    def stocked(self, twin: InventoryTwin) -> InventoryTwin:
        twin.boot("tools", "tools-bastion-12", "172.16.1.11", floating="203.0.113.213")
        twin.boot("tools", "tools-worker-1", "172.16.1.13", "2001:db8:aaa::13")
        twin.boot("maps", "maps-tiles1", "172.16.2.21")
        twin.enrol("noinstances")
        return twin

    def test_a_listing_shows_every_instance_with_its_project_and_addresses(self, stocked: InventoryTwin) -> None:
        snapshot = stocked.inventory.listing()
        assert snapshot.missing() == ()
        seen, ids = named(snapshot), project_names(snapshot)
        assert {name: instance.project_id for name, instance in seen.items()} == {
            "tools-bastion-12": ids["tools"],
            "tools-worker-1": ids["tools"],
            "maps-tiles1": ids["maps"],
        }
        assert addresses(seen["tools-bastion-12"]) == {
            "172.16.1.11": AddressKind.FIXED,
            "203.0.113.213": AddressKind.FLOATING,
        }
        assert addresses(seen["tools-worker-1"]) == {
            "172.16.1.13": AddressKind.FIXED,
            "2001:db8:aaa::13": AddressKind.FIXED,
        }

    def test_every_instance_is_in_a_region_that_is_known(self, stocked: InventoryTwin) -> None:
        snapshot = stocked.inventory.listing()
        assert isinstance(snapshot.regions_known, Fact)
        assert set(snapshot.regions_known.value) == set(snapshot.regions)
        assert {instance.region for instance in snapshot.instances()} <= set(snapshot.regions)

    def test_no_instances_is_a_fact_where_the_list_was_whole(self, stocked: InventoryTwin) -> None:
        snapshot = stocked.inventory.listing()
        for region in snapshot.regions.values():
            for project in (project_names(snapshot)["noinstances"], "nobody-knows-this"):
                answer = region.of(project)
                assert isinstance(answer, Fact)
                assert answer.value == ()

    def test_changes_bring_a_new_instance_and_keep_the_others(self, stocked: InventoryTwin) -> None:
        first = stocked.inventory.listing()
        stocked.boot("maps", "maps-new", "172.16.2.99")
        second = stocked.inventory.changes(first)
        assert set(named(second)) == {*named(first), "maps-new"}
        assert addresses(named(second)["maps-new"]) == {"172.16.2.99": AddressKind.FIXED}

    def test_changes_bring_an_instance_of_a_new_project(self, stocked: InventoryTwin) -> None:
        first = stocked.inventory.listing()
        stocked.boot("brandnew", "brandnew-1", "172.16.3.1")
        assert "brandnew-1" in named(stocked.inventory.changes(first))

    def test_an_instance_that_was_deleted_goes_with_proof(self, stocked: InventoryTwin) -> None:
        first = stocked.inventory.listing()
        gone = named(first)["tools-worker-1"]
        stocked.delete("tools-worker-1")
        stocked.settle()
        second = stocked.inventory.changes(first)
        assert set(named(second)) == {"tools-bastion-12", "maps-tiles1"}
        declared = gone.id in second.regions[gone.region].deleted
        assert declared or stocked.inventory.confirm([gone]).get(gone.id) in (Presence.GONE, None)

    def test_confirm_tells_the_living_from_the_gone(self, stocked: InventoryTwin) -> None:
        seen = named(stocked.inventory.listing())
        stocked.delete("maps-tiles1")
        stocked.settle()
        asked = [seen["maps-tiles1"], seen["tools-bastion-12"], seen["tools-worker-1"]]
        answers = stocked.inventory.confirm(asked)
        assert answers.get(seen["maps-tiles1"].id) in (Presence.GONE, None), "None: it says nothing about absences"
        assert answers[seen["tools-bastion-12"].id] is Presence.PRESENT
        assert answers[seen["tools-worker-1"].id] is Presence.PRESENT

    def test_confirm_of_nothing_is_nothing(self, stocked: InventoryTwin) -> None:
        stocked.inventory.listing()
        assert stocked.inventory.confirm([]) == {}

    def test_two_looks_at_one_listing_have_one_number_and_two_listings_two(self, stocked: InventoryTwin) -> None:
        stocked.settle()
        first = stocked.inventory.listing()
        second = stocked.inventory.changes(first)
        third = stocked.inventory.listing()
        numbers = [{region.listing for region in each.regions.values()} for each in (first, second, third)]
        assert numbers[0] == numbers[1]
        assert min(numbers[2]) > max(numbers[1])

    def test_a_source_that_fails_is_missing_not_empty(self, stocked: InventoryTwin) -> None:
        seen = named(stocked.inventory.listing())
        stocked.break_down()
        for snapshot in (stocked.inventory.listing(), stocked.inventory.listing()):
            assert snapshot.missing()
            assert isinstance(snapshot.projects, Missing)
            assert set(snapshot.regions) == {instance.region for instance in seen.values()}
            for region in snapshot.regions.values():
                assert isinstance(region.of(seen["maps-tiles1"].project_id), Missing)
                assert isinstance(region.others, Missing)
                assert region.deleted == {}
        asked = stocked.inventory.confirm(list(seen.values()))
        assert set(asked.values()) == {Presence.UNKNOWN}

    def test_a_source_that_fails_between_listings_is_missing_too(self, stocked: InventoryTwin) -> None:
        first = stocked.inventory.listing()
        stocked.break_down()
        second = stocked.inventory.changes(first)
        assert second.missing()
        assert named(second) == {}
        for region in second.regions.values():
            assert isinstance(region.others, Missing)

    def test_a_source_that_fails_from_the_start_is_missing(self, stocked: InventoryTwin) -> None:
        stocked.break_down()
        snapshot = stocked.inventory.listing()
        assert isinstance(snapshot.projects, Missing)
        assert isinstance(snapshot.regions_known, Missing)
        assert snapshot.regions == {}

    @pytest.mark.parametrize("full", [True, False])
    def test_a_source_that_heals_is_believed_again(self, stocked: InventoryTwin, full: bool) -> None:
        first = stocked.inventory.listing()
        stocked.break_down()
        broken = stocked.inventory.changes(first)
        stocked.boot("maps", "maps-meanwhile", "172.16.2.98")
        stocked.heal()
        healed = stocked.inventory.listing() if full else stocked.inventory.changes(broken)
        assert healed.missing() == ()
        assert set(named(healed)) == {*named(first), "maps-meanwhile"}
