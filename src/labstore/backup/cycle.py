"""One cycle of backups: look, plan, guard, apply, record. The timer, the commands and the old name all run this."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labstore.backup.apply import Applier
from labstore.backup.facts import BackupFacts
from labstore.backup.guards import NO_OVERRIDES, guard
from labstore.backup.observe import Observer, figures
from labstore.backup.plan import BackupPlan, BackupStep, plan_backups
from labstore.model.backup import GenerationName, ProofResult
from labstore.model.backup_settings import BackupSettings, Job, JobName
from labstore.reconcile.facts import Missing
from labstore.reconcile.record import Outcome, Record, Result, State, state_of
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import Waiting
from labstore.reports.report import Override, Report
from labstore.system import locks


@dataclass(frozen=True)
class Proposal:
    """A plan with the facts it was made from."""

    facts: BackupFacts
    plan: BackupPlan


@dataclass
class BackupCycle:
    """The reconciler of a backup host. Each job has a lock, held by the process for as long as it is at it
    (upstream #38)."""

    settings: BackupSettings
    observer: Observer
    applier: Applier
    locks_at: Path
    number: int = 0

    def propose(
        self, names: Iterable[JobName] = (), asked: bool = False, overrides: frozenset[Override] = NO_OVERRIDES
    ) -> Proposal:
        """What `run` would do. Changes nothing."""
        facts = self.observer.facts(self._jobs(names), asked)
        return Proposal(facts, guard(facts, plan_backups(facts), overrides))

    def run(
        self, names: Iterable[JobName] = (), asked: bool = False, overrides: frozenset[Override] = NO_OVERRIDES
    ) -> Record:
        """Every job that is wanted, one after the other; one that fails does not stop the next. What goes wrong in
        the world is in the record; only defects are raised."""
        self.number += 1
        started = self.observer.clock.now()
        parts = [self._job(job, asked, overrides) for job in self._jobs(names)]
        return self._record(started, parts)

    def prove(self, name: JobName, generation: GenerationName) -> tuple[ProofResult | None, Record]:
        """Prove a generation once more. A verdict that does not hold is withdrawn, and the record says so. Raises
        locks.Locked."""
        self.number += 1
        started, job = self.observer.clock.now(), self.settings.jobs[name]
        key, proof = f"{name}/{generation}", None
        with self._lock(job):
            try:
                proof = self.applier.prove(job, generation)
                result = Result(key, Outcome.DONE)
            except StepFailed as failure:
                result = Result(key, Outcome.FAILED, failure.report)
            facts = self.observer.facts((job,), ask_nodes=False)
        return proof, self._record(started, [_Part(facts, BackupPlan(), (result,))])

    def _jobs(self, names: Iterable[JobName]) -> tuple[Job, ...]:
        chosen = tuple(names)
        return tuple(self.settings.jobs[name] for name in chosen) if chosen else tuple(self.settings.jobs.values())

    def _job(self, job: Job, asked: bool, overrides: frozenset[Override]) -> _Part:
        try:
            with self._lock(job):
                facts = self.observer.facts((job,), asked)
                plan = guard(facts, plan_backups(facts), overrides)
                results = self.applier.carry_out(plan)
                after = self.observer.facts((job,), ask_nodes=False) if results else facts
                return _Part(after, plan, results)
        except locks.Locked as held:
            return _Part(None, BackupPlan(), (Result(str(job.name), Outcome.SKIPPED, Waiting(job.name, held.holder)),))

    @contextlib.contextmanager
    def _lock(self, job: Job) -> Iterator[None]:
        self.locks_at.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locks.exclusive(self.locks_at / f"{job.name}.lock", f"backup of {job.name}"):
            yield

    def _record(self, started: datetime, parts: list[_Part]) -> Record:
        results = tuple(result for part in parts for result in part.results)
        said: list[Report] = [report for part in parts for report in part.plan.reports]
        said += [refusal.report for part in parts for refusal in part.plan.refusals]
        said += [result.report for result in results if result.report]
        untouched = {key: why for part in parts for key, why in part.plan.untouched.items()}
        states = [_state(part) for part in parts]
        return Record(
            room="backup",
            number=self.number,
            started=started,
            ended=self.observer.clock.now(),
            state=max(states, key=tuple(State).index, default=State.CONVERGED),
            facts={name: value for part in parts if part.facts for name, value in figures(part.facts).items()},
            steps=tuple(step_words(step) for part in parts for step in part.plan.steps),
            untouched=untouched,
            results=results,
            reports=tuple(dict.fromkeys(said)),
        )


@dataclass(frozen=True)
class _Part:
    """What became of one job. `facts` None: another run is at it."""

    facts: BackupFacts | None
    plan: BackupPlan
    results: tuple[Result, ...]


def _state(part: _Part) -> State:
    if part.facts is None:
        return State.HOLDING
    missing = any(isinstance(job.generations, Missing) for job in part.facts.jobs)
    return state_of(part.plan, part.results, part.plan.reports, missing)


def step_words(step: BackupStep) -> dict[str, object]:
    """A step for records, `--json` and the page."""
    item = step.after or step.before
    return {
        "key": step.key,
        "verb": step.verb.value,
        "job": str(item.job) if item else "",
        "what": item.sort.value if item else "",
        "node": item.node if item else "",
        "why": step.why,
        "removes": {name: proof.value for name, proof in step.removes.items()},
    }
