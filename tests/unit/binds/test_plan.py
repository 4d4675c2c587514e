"""Which directories and mounts there shall be, and what is held back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labstore.binds.desired import desired, desired_directories
from labstore.binds.facts import Found, Seen
from labstore.binds.guards import guard_binds
from labstore.binds.plan import plan_binds
from labstore.model.binds import Kind, Thing
from labstore.model.names import ExportPath, ProjectName, VolumeName
from labstore.model.site import Site
from labstore.reconcile.facts import Fact
from labstore.reconcile.plan import Proof, Verb
from labstore.reports.report import Override
from tests.support.fake_clock import START
from tests.unit.binds.worlds import AWAY, BASE, FOREIGN, THERE, fact, facts, missing, site


@pytest.fixture
def found_site(tmp_path: Path) -> Site:
    return site(tmp_path)


def owned(things: tuple[Thing, ...]) -> dict[str, tuple[int, int, str]]:
    return {t.path.removeprefix(BASE): (t.owner, t.gid, f"{t.mode:04o}") for t in things if t.kind is Kind.DIRECTORY}


def keys(*paths: str) -> set[str]:
    return {f"directory:{BASE}{path}" for path in paths}


def test_each_share_has_its_directory_with_the_project_s_group(found_site: Site) -> None:
    """upstream 1.3: `home` and `project` inside of the exported directory."""
    assert owned(desired_directories(found_site, found_site.clusters[0])) == {
        "/misc/scratch": (0, 0, "0755"),
        "/misc/shared": (0, 0, "0755"),
        "/misc/shared/cvn": (0, 50116, "0755"),
        "/misc/shared/cvn/home": (0, 50116, "2775"),
        "/misc/shared/cvn/project": (0, 50116, "2775"),
        "/tools/maps": (0, 50196, "2775"),
        "/tools/shared": (0, 0, "0755"),
        "/tools/shared/tools": (0, 50380, "0755"),
        "/tools/shared/tools/home": (0, 50380, "2775"),
        "/tools/shared/tools/project": (0, 50380, "2775"),
    }


def test_parents_come_first_and_mounts_last(found_site: Site) -> None:
    things = desired(found_site, found_site.clusters[0])
    kinds = [thing.kind for thing in things]
    assert kinds == sorted(kinds, key=[Kind.DIRECTORY, Kind.BIND].index)
    paths = [thing.path for thing in things if thing.kind is Kind.DIRECTORY]
    assert all(path.rpartition("/")[0] not in paths[number:] for number, path in enumerate(paths))
    assert [(t.path, str(t.source).removeprefix(BASE)) for t in things if t.kind is Kind.BIND] == [
        ("/exp/project/cvn", "/misc/shared/cvn"),
        ("/exp/project/maps", "/tools/maps"),
        ("/exp/project/tools", "/tools/shared/tools"),
        ("/exp/scratch", "/misc/scratch"),
    ]


def test_without_an_export_root_there_are_no_mounts(tmp_path: Path) -> None:
    plain = site(tmp_path, root="")
    assert {thing.kind for thing in desired(plain, plain.clusters[0])} == {Kind.DIRECTORY}


def test_a_whole_volume_that_is_a_share_is_never_made(tmp_path: Path) -> None:
    text = site(tmp_path)
    (cluster,) = text.clusters
    assert all(thing.path not in (f"{BASE}/misc", f"{BASE}/tools") for thing in desired_directories(text, cluster))


def test_an_empty_volume_gets_all_of_it_and_mounts_what_it_makes(found_site: Site) -> None:
    plan = guard_binds(facts(found_site), plan_binds(facts(found_site)))
    assert len(plan.steps) == len(facts(found_site).wanted)
    assert not plan.refusals and not plan.untouched


def test_what_is_there_is_never_changed(found_site: Site) -> None:
    begin = facts(found_site)
    other = fact(Found(Seen.THERE, "", 0, 4711, 0o755))
    world = replace(begin, found=dict.fromkeys(begin.found, THERE) | dict.fromkeys(keys("/tools/maps"), other))
    plan = plan_binds(world)
    assert not plan.steps
    (said,) = [report for report in plan.reports if report.subject == f"{BASE}/tools/maps"]
    assert "0:4711 0755" in said.message() and "0:50196 2775" in said.message()


def test_what_is_foreign_stops_what_lies_in_it_and_nothing_else(found_site: Site) -> None:
    begin = facts(found_site)
    (at,) = keys("/misc/shared/cvn")
    plan = plan_binds(replace(begin, found={**begin.found, at: FOREIGN}))
    held = {at, *keys("/misc/shared/cvn/home", "/misc/shared/cvn/project"), "bind:/exp/project/cvn"}
    assert set(plan.untouched) == held
    assert {step.key for step in plan.steps} == set(begin.found) - held
    assert [report.code for report in plan.reports] == ["directory-foreign"]


def test_what_cannot_be_looked_at_is_left(found_site: Site) -> None:
    """DESIGN law 1"""
    begin = facts(found_site)
    (at,) = keys("/misc/shared")
    plan = plan_binds(replace(begin, found={**begin.found, at: missing()}))
    assert all("/misc/shared" not in step.key for step in plan.steps)
    assert "Input/output error" in plan.untouched[at]


def test_nothing_is_made_on_a_volume_that_is_not_mounted(found_site: Site) -> None:
    """upstream #13"""
    begin = facts(found_site)
    world = replace(begin, volumes={**begin.volumes, VolumeName("misc"): AWAY})
    plan = guard_binds(world, plan_binds(world))
    assert plan.steps and all("/misc" not in step.key and "/exp/scratch" not in step.key for step in plan.steps)
    assert [refusal.report.message() for refusal in plan.refusals] == [
        "volume misc: not mounted; nothing is made on it"
    ]


