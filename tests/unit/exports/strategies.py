"""Random worlds for the exports planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import strategies as st

from labstore.exports.desired import desired
from labstore.exports.facts import ExportFacts
from labstore.exports.grants import Doubt, Grant, GrantTable
from labstore.exports.guards import guard
from labstore.exports.plan import ExportPlan, ExportStep, after, granted_after, path_of, plan_exports
from labstore.model.address import Client
from labstore.model.cloud import Instance, Presence, Project
from labstore.model.exports import Export
from labstore.model.names import ExportPath
from labstore.model.site import WantedExport
from labstore.ports.export_server import Served
from labstore.ports.inventory import RegionView, Snapshot
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from tests.laws import Planner
from tests.support.fake_clock import START
from tests.support.fakes import instance
from tests.support.small_site import CLUSTER, project, site
from tests.support.small_site import path_of as share_path

NAMES = ("tools", "maps", "cvn")
REGIONS = ("r1", "r2")
ADDRESSES = tuple(f"10.0.0.{n}" for n in range(1, 9))
NO = SourceFailed("cloud", "it", "401")


def missing() -> Missing:
    return Missing(NO, "cloud", START)


@st.composite
def instances(draw: st.DrawFn, region: str) -> list[Instance]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        addresses = draw(st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True))
        made.append(
            instance(
                f"i{number}-{region}",
                f"p-{draw(st.sampled_from(NAMES))}",
                *addresses,
                region=region,
                status=draw(st.sampled_from(("ACTIVE", "ACTIVE", "SHUTOFF", "UNKNOWN", "SOFT_DELETED"))),
                created=draw(st.one_of(st.none(), st.sampled_from([START + timedelta(hours=h) for h in range(3)]))),
                told=draw(st.sampled_from((True, True, True, False))),
            )
        )
    return made


@st.composite
def regions(draw: st.DrawFn, name: str) -> RegionView:
    if draw(st.sampled_from((False, False, False, True))):
        return RegionView(name, {}, missing(), {}, 2)
    by_project: dict[str, list[Instance]] = {}
    for each in draw(instances(name)):
        by_project.setdefault(each.project_id, []).append(each)
    answers: dict[str, Answer[tuple[Instance, ...]]] = {
        each: Fact(tuple(found), "cloud", START) for each, found in by_project.items()
    }
    for each in draw(st.lists(st.sampled_from(NAMES), max_size=1)):
        answers[f"p-{each}"] = missing()
    others: Answer[tuple[Instance, ...]] = Fact((), "cloud", START)
    deleted = {f"id-i{n}-{name}": START for n in draw(st.lists(st.integers(0, 7), max_size=2))}
    return RegionView(name, answers, others, deleted, draw(st.integers(1, 3)))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    projects: Answer[Mapping[str, Project]] = missing()
    if draw(st.sampled_from((True, True, False))):
        names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
        projects = Fact({f"p-{name}": Project(f"p-{name}", name) for name in names}, "cloud", START)
    views = {name: draw(regions(name)) for name in REGIONS}
    return Snapshot(START, "cloud", projects, views, Fact(REGIONS, "cloud", START))


@st.composite
def grant_tables(draw: st.DrawFn, wanted: Sequence[WantedExport]) -> GrantTable:
    exports: dict[ExportPath, Export] = {}
    grants: dict[ExportPath, dict[Client, Grant]] = {}
    for each in wanted:
        clients = draw(st.sets(st.sampled_from(ADDRESSES), max_size=4))
        exports[each.path] = Export(each.owner, each.path, each.options)
        grants[each.path] = {
            Client(address): Grant(
                each.path,
                Client(address),
                "instance",
                START - timedelta(days=1),
                f"p-{each.owner}",
                f"id-i{draw(st.integers(0, 7))}-{(region := draw(st.sampled_from(REGIONS)))}",
                "some",
                region,
            )
            for address in sorted(clients)
        }
    return GrantTable(exports, grants)


@st.composite
def export_facts(draw: st.DrawFn) -> ExportFacts:
    declared = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    small = site([project(name, 50000 + number) for number, name in enumerate(NAMES)])
    all_wanted = small.wanted(CLUSTER)
    granted = draw(grant_tables(all_wanted))
    wanted = tuple(each for each in all_wanted if each.owner in declared)
    presence = {
        f"id-i{number}-{region}": draw(st.sampled_from(tuple(Presence)))
        for region in REGIONS
        for number in draw(st.sets(st.integers(0, 7), max_size=3))
    }
    drift = draw(st.sets(st.sampled_from([share_path(name) for name in NAMES]), max_size=1))
    return ExportFacts(
        at=START,
        cluster=CLUSTER,
        wanted=wanted,
        settings=small.exports,
        snapshot=draw(snapshots()),
        granted=granted,
        served=Served(granted.table, 1, True, tuple(drift)),
        active=draw(
            st.sampled_from((Fact(True, "n", START), Fact(True, "n", START), Fact(False, "n", START), missing()))
        ),
        volumes={each.volume.name: Fact(VolumeState.FIT, "n", START) for each in wanted},
        presence=presence,
        doubts={
            (path, client): Doubt(path, client, grant.region, draw(st.integers(0, 3)), START)
            for path, grants in granted.grants.items()
            for client, grant in grants.items()
            if draw(st.booleans())
        },
    )


def plan(facts: ExportFacts) -> ExportPlan:
    goal = desired(facts)
    return guard(facts, goal, plan_exports(facts, goal))


def carried_out(facts: ExportFacts, steps: Sequence[ExportStep]) -> ExportFacts:
    table = after(facts.served.stored, steps)
    touched = {path_of(step) for step in steps}
    return replace(
        facts,
        granted=granted_after(facts, desired(facts), table),
        served=replace(
            facts.served, stored=table, drift=tuple(path for path in facts.served.drift if path not in touched)
        ),
    )


def removed(facts: ExportFacts, made: ExportPlan) -> frozenset[str]:
    return frozenset(f"{path_of(step)} {client}" for step in made.steps for client in step.removes)


def undecided(facts: ExportFacts) -> frozenset[str]:
    """Grants about which nobody answered, and against which nothing else speaks."""
    held: set[str] = set()
    declared = {each.path for each in facts.wanted}
    shown: dict[Client, set[str]] = {}
    for each in facts.snapshot.instances():
        for entry in each.addresses or ():
            shown.setdefault(entry.address, set()).add(each.project_id)
    for path, grants in facts.granted.grants.items():
        for client, grant in grants.items():
            region: datetime | RegionView = facts.snapshot.regions[grant.region]
            assert isinstance(region, RegionView)
            elsewhere = shown.get(client, set()) - {grant.project_id}
            said = grant.instance_id in region.deleted or elsewhere or path not in declared
            if isinstance(region.of(grant.project_id), Missing) and not said:
                held.add(f"{path} {client}")
    return frozenset(held)


EXPORTS = Planner(
    "exports", Export, export_facts(), plan, carried_out, removed, undecided, lambda facts: facts.served.stored
)
