"""Sites with directories and an export tree, and random worlds for the planner."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from labstore.binds.desired import desired
from labstore.binds.facts import BindFacts, Found, Seen
from labstore.binds.guards import guard_binds
from labstore.binds.plan import BindPlan, BindStep, plan_binds
from labstore.config.load import load
from labstore.model.binds import BindsSettings, Kind, Thing
from labstore.model.names import ExportPath
from labstore.model.site import Site
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Verb
from labstore.reports.sources import SourceFailed
from tests.laws import Planner
from tests.support.fake_clock import START

SITE = """\
site: lab
clusters:
  primary:
    service_addresses: [172.16.0.10]
    nodes: {{labstore1: {{}}}}
    volumes:
      misc: {{mount: {base}/misc}}
      tools: {{mount: {base}/tools}}
    {root}
shares:
  project: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
  home: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
  tools-project: {{cluster: primary, volume: tools, path: shared/tools}}
  tools-home: {{cluster: primary, volume: tools, path: shared/tools}}
  maps: {{cluster: primary, volume: tools, path: maps}}
projects:
  tools: {{gid: 50380, shares: {{tools-project: true, tools-home: true}}}}
  maps: {{gid: 50196, shares: {{maps: true}}}}
  cvn: {{gid: 50116, shares: {{project: true, home: true}}}}
public:
  scratch: {{cluster: primary, volume: misc, path: scratch, clients: [172.16.0.0/21]}}
inventory: {{source: openstack}}
binds: {{group: "project-{{project}}"}}
"""
BASE = "/srv/binds-test"


def site(directory: Path, root: str = "/exp", base: str = BASE) -> Site:
    file = directory / "site.yaml"
    file.write_text(SITE.format(base=base, root=f"export_root: {root}" if root else ""))
    return load(file).site


def missing(what: str = "it") -> Missing:
    return Missing(SourceFailed("file system", what, "Input/output error"), "file system", START)


def fact(found: Found) -> Fact[Found]:
    return Fact(found, "file system", START)


ABSENT, THERE = fact(Found(Seen.ABSENT)), fact(Found(Seen.THERE))
FOREIGN = fact(Found(Seen.FOREIGN, "/srv/x is a symbolic link"))
FIT = Fact(VolumeState.FIT, "mountinfo", START)
AWAY = Fact(VolumeState.NOT_MOUNTED, "mountinfo", START)


def facts(found_site: Site, **more: object) -> BindFacts:
    """Nothing is there yet, and the groups agree."""
    cluster = found_site.clusters[0]
    wanted = desired(found_site, cluster)
    plain = BindFacts(
        settings=found_site.binds or BindsSettings(),
        wanted=wanted,
        found={thing.key: ABSENT for thing in wanted},
        volumes={volume.name: FIT for volume in cluster.volumes},
        without_source=frozenset(thing.source for thing in wanted if thing.source is not None),
        groups={project.name: Fact(project.gid, "name service", START) for project in found_site.projects},
    )
    return replace(plain, **more)  # type: ignore[arg-type]


# --- the laws --------------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn, plain: Sequence[BindFacts]) -> BindFacts:
    begin = draw(st.sampled_from(list(plain)))
    answers = st.sampled_from((ABSENT, ABSENT, THERE, FOREIGN, missing()))
    found: dict[str, Answer[Found]] = {thing.key: draw(answers) for thing in begin.wanted}
    for thing in begin.wanted:  # what lies in something that is not there is not there
        above = [t for t in begin.wanted if t.kind is Kind.DIRECTORY and _inside(thing, t)]
        if thing.kind is Kind.DIRECTORY and any(found[t.key] is ABSENT for t in above):
            found[thing.key] = ABSENT
    directories = {t.path: found[t.key] for t in begin.wanted if t.kind is Kind.DIRECTORY}
    sources = [t.source for t in begin.wanted if t.source is not None]
    without = frozenset(source for source in sources if directories.get(source) is not THERE)
    volumes = {name: draw(st.sampled_from((FIT, FIT, AWAY, missing()))) for name in begin.volumes}
    groups = {name: draw(st.sampled_from((answer, missing()))) for name, answer in begin.groups.items()}
    extra = tuple(
        Thing(Kind.BIND, ExportPath(f"/exp/project/gone{n}"), begin.wanted[0].volume)
        for n in range(draw(st.integers(0, 8)))
    )
    return replace(begin, found=found, volumes=volumes, groups=groups, extra=extra, without_source=without)  # type: ignore[arg-type]


def _inside(thing: Thing, outer: Thing) -> bool:
    return thing.path.startswith(f"{outer.path}/")


def after(world: BindFacts, steps: Sequence[BindStep]) -> BindFacts:
    found, extra, without = dict(world.found), list(world.extra), set(world.without_source)
    for step in steps:
        thing = step.before if step.verb is Verb.REMOVE else step.after
        assert thing is not None
        if step.verb is Verb.REMOVE:
            extra.remove(thing)
        else:
            have = Found(Seen.THERE, "", thing.owner, thing.gid, thing.mode)
            found[thing.key] = fact(have)
            without.discard(thing.path)
    return replace(world, found=found, extra=tuple(extra), without_source=frozenset(without))


def _plan(world: BindFacts) -> BindPlan:
    return guard_binds(world, plan_binds(world))


def _outcome(world: BindFacts) -> object:
    states = {key: answer.value.state for key, answer in world.found.items() if isinstance(answer, Fact)}
    return states, {thing.path for thing in world.extra}


def _removed(_: BindFacts, plan: BindPlan) -> frozenset[str]:
    return frozenset(name for step in plan.steps for name in step.removes)


def _undecided(world: BindFacts) -> frozenset[str]:
    return frozenset(t.path for t in world.wanted if not isinstance(world.found.get(t.key), Fact))


def _begins() -> tuple[BindFacts, ...]:
    with tempfile.TemporaryDirectory() as directory:
        return facts(site(Path(directory))), facts(site(Path(directory), root=""))


BINDS: Planner[BindFacts, Thing] = Planner(
    "binds", Thing, worlds(_begins()), _plan, after, _removed, _undecided, _outcome
)
