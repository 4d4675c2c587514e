"""The inventory in a file: read when it changes, and an absence believed only when the file has settled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labstore.model.cloud import Presence
from labstore.reconcile.facts import Missing
from labstore.sources.static import SETTLED, FileInventory
from tests.support.fake_clock import FakeClock

TWO = "projects: {tools: {instances: {one: 10.0.0.1, two: 10.0.0.2}}}\n"
ONE = "projects: {tools: {instances: {one: 10.0.0.1}}}\n"


class Lab:
    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock()
        self.inventory = FileInventory(path, self.clock)

    def write(self, text: str) -> None:
        """In place, as editors do, with the fake clock's time."""
        self.path.write_text(text)
        os.utime(self.path, (self.clock.now().timestamp(),) * 2)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "inventory.yaml")
    lab.write(TWO)
    return lab


def test_an_untouched_file_is_not_read_again(lab: Lab) -> None:
    first = lab.inventory.listing()
    second = lab.inventory.changes(first)
    assert (first.requests, second.requests) == (1, 0)
    assert second.regions is first.regions


def test_a_touched_file_with_the_same_content_is_not_parsed_again(lab: Lab) -> None:
    first = lab.inventory.listing()
    os.utime(lab.path, (0, 0))
    second = lab.inventory.changes(first)
    assert second.instances() == first.instances()


def test_a_change_is_seen_though_somebody_else_looked_first(lab: Lab) -> None:
    first = lab.inventory.listing()
    lab.write(ONE)
    lab.inventory.confirm(first.instances())
    assert len(lab.inventory.changes(first).instances()) == 1


def test_half_a_file_that_is_valid_takes_nothing_away_before_it_settles(lab: Lab) -> None:
    both = lab.inventory.listing().instances()
    lab.write(ONE)
    lab.inventory.listing()
    assert lab.inventory.confirm(both)["tools/two"] is Presence.UNKNOWN
    lab.clock.advance(SETTLED)
    assert lab.inventory.confirm(both) == {"tools/one": Presence.PRESENT}, "a file says nothing about an absence"


def test_a_file_that_was_left_alone_for_long_counts_as_a_listing_at_first_sight(lab: Lab) -> None:
    lab.write(ONE)
    lab.clock.advance(3600)
    first, later = (FileInventory(lab.path, lab.clock) for _ in range(2))
    one = next(iter(first.listing().regions.values())).listing
    lab.clock.advance(1)
    assert next(iter(later.listing().regions.values())).listing > one > 0, "also in another process"


def test_a_file_that_keeps_changing_never_settles(lab: Lab) -> None:
    both = lab.inventory.listing().instances()
    for number in range(5):
        lab.write(ONE + f"# {number}\n")
        lab.clock.advance(SETTLED / 2)
        assert lab.inventory.confirm(both)["tools/two"] is Presence.UNKNOWN


def test_only_listings_of_a_settled_file_count_as_several(lab: Lab) -> None:
    first, second = lab.inventory.listing(), lab.inventory.listing()
    assert first.regions["local"].listing == second.regions["local"].listing
    lab.clock.advance(SETTLED)
    assert lab.inventory.listing().regions["local"].listing > second.regions["local"].listing


@pytest.mark.parametrize("broken", [None, "", "projects: {tools: {inst", "- 1\n", "\x00"], ids=repr)
def test_a_file_that_cannot_be_taken_is_missing_with_the_reason(lab: Lab, broken: str | None) -> None:
    lab.inventory.listing()
    if broken is None:
        lab.path.unlink()
    else:
        lab.write(broken)
    snapshot = lab.inventory.listing()
    assert isinstance(snapshot.projects, Missing)
    assert str(lab.path) in snapshot.projects.report.message()
    assert isinstance(snapshot.regions["local"].others, Missing)


def test_the_place_of_a_problem_is_in_the_report(lab: Lab) -> None:
    lab.write("projects:\n  tools: {instances: {one: '*'}}\n")
    answer = lab.inventory.listing().projects
    assert isinstance(answer, Missing)
    assert f"{lab.path}:2:" in answer.report.message()


def test_a_directory_is_no_inventory(tmp_path: Path) -> None:
    assert isinstance(FileInventory(tmp_path, FakeClock()).listing().projects, Missing)
