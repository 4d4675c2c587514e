"""One look at everything that backups are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from labstore.backup.facts import BackupFacts, JobFacts
from labstore.backup.plan import LOCAL, ahead
from labstore.model.backup import Generation, GenerationName, RestoreMount, SourceStatus, Verdict
from labstore.model.backup_settings import BackupSettings, Job, path_of
from labstore.model.names import HostName
from labstore.ports.block_engine import BlockEngine
from labstore.ports.clock import Clock
from labstore.ports.snapshots import Snapshot, Snapshots
from labstore.ports.source_nodes import SourceNodes
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.blocksync import SyncFailed

KIND = "generation"
_FIRST_YEAR = 1000
"""Before it strftime(3) writes years with fewer than four digits, which no name has."""
TAKING = "taking"
"""The kind of one that is not a generation yet: whether the target stood still meanwhile is still to be seen."""


@dataclass(frozen=True)
class Observer:
    """Where each part of the facts comes from. `snapshots_of` gives the snapshots of a job's target."""

    settings: BackupSettings
    nodes: SourceNodes
    snapshots_of: Callable[[Job], Snapshots]
    engine: BlockEngine
    mounts: Callable[[], Answer[tuple[RestoreMount, ...]]]
    clock: Clock

    def facts(self, jobs: tuple[Job, ...], asked: bool = False, ask_nodes: bool = True) -> BackupFacts:
        """Machines are asked only where a generation may be made (`ask_nodes`)."""
        mounts = self.mounts()
        found = tuple(self._job(job, mounts, asked, ask_nodes) for job in jobs)
        return BackupFacts(self.clock.now(), found, self.settings.brake)

    def _job(self, job: Job, mounts: Answer[tuple[RestoreMount, ...]], asked: bool, ask_nodes: bool) -> JobFacts:
        listed = self.snapshots_of(job).snapshots()
        generations = generations_in(listed, job)
        return JobFacts(
            job=job,
            nodes=self._nodes(job) if ask_nodes else {},
            target=self.snapshots_of(job).volume(),
            generations=generations,
            mounts=_of_job(mounts, job),
            strays=self._strays(mounts),
            overflowed=_overflowed(listed, job),
            owed=self._owed(job, generations),
            stranger=self._stranger(job) if ask_nodes else None,
            asked=asked,
        )

    def generations(self, job: Job) -> Answer[tuple[Generation, ...]]:
        """The generations of a job, oldest first."""
        return generations_in(self.snapshots_of(job).snapshots(), job)

    def _nodes(self, job: Job) -> Mapping[HostName, Answer[SourceStatus]]:
        """Asked at once: one that is dead is waited for, and the other answers meanwhile."""
        nodes = job.nodes or (LOCAL,)
        with ThreadPoolExecutor(len(nodes), "nodes") as pool:
            return dict(zip(nodes, pool.map(lambda node: self.nodes.status(job, node), nodes), strict=True))

    def _stranger(self, job: Job) -> str | None:
        try:
            return self.engine.stranger(path_of(job.target))
        except (OSError, SyncFailed):
            return None  # what cannot be looked at is refused on that account

    def _strays(self, mounts: Answer[tuple[RestoreMount, ...]]) -> tuple[RestoreMount, ...]:
        standing = () if isinstance(mounts, Missing) else mounts.value
        return tuple(mount for mount in standing if mount.job not in self.settings.jobs)

    def _owed(self, job: Job, generations: Answer[tuple[Generation, ...]]) -> bool:
        root = self.engine.complete(path_of(job.target))
        return root is not None and isinstance(generations, Fact) and root not in {g.root for g in generations.value}


def _of_job(mounts: Answer[tuple[RestoreMount, ...]], job: Job) -> Answer[tuple[RestoreMount, ...]]:
    if isinstance(mounts, Missing):
        return mounts
    return replace(mounts, value=tuple(mount for mount in mounts.value if mount.job == job.name))


def generations_in(listed: Answer[tuple[Snapshot, ...]], job: Job) -> Answer[tuple[Generation, ...]]:
    """The generations of a job among the snapshots of its target, oldest first."""
    if isinstance(listed, Missing):
        return listed
    ours = (generation_of(each) for each in listed.value if is_generation(each, job))
    return Fact(tuple(sorted((g for g in ours if g), key=lambda g: g.name)), listed.source, listed.at)


def _overflowed(listed: Answer[tuple[Snapshot, ...]], job: Job) -> tuple[GenerationName, ...]:
    there = () if isinstance(listed, Missing) else listed.value
    lost = (generation_of(each) for each in there if not each.valid and is_generation(replace(each, valid=True), job))
    return tuple(each.name for each in lost if each is not None)


def is_generation(snapshot: Snapshot, job: Job) -> bool:
    """Whether a snapshot is one of the job's generations; one that overflowed is none any more."""
    tags = snapshot.tags
    return tags.get("job") == job.name and tags.get("kind") == KIND and snapshot.valid


def generation_of(snapshot: Snapshot) -> Generation | None:
    """A generation from what its snapshot carries; None where that is not readable."""
    tags = snapshot.tags
    try:
        name = GenerationName(tags["at"])
        if name.moment.year < _FIRST_YEAR:
            return None
        proven = GenerationName(tags["proven"]).moment if "proven" in tags else None
        return Generation(
            name=name,
            root=tags["root"],
            node=tags.get("node", ""),
            changed=int(tags.get("changed", "0")),
            takes=snapshot.takes,
            verdict=Verdict(tags.get("proof", "untried")),
            proven_at=proven,
            pinned=tags.get("pinned") == "yes",
            why=tags.get("why", ""),
        )
    except (KeyError, ValueError):
        return None


def figures(facts: BackupFacts) -> dict[str, object]:
    """What was looked at, in numbers, for the record and the metrics."""
    return {job.job.name: _job_figures(facts, job) for job in facts.jobs}


def _job_figures(facts: BackupFacts, job: JobFacts) -> dict[str, object]:
    if isinstance(job.generations, Missing):
        return {"generations": None, "alert_after": job.job.alert_after}
    there = job.generations.value
    past = [each for each in there if not ahead(each, facts.at)]
    proven = [each.at for each in past if each.verdict is Verdict.PROVEN]
    return {
        "generations": len(there),
        "newest": max(each.at for each in past).isoformat() if past else None,
        "newest_proven": max(proven).isoformat() if proven else None,
        "age": (facts.at - max(each.at for each in past)).total_seconds() if past else None,
        "proven_age": (facts.at - max(proven)).total_seconds() if proven else None,
        "alert_after": job.job.alert_after,
        "takes": sum(each.takes or 0 for each in there),
        "mounts": None if isinstance(job.mounts, Missing) else len(job.mounts.value),
    }
