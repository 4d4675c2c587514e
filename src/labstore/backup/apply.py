"""Carrying out a plan of backups: copies first, each proven before anything older goes on its account."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from labstore.backup.desired import kept
from labstore.backup.manifest import Manifests
from labstore.backup.mounting import PURPOSE as MOUNT
from labstore.backup.mounting import RestoreMounts
from labstore.backup.observe import KIND, TAKING, generations_in
from labstore.backup.plan import LOCAL, BackupPlan, BackupStep, looked_into
from labstore.backup.source_agent import room_for
from labstore.backup.target_room import TargetRoom
from labstore.model.backup import GenerationName, Item, ProofResult, RestoreMount, Sort, Verdict, snapshot_name
from labstore.model.backup_settings import BackupSettings, Job, path_of
from labstore.model.block_sync import Place, SyncResult
from labstore.model.names import HostName
from labstore.ports.block_engine import BlockEngine, Order
from labstore.ports.clock import Clock
from labstore.ports.proving import Prover
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.facts import Missing
from labstore.reconcile.plan import Verb
from labstore.reconcile.record import Outcome, Result
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import ProofFailed, RunFailed, StaysAfterAll, StorageFailed
from labstore.reports.blocksync import SyncFailed
from labstore.reports.report import Report

PURPOSE = "proof"
RESTORE = "restore"
"""What copies of generations are opened for; the third is to be mounted."""


@dataclass(frozen=True)
class Applier:
    """`order` says how a job's source on a node is copied; `made` is told of each new generation."""

    settings: BackupSettings
    snapshots_of: Callable[[Job], Snapshots]
    engine: BlockEngine
    prover: Prover
    mounts: RestoreMounts
    manifests: Manifests
    order: Callable[[Job, HostName], Order]
    clock: Clock

    def carry_out(self, plan: BackupPlan) -> tuple[Result, ...]:
        """Every step gets a result. What the policy keeps of the generations that are really there is not removed,
        whatever was planned next to one that then was not made, or does not restore."""
        results: list[Result] = []
        unproven: set[str] = set()
        for step in plan.steps:
            item = step.after or step.before
            assert item is not None
            try:
                stays = self._stays(item, unproven) if step.verb is Verb.REMOVE else None
                if stays is not None:
                    results.append(Result(step.key, Outcome.SKIPPED, stays))
                    continue
                self._act(step, item)
                results.append(Result(step.key, Outcome.DONE))
            except StepFailed as failure:
                results.append(Result(step.key, Outcome.FAILED, failure.report))
                unproven |= {step.key} if step.verb is Verb.ADD else set()
        return tuple(results)

    def _stays(self, item: Item, unproven: Collection[str]) -> Report | None:
        """Why a generation stays after all. What this run made and could not prove stands for nothing."""
        if item.sort is not Sort.GENERATION:
            return None
        job = self.settings.jobs[item.job]
        answer = generations_in(self.snapshots_of(job).snapshots(), job)
        if isinstance(answer, Missing):
            return answer.report
        there = [each for each in answer.value if f"{job.name}/{each.name}" not in unproven]
        why = kept(there, job.keep, looked_into(self._mounted(job), self.clock.now())).get(item.name)
        return None if why is None else StaysAfterAll(job.name, item.name, why)

    def _mounted(self, job: Job) -> tuple[RestoreMount, ...]:
        return tuple(mount for mount in self.mounts.all() if mount.job == job.name)

    def _act(self, step: BackupStep, item: Item) -> None:
        if item.sort is Sort.MOUNT:
            self.mounts.unmount(item.point)
        elif step.verb is Verb.ADD:
            self._make(item)
        elif step.verb is Verb.CHANGE:
            self.prove(self.settings.jobs[item.job], item.name)
        else:
            self._remove(item)

    def _remove(self, item: Item) -> None:
        """What a killed proof or restore left of it goes first: it would keep the generation in use, or outlive it."""
        name, snapshots = snapshot_name(item.job, item.name), self._snapshots(item)
        self.prover.clear(name)
        for purpose in (PURPOSE, RESTORE, MOUNT):  # one that is at work is in use, and refuses
            snapshots.close_copy(name, purpose)
        snapshots.remove(name)
        try:
            self.manifests.forget(item.job, item.name)
        except OSError as error:
            raise StepFailed(StorageFailed("the manifest", error.strerror or str(error))) from error

    # --- a new generation -------------------------------------------------------------------------------------------

    def _make(self, item: Item) -> None:
        job = self.settings.jobs[item.job]
        result = self._copied(job, HostName(item.node))
        self._kept(job, item, result)
        try:
            self.manifests.keep(job.name, item.name, result, item.node)
        except OSError as error:
            raise StepFailed(StorageFailed("the manifest", error.strerror or str(error))) from error
        self.prove(job, item.name)

    def _copied(self, job: Job, node: HostName) -> SyncResult:
        try:
            room = TargetRoom(job, self.snapshots_of(job))
            return self.engine.sync(replace(self.order(job, node), allow=room.allow))
        except SyncFailed as failure:
            raise StepFailed(RunFailed(job.name, failure.report.message(), failure.report.remedy() or "")) from failure

    def _kept(self, job: Job, item: Item, result: SyncResult) -> None:
        """Keep the state that the target was brought to. Nobody may have written to it before or while it was kept:
        the engine's proof of that is asked for on both sides of the snapshot."""
        path, name = path_of(job.target), snapshot_name(job.name, item.name)
        tags = {
            "job": str(job.name),
            "kind": TAKING,
            "at": str(item.name),
            "root": result.root,
            "node": item.node,
            "changed": str(result.changed * result.block_size),
        }
        snapshots = self.snapshots_of(job)
        self._clear_unsure(job, snapshots)
        self._still(job, path, result.root)
        snapshots.take(name, tags, room_for(snapshots, job.target_room))
        try:
            self._still(job, path, result.root)
            snapshots.tag(name, {"kind": KIND})
        except StepFailed:
            with contextlib.suppress(StepFailed):  # the next run tries again, and nobody takes it for a generation
                snapshots.remove(name)
            raise

    def _clear_unsure(self, job: Job, snapshots: Snapshots) -> None:
        """Remove what a run took and could not look at again: it was killed, or the storage refused."""
        listed = snapshots.snapshots()
        for each in () if isinstance(listed, Missing) else listed.value:
            if each.tags.get("job") == job.name and each.tags.get("kind") == TAKING:
                snapshots.remove(each.name)

    def _still(self, job: Job, path: str, root: str) -> None:
        if self.engine.complete(path) != root:
            reason = "somebody wrote to the target between the copy and its snapshot"
            raise StepFailed(RunFailed(job.name, reason, "find out who; the next run compares every block"))

    # --- proof ------------------------------------------------------------------------------------------------------

    def prove(self, job: Job, generation: GenerationName) -> ProofResult:
        """Restore a copy of a generation, as far as that can be done in a moment. Raises StepFailed where it does not
        hold; the generation then says so itself, whatever becomes of us."""
        name, snapshots = snapshot_name(job.name, generation), self.snapshots_of(job)
        samples, block_size = self.manifests.samples(job.name, generation)
        self.prover.clear(name)
        device = snapshots.open_copy(name, PURPOSE)
        try:
            held, failed = self.prover.prove(device, job.proof, generation.moment, samples, block_size)
        finally:
            snapshots.close_copy(name, PURPOSE)
        proof = ProofResult(generation, self.clock.now(), held, failed)
        stamp = GenerationName.at(proof.at)
        snapshots.tag(name, {"proof": proof.verdict.value, "proven": stamp})
        try:
            self.manifests.keep_proof(job.name, proof)
        except OSError as error:
            raise StepFailed(StorageFailed("the manifest", error.strerror or str(error))) from error
        if proof.verdict is not Verdict.PROVEN:
            said = tuple(f"{check}: {found}" for check, found in failed.items()) or ("nothing was checked",)
            raise StepFailed(ProofFailed(job.name, generation, said))
        return proof

    def _snapshots(self, item: Item) -> Snapshots:
        return self.snapshots_of(self.settings.jobs[item.job])


def order_for(job: Job, node: HostName, remote: tuple[str, ...]) -> Order:
    """The copy of a job's source on a node. Its agent prepares the snapshot; the path only names the job's volume."""
    host = None if node == LOCAL else node
    options = replace(job.options, samples=max(job.options.samples, job.proof.samples))
    return Order(
        source=Place(path_of(job.source), host, job.reach.user if host else None),
        target=Place(path_of(job.target)),
        label=str(job.name),
        options=options,
        limits=job.limits,
        remote=remote,
    )
