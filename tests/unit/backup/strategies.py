"""Random worlds for the backup planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from labstore.backup.facts import BackupFacts, JobFacts
from labstore.backup.guards import guard
from labstore.backup.plan import BackupPlan, BackupStep, plan_backups
from labstore.model.backup import Generation, GenerationName, Item, RestoreMount, Sort, SourceStatus, Standing, Verdict
from labstore.model.backup_settings import Job, JobName, Keep, LogicalVolume, ProofSettings, PullFrom
from labstore.model.names import HostName
from labstore.ports.snapshots import Room, VolumeFound
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Verb
from labstore.reports.sources import SourceFailed
from tests.laws import Planner
from tests.support.fake_clock import START

NODES = (HostName("alpha"), HostName("beta"))
SIZE = 1 << 40


def missing(what: str = "it") -> Missing:
    return Missing(SourceFailed("lvs", what, "no answer"), "lvs", START)


def job(name: str = "tools", **more: object) -> Job:
    plain = Job(
        JobName(name), LogicalVolume.parse(f"vg/{name}"), LogicalVolume.parse(f"backup/{name}"), NODES, room=1 << 30
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def generation(hours_ago: float, verdict: Verdict = Verdict.PROVEN, takes: int | None = None) -> Generation:
    name = GenerationName.at(START - timedelta(hours=hours_ago))
    return Generation(name, "a" * 64, "beta", 1 << 20, takes, verdict)


def status(node: str, standing: Standing = Standing.STANDBY, **more: object) -> Fact[SourceStatus]:
    plain = SourceStatus(HostName(node), standing, SIZE, "UpToDate", 1 << 40)
    return Fact(replace(plain, **more), node, START)  # type: ignore[arg-type]


def target(**more: object) -> Fact[VolumeFound]:
    plain = VolumeFound("/dev/backup/tools", SIZE, Room(10 << 40, 5 << 40, needs_size=False))
    return Fact(replace(plain, **more), "lvs", START)  # type: ignore[arg-type]


def facts(*jobs: JobFacts, brake: int = 5) -> BackupFacts:
    return BackupFacts(START, jobs, brake)


def book(*mounts: RestoreMount) -> Fact[tuple[RestoreMount, ...]]:
    return Fact(mounts, "mounts.json", START)


def job_facts(*generations: Generation, **more: object) -> JobFacts:
    plain = JobFacts(
        job=job(),
        nodes={NODES[0]: status("alpha", Standing.ACTIVE), NODES[1]: status("beta")},
        target=target(),
        generations=Fact(tuple(generations), "lvs", START),
        mounts=book(),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


@st.composite
def _generations(draw: st.DrawFn) -> tuple[Generation, ...]:
    ages = draw(st.lists(st.integers(-1, 3000), max_size=12, unique=True))
    takes = st.one_of(st.none(), st.integers(0, 100))
    return tuple(
        replace(generation(age, draw(st.sampled_from(Verdict)), draw(takes)), pinned=draw(st.integers(0, 9)) == 0)
        for age in ages
    )


@st.composite
def _job_facts(draw: st.DrawFn, name: str) -> JobFacts:
    there = draw(_generations())
    mounts = tuple(
        RestoreMount(JobName(name), each.name, f"/srv/backup/{name}/{each.name}", START + timedelta(hours=hours))
        for each, hours in zip(there, draw(st.lists(st.integers(-5, 5), max_size=3)), strict=False)
    )
    keep = Keep(
        *(draw(st.integers(0, 4)) for _ in range(4)), draw(st.integers(1, 3)), draw(st.sampled_from((None, 50)))
    )
    nodes: dict[HostName, Answer[SourceStatus]] = {}
    for node in NODES[: draw(st.integers(1, 2))]:
        replica = draw(st.sampled_from((None, "UpToDate", "Inconsistent")))
        answers = (missing(), status(node, draw(st.sampled_from(Standing)), replica=replica))
        nodes[node] = draw(st.sampled_from(answers))
    holders = st.sampled_from((None, None, "mounted at /x"))
    found: Answer[VolumeFound] = draw(st.sampled_from((target(holder=draw(holders)), missing())))
    listed: Answer[tuple[Generation, ...]] = Fact(there, "lvs", START)
    return JobFacts(
        job=job(
            name,
            every=draw(st.sampled_from((3600.0, 86400.0))),
            keep=keep,
            pull_from=draw(st.sampled_from(PullFrom)),
            proof=ProofSettings(check=draw(st.booleans()), mount=False),
        ),
        nodes=nodes,
        target=found,
        generations=draw(st.sampled_from((listed, listed, missing()))),
        mounts=draw(st.sampled_from((book(*mounts), book(*mounts), missing()))),
        owed=draw(st.booleans()),
        asked=draw(st.booleans()),
    )


@st.composite
def worlds(draw: st.DrawFn) -> BackupFacts:
    names = draw(st.lists(st.sampled_from(("tools", "misc", "maps")), min_size=1, unique=True))
    return BackupFacts(START, tuple(draw(_job_facts(name)) for name in names), draw(st.integers(0, 12)))


def after(world: BackupFacts, steps: Sequence[BackupStep]) -> BackupFacts:
    """The world when these steps were carried out."""
    jobs = {each.job.name: each for each in world.jobs}
    for step in steps:
        item = step.after or step.before
        assert item is not None
        jobs[item.job] = _with(jobs[item.job], step.verb, item)
    return replace(world, jobs=tuple(jobs[each.job.name] for each in world.jobs))


def _with(job: JobFacts, verb: Verb, item: Item) -> JobFacts:
    if item.sort is Sort.MOUNT:
        assert isinstance(job.mounts, Fact)
        return replace(job, mounts=book(*(m for m in job.mounts.value if m.point != item.point)))
    assert isinstance(job.generations, Fact)
    there = [each for each in job.generations.value if each.name != item.name]
    if verb is Verb.ADD:
        there.append(Generation(item.name, "b" * 64, item.node, 5, 5, item.verdict))
        job = replace(job, owed=False, asked=False)
    elif verb is Verb.CHANGE:
        there += [replace(g, verdict=item.verdict) for g in job.generations.value if g.name == item.name]
    return replace(job, generations=Fact(tuple(there), "lvs", START))


def _plan(world: BackupFacts) -> BackupPlan:
    return guard(world, plan_backups(world))


def _removed(_: BackupFacts, plan: BackupPlan) -> frozenset[str]:
    items = (step.before for step in plan.steps if step.removes)
    return frozenset(str(item.job) for item in items if item and item.sort is Sort.GENERATION)


def _undecided(world: BackupFacts) -> frozenset[str]:
    return frozenset(each.job.name for each in world.jobs if isinstance(each.generations, Missing))


def _outcome(world: BackupFacts) -> object:
    return {
        each.job.name: None
        if isinstance(each.generations, Missing)
        else sorted((g.name, g.verdict) for g in each.generations.value)
        for each in world.jobs
    }


BACKUPS: Planner[BackupFacts, Item] = Planner("backups", Item, worlds(), _plan, after, _removed, _undecided, _outcome)
