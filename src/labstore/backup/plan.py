"""What is to be done about backups now: pure, and the same for the same facts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from labstore.backup.desired import kept
from labstore.backup.facts import BackupFacts, JobFacts
from labstore.formats.units import duration_text
from labstore.model.backup import (
    Generation,
    GenerationName,
    Item,
    RestoreMount,
    Sort,
    SourceStatus,
    Standing,
    Verdict,
    snapshot_name,
)
from labstore.model.backup_settings import PullFrom
from labstore.model.names import HostName
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.plan import Plan, Proof, Step, Verb
from labstore.reports.backup import GenerationAhead, NoSource, Unproven
from labstore.reports.report import Report

BackupPlan = Plan[Item]
BackupStep = Step[Item]
LOCAL = HostName("localhost")
"""The source's machine where no machine is named."""
SECOND = timedelta(seconds=1)
CLOSE = timedelta(minutes=1)
"""How far ahead of now a generation's name may be before the clock is taken to have gone back."""


@dataclass(frozen=True)
class _Part:
    steps: tuple[BackupStep, ...] = ()
    untouched: Mapping[str, str] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()


def plan_backups(facts: BackupFacts) -> BackupPlan:
    """Mounts that have had their time go first, then what is owed or due, then proofs, then what policy lets go."""
    steps: list[BackupStep] = []
    untouched: dict[str, str] = {}
    reports: list[Report] = []
    for job in facts.jobs:
        part = _job(facts, job)
        steps += part.steps
        untouched |= part.untouched
        reports += part.reports
    return Plan(tuple(steps), untouched, (), tuple(reports))


def _job(facts: BackupFacts, job: JobFacts) -> _Part:
    expired = tuple(_expired(facts, job))
    name = job.job.name
    if isinstance(job.generations, Missing):
        return _Part(expired, {name: "its generations could not be listed"}, (job.generations.report,))
    there = job.generations.value
    due = _due(facts, job, there)
    node, reasons = source_of(job)
    untouched: dict[str, str] = {}
    reports: list[Report] = list(_overdue(facts, job, there))
    reports += [job.mounts.report] if isinstance(job.mounts, Missing) else []
    for early in (each.name for each in there if ahead(each, facts.at)):
        untouched[name] = f"generation {early} is dated after now"
        reports.append(GenerationAhead(name, early, snapshot_name(name, early), str(job.job.target)))
    adds: tuple[BackupStep, ...] = ()
    if due is not None and node is None:
        untouched[name] = f"{due}, and no machine can be read"
        silent = all(isinstance(answer, Missing) for answer in job.nodes.values())
        reports.append(NoSource(name, reasons, silent))
    elif due is not None and node is not None:
        adds = (_add(facts, job, node, due, there),)
    stay = staying(job, _if_all_prove(job, there, adds), facts.at)
    proofs = tuple(_unproven(job, there, stay))
    removals = (*_lost(job), *_pruned(job, there, stay))
    return _Part((*expired, *adds, *proofs, *removals), untouched, tuple(reports))


def _expired(facts: BackupFacts, job: JobFacts) -> Iterator[BackupStep]:
    for mount in (*(() if isinstance(job.mounts, Missing) else job.mounts.value), *job.strays):
        if mount.until <= facts.at:
            item = Item(Sort.MOUNT, mount.job, mount.generation, point=mount.point)
            key = f"{mount.job}/{mount.generation} at {mount.point}"
            yield Step(key, Verb.REMOVE, item, None, "its time is over", {mount.point: Proof.DECLARED})


def ahead(generation: Generation, now: datetime) -> bool:
    """Whether it is dated after now: the clock was wrong when it was made, or is now."""
    return generation.at > now + CLOSE


def _due(facts: BackupFacts, job: JobFacts, there: tuple[Generation, ...]) -> str | None:
    """Why a generation is wanted now."""
    if any(ahead(each, facts.at) for each in there):
        return None  # no generation gets a moment that is not its own
    if job.owed:
        return "the last run ended before its generation was kept"
    if job.asked:
        return "it was asked for"
    if not there:
        return "there is none yet"
    age = (facts.at - max(each.at for each in there)).total_seconds()
    return f"the newest is {duration_text(round(age))} old" if age >= job.job.every else None


def source_of(job: JobFacts) -> tuple[HostName | None, tuple[str, ...]]:
    """Which machine is read: the standby of a pair, never one that is out of step. Else the reasons why none is."""
    fit: dict[HostName, SourceStatus] = {}
    reasons: list[str] = []
    for node, answer in job.nodes.items():
        if isinstance(answer, Missing):
            reasons.append(f"{node}: {answer.report.message()}")
        elif not answer.value.fit:
            reasons.append(f"{node}: {answer.value.trouble or f'its disk is {answer.value.replica}'}")
        else:
            fit[node] = answer.value
    alone = len(job.nodes) == 1
    for standing in (Standing.STANDBY, Standing.ACTIVE, Standing.UNKNOWN):
        for node, status in fit.items():
            if status.standing is not standing:
                continue
            if standing is Standing.STANDBY or alone or job.job.pull_from is PullFrom.ANY:
                return node, ()
            reasons.append(f"{node}: it is not the standby ({standing})")
    return None, tuple(reasons)