@pytest.mark.parametrize("answer", [missing("group"), Fact(50117, "name service", START)])
def test_a_group_in_doubt_holds_that_project_alone(found_site: Site, answer: Fact[int]) -> None:
    begin = facts(found_site)
    world = replace(begin, groups={**begin.groups, ProjectName("cvn"): answer})
    plan = guard_binds(world, plan_binds(world))
    held = {*keys("/misc/shared/cvn", "/misc/shared/cvn/home", "/misc/shared/cvn/project"), "bind:/exp/project/cvn"}
    assert {step.key for step in plan.steps} == set(begin.found) - held
    (refusal,) = plan.refusals
    assert "project-cvn" in refusal.report.text()


def test_where_nothing_is_to_be_made_no_group_matters(found_site: Site) -> None:
    begin = facts(found_site)
    world = replace(
        begin,
        found=dict.fromkeys(begin.found, THERE),
        groups={ProjectName("cvn"): missing()},
        without_source=frozenset(),
    )
    assert not guard_binds(world, plan_binds(world)).refusals


def test_a_mount_without_its_directory_says_so(found_site: Site) -> None:
    begin = facts(found_site)
    binds = tuple(thing for thing in begin.wanted if thing.kind is Kind.BIND)
    plan = plan_binds(replace(begin, wanted=binds, without_source=frozenset({ExportPath(f"{BASE}/tools/maps")})))
    assert "bind:/exp/project/maps" in plan.untouched
    assert len(plan.steps) == len(binds) - 1
    assert [report.code for report in plan.reports] == ["bind-source-absent"]


def obsolete(count: int) -> tuple[Thing, ...]:
    return tuple(Thing(Kind.BIND, ExportPath(f"/exp/project/p{n}"), VolumeName("misc")) for n in range(count))


def test_mounts_that_nobody_wants_go_and_say_on_whose_word(found_site: Site) -> None:
    plan = plan_binds(facts(found_site, extra=obsolete(2)))
    gone = [step for step in plan.steps if step.verb is Verb.REMOVE]
    assert [step.key for step in gone] == ["bind:/exp/project/p0", "bind:/exp/project/p1"]
    assert gone[0].removes == {"/exp/project/p0": Proof.DECLARED}
    assert plan.steps[:2] == tuple(gone)


def test_most_of_a_tree_goes_only_if_a_person_says_so(found_site: Site) -> None:
    """DESIGN law 2"""
    world = facts(found_site, extra=obsolete(6))
    plan = guard_binds(world, plan_binds(world))
    assert not [step for step in plan.steps if step.verb is Verb.REMOVE]
    (refusal,) = plan.refusals
    assert refusal.report.override is Override.ALLOW_MASS_REMOVAL
    allowed = guard_binds(world, plan_binds(world), frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert len([step for step in allowed.steps if step.verb is Verb.REMOVE]) == 6
