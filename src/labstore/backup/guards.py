"""What may not happen to backups, each rule a pure function of facts and plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labstore.backup.facts import BackupFacts, JobFacts
from labstore.backup.plan import BackupPlan, BackupStep, after, staying
from labstore.model.backup import Sort, SourceStatus
from labstore.model.block_sync import Permit
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.guards import guarded
from labstore.reconcile.plan import Refusal, Verb
from labstore.reports.backup import NoRoom, TargetForeign, TargetHeld, TargetMissing, TargetShort, TooManyPruned
from labstore.reports.report import Override

NO_OVERRIDES: frozenset[Override] = frozenset()


def guard(facts: BackupFacts, plan: BackupPlan, overrides: frozenset[Override] = NO_OVERRIDES) -> BackupPlan:
    """The plan without what the rules refuse, and without the removals that stand on what was refused."""
    left = guarded(facts, plan, (unfit_target, no_room), overrides)
    return guarded(facts, _without_new(facts, left), (too_many,), overrides)


def _without_new(facts: BackupFacts, plan: BackupPlan) -> BackupPlan:
    """What is superfluous only next to a generation that will not be made stays."""
    held: dict[str, str] = {}
    for job in facts.jobs:
        steps = [step for step in plan.steps if _of(step, job)]
        if isinstance(job.generations, Missing):
            continue
        stay = staying(job, after(job.generations.value, steps), facts.at)
        held |= {
            step.key: f"it stays: {stay[step.before.name]}"
            for step in steps
            if step.verb is Verb.REMOVE and step.before is not None and step.before.name in stay
        }
    steps = [step for step in plan.steps if step.key not in held]
    return replace(plan, steps=tuple(steps), untouched={**plan.untouched, **held})


def _of(step: BackupStep, job: JobFacts) -> bool:
    item = step.after or step.before
    return item is not None and item.sort is Sort.GENERATION and item.job == job.job.name


def unfit_target(facts: BackupFacts, plan: BackupPlan) -> Iterator[Refusal]:
    """A target that is mounted, held, missing or too small is refused before anything is snapshotted (upstream #39)."""
    for job, step in _adds(facts, plan):
        if isinstance(job.target, Missing):
            yield Refusal((step.key,), TargetMissing(job.job.name, job.target.report.message()))
        elif job.target.value.holder is not None:
            target = job.target.value
            yield Refusal((step.key,), TargetHeld(job.job.name, target.path, target.holder or ""))
        elif (status := _source(job, step)) is not None and _foreign(job, status):
            yield Refusal((step.key,), TargetForeign(job.job.name, str(job.job.target), job.stranger or ""))
        elif status is not None and _short(job, status):
            yield Refusal(
                (step.key,), TargetShort(job.job.name, str(job.job.target), job.target.value.size, status.size)
            )


def _foreign(job: JobFacts, status: SourceStatus) -> bool:
    """Whether the target holds what no copy of ours wrote, and what is not the source's file system either."""
    return (
        job.stranger is not None
        and job.stranger != (status.content or "something")
        and Permit.ADOPT_TARGET not in job.job.options.permits
    )


def _short(job: JobFacts, status: SourceStatus) -> bool:
    """Whether the target is too small; an image file grows by itself."""
    assert isinstance(job.target, Fact)
    return not str(job.job.target).startswith("/") and job.target.value.size < status.size


def no_room(facts: BackupFacts, plan: BackupPlan) -> Iterator[Refusal]:
    """A snapshot that is told how large it may become needs that much free, on both sides."""
    for job, step in _adds(facts, plan):
        if isinstance(job.target, Fact) and job.target.value.room.needs_size:
            needed = job.job.target_room or job.target.value.size // 5
            if job.target.value.room.free < needed:
                where = f"the storage of {job.target.value.path}"
                yield Refusal((step.key,), NoRoom(job.job.name, where, needed, job.target.value.room.free))
        status, room = _source(job, step), job.job.room
        if status is None or status.free is None or room is None or status.unfinished is not None:
            continue
        if status.free < room:
            yield Refusal((step.key,), NoRoom(job.job.name, str(status.node), room, status.free))


def too_many(facts: BackupFacts, plan: BackupPlan) -> Iterator[Refusal]:
    """A batch of removals larger than the brake waits for a person."""
    for job in facts.jobs:
        keys = tuple(
            step.key
            for step in plan.steps
            if step.verb is Verb.REMOVE
            and step.before is not None
            and step.before.sort is Sort.GENERATION
            and step.before.job == job.job.name
        )
        if len(keys) > facts.brake:
            yield Refusal(keys, TooManyPruned(job.job.name, len(keys), facts.brake))


def _adds(facts: BackupFacts, plan: BackupPlan) -> Iterator[tuple[JobFacts, BackupStep]]:
    jobs = {job.job.name: job for job in facts.jobs}
    for step in plan.steps:
        if step.verb is Verb.ADD and step.after is not None:
            yield jobs[step.after.job], step


def _source(job: JobFacts, step: BackupStep) -> SourceStatus | None:
    for node, answer in job.nodes.items():
        if step.after is not None and node == step.after.node and isinstance(answer, Fact):
            return answer.value
    return None