def _add(facts: BackupFacts, job: JobFacts, node: HostName, why: str, there: tuple[Generation, ...]) -> BackupStep:
    """Names have whole seconds: one that is made within a second of another takes the next, never the same."""
    moment = _moment(facts, job, node)
    name = GenerationName.at(max(moment, *(each.at + SECOND for each in there)) if there else moment)
    item = Item(Sort.GENERATION, job.job.name, name, node, Verdict.PROVEN)
    return Step(f"{job.job.name}/{name}", Verb.ADD, None, item, why)


def _moment(facts: BackupFacts, job: JobFacts, node: HostName) -> datetime:
    """What the new generation will be of: now, or the moment of the snapshot that an interrupted run left to go on
    with, which ends in it. The source's word for that moment is believed as far as it goes on with one at all."""
    answer = job.nodes[node]
    unfinished = answer.value.unfinished if isinstance(answer, Fact) else None
    oldest = facts.at - timedelta(seconds=job.job.source_snapshot_age) - CLOSE
    with contextlib.suppress(ValueError):
        said = GenerationName((unfinished or "").rpartition("-")[2]).moment
        return min(facts.at, said) if said >= oldest else facts.at
    return facts.at


def staying(job: JobFacts, there: tuple[Generation, ...], at: datetime) -> Mapping[GenerationName, str]:
    """Which of the generations stay, and why: all, where it is not known which are mounted."""
    if isinstance(job.mounts, Missing):
        return {each.name: "it is not known which are mounted" for each in there}
    return kept(there, job.job.keep, looked_into(job.mounts.value, at))


def looked_into(mounts: Iterable[RestoreMount], at: datetime) -> frozenset[GenerationName]:
    """The generations that are mounted, and whose time is not over."""
    return frozenset(mount.generation for mount in mounts if mount.until > at)


def _unproven(job: JobFacts, there: tuple[Generation, ...], stay: Mapping[GenerationName, str]) -> Iterator[BackupStep]:
    """Generations whose proof was never tried to its end; a run was killed in between."""
    if not _proves(job):
        return
    for each in there:
        if each.verdict is Verdict.UNTRIED and each.name in stay:
            before = Item(Sort.GENERATION, job.job.name, each.name, each.node, Verdict.UNTRIED)
            after = replace(before, verdict=Verdict.PROVEN)
            yield Step(f"{job.job.name}/{each.name}", Verb.CHANGE, before, after, "it has not been proven yet")


def _proves(job: JobFacts) -> bool:
    return job.job.proof.check or job.job.proof.mount


def _if_all_prove(job: JobFacts, there: tuple[Generation, ...], adds: tuple[BackupStep, ...]) -> tuple[Generation, ...]:
    """The generations as they may be in the end: the new one is there, and what was never tried is proven."""
    untried = _proves(job)
    now = (replace(g, verdict=Verdict.PROVEN) if untried and g.verdict is Verdict.UNTRIED else g for g in there)
    return after(tuple(now), adds)


def after(there: tuple[Generation, ...], steps: Iterable[BackupStep]) -> tuple[Generation, ...]:
    """The generations of a job as they will be when these of its steps came off, but for what goes by them."""
    found = {each.name: each for each in there}
    for step in steps:
        if step.after is not None:
            item = step.after
            new = found.get(item.name) or Generation(item.name, "", item.node, 0)
            found[item.name] = replace(new, verdict=item.verdict)
    return tuple(found.values())


def _pruned(job: JobFacts, there: tuple[Generation, ...], stay: Mapping[GenerationName, str]) -> Iterator[BackupStep]:
    """Oldest first. What the new generation makes superfluous goes only once that is there: guards.py, apply.py."""
    for each in sorted(there, key=lambda generation: generation.name):
        if each.name not in stay:
            item = Item(Sort.GENERATION, job.job.name, each.name, each.node, each.verdict)
            why = f"more than is kept ({_policy(job)})"
            yield Step(f"{job.job.name}/{each.name}", Verb.REMOVE, item, None, why, {each.name: Proof.DECLARED})


def _lost(job: JobFacts) -> Iterator[BackupStep]:
    for name in job.overflowed:
        item = Item(Sort.GENERATION, job.job.name, name, "", Verdict.FAILED)
        why = "it overflowed: nothing in it can be read any more"
        yield Step(f"{job.job.name}/{name}", Verb.REMOVE, item, None, why, {name: Proof.DECLARED})


def _policy(job: JobFacts) -> str:
    keep = job.job.keep
    parts = [
        f"{getattr(keep, name)} {name}" for name in ("hourly", "daily", "weekly", "monthly") if getattr(keep, name)
    ]
    return ", ".join(parts) or f"the newest {keep.least}"


def _overdue(facts: BackupFacts, job: JobFacts, there: tuple[Generation, ...]) -> Iterator[Report]:
    there = tuple(each for each in there if not ahead(each, facts.at))
    proven = [each.at for each in there if each.verdict is Verdict.PROVEN]
    age = (facts.at - max(proven)).total_seconds() if proven else None
    if age is not None and age > job.job.alert_after:
        yield Unproven(job.job.name, duration_text(round(age)), duration_text(round(job.job.alert_after)))
    elif age is None and there and (facts.at - min(g.at for g in there)).total_seconds() > job.job.alert_after:
        yield Unproven(job.job.name, "not there: none was ever proven", duration_text(round(job.job.alert_after)))
