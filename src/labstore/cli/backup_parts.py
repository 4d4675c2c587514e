"""Where the settings of backups become concrete objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from labstore.backup.apply import Applier, order_for
from labstore.backup.cycle import BackupCycle
from labstore.backup.image_files import ImageSnapshots
from labstore.backup.lvm_volumes import LvmSnapshots
from labstore.backup.manifest import Manifests
from labstore.backup.mounting import RestoreMounts
from labstore.backup.observe import Observer
from labstore.backup.plan import LOCAL
from labstore.backup.restore import Restorer
from labstore.backup.restore_onto import Onto
from labstore.backup.source_agent import SourceAgent
from labstore.backup.source_nodes import SshSourceNodes, remote_words
from labstore.cli.beside import AtWork
from labstore.model.backup import SourceStatus, Standing, snapshot_name
from labstore.model.backup_settings import BackupSettings, Job, JobName, LogicalVolume, Volume, path_of
from labstore.model.names import HostName
from labstore.model.site import Site
from labstore.ports.block_engine import Order
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.record import Record, State
from labstore.reports.backup import ProofFailed
from labstore.system.clock import SystemClock
from labstore.system.drbd_above import replica
from labstore.system.drbdadm import Drbd
from labstore.system.fs_prover import FilesystemProver
from labstore.system.identity import node_name, person
from labstore.system.run import LocalHost
from labstore.telemetry import records


@dataclass(frozen=True)
class Backups:
    """Everything about backups on this machine."""

    cycle: BackupCycle
    mounts: RestoreMounts
    restorer: Restorer
    manifests: Manifests
    snapshots_of: Callable[[Job], Snapshots]
    engine: AtWork
    run_dir: Path


def snapshots_at(where: Volume, state: Path) -> Snapshots:
    clock = SystemClock()
    if isinstance(where, LogicalVolume):
        return LvmSnapshots(where, LocalHost(), clock, state / "scratch")
    return ImageSnapshots(Path(where), clock)


def backups(site: Site, settings: BackupSettings, file: Path) -> Backups:
    """Raises ImportError where the extra `backup` is not installed."""
    from labstore.blocksync.engine import OurEngine  # noqa: PLC0415 - needs the extra `backup`

    state, clock, host = site.state_dir / "backup", SystemClock(), LocalHost()
    engine = OurEngine(state / "blocksync")

    @cache
    def snapshots_of(job: Job) -> Snapshots:
        return snapshots_at(job.target, state)

    def at(where: Volume) -> Snapshots:
        return snapshots_at(where, state)

    def target_of(name: JobName) -> Volume | None:
        return settings.jobs[name].target if name in settings.jobs else None

    mounts = RestoreMounts(state / "mounts.json", settings.mounts, host, clock, at, target_of, snapshot_name)
    manifests = Manifests(state / "generations")
    observer = Observer(settings, _Nodes(site, state), snapshots_of, engine, mounts.found, clock)
    prover = FilesystemProver(host, site.run_dir / "backup" / "proof")

    def order(job: Job, node: HostName) -> Order:
        return order_for(job, node, _words(job, node, file))

    applier = Applier(settings, snapshots_of, engine, prover, mounts, manifests, order, clock)
    cycle = BackupCycle(settings, observer, applier, site.run_dir / "backup")
    restorer = Restorer(host, mounts, engine, clock, Onto(settings.jobs, snapshots_of, HostName(node_name())))
    return Backups(cycle, mounts, restorer, manifests, snapshots_of, engine, site.run_dir)


def keep_record(parts: Backups, record: Record, job: JobName, node: str) -> None:
    """For `labstore status`, checks and metrics. What another run is at is that one's to say."""
    if job not in record.facts:
        return
    mine = replace(record, facts=record.facts[job])
    records.write(parts.run_dir, records.kept(mine, job, node, person(), None, _kept(parts, record.room, job)))


def keep_proof(parts: Backups, record: Record, job: JobName, node: str) -> None:
    """What a proof that failed says replaces what the last run said; one that holds takes back no more than an earlier
    one of the same generation."""
    before = _kept(parts, record.room, job)
    again = {result.key.partition("/")[2] for result in record.results}
    withdrawn = before is not None and any(
        said.code == ProofFailed.code and any(name in said.message for name in again) for said in before.reports
    )
    if record.state is not State.CONVERGED or withdrawn:
        keep_record(parts, record, job, node)
    elif before is not None and job in record.facts:
        records.write(parts.run_dir, replace(before, facts={**before.facts, **record.facts[job]}))


def _kept(parts: Backups, room: str, job: JobName) -> records.Kept | None:
    try:
        return records.read(records.place(parts.run_dir, room, job))
    except (records.BadRecord, FileNotFoundError):
        return None


def _words(job: Job, node: HostName, file: Path) -> tuple[str, ...]:
    """The command line of the other end: over ssh, or as a child of ours."""
    if node != LOCAL:
        return remote_words(job)
    return (sys.executable, "-m", "labstore.cli.backup_serve", "--site", str(file), "--job", str(job.name))


@dataclass(frozen=True)
class _Nodes:
    """See ports.source_nodes.SourceNodes: over ssh, or this machine itself."""

    site: Site
    state: Path

    def status(self, job: Job, node: HostName) -> Answer[SourceStatus]:
        if node == LOCAL:
            return agent(self.site, job, self.state).status()
        return SshSourceNodes(LocalHost(), SystemClock()).status(job, node)


def agent(site: Site, job: Job, state: Path) -> SourceAgent:
    """The source's side of a job, on this machine."""
    clock = SystemClock()
    here = HostName(node_name())
    path, drbd = path_of(job.source), Drbd(LocalHost())
    snapshots = snapshots_at(job.source, state)
    return SourceAgent(job, here, snapshots, clock, lambda: standing(site, job), lambda: replica(path, drbd))


def standing(site: Site, job: Job) -> Standing:
    """What this machine is to the service: by the addresses it holds, never by configuration (upstream #25)."""
    if job.cluster is None:
        return Standing.UNKNOWN
    from labstore.system.node import LocalNode  # noqa: PLC0415 - netlink is heavy, and not for every job

    held = LocalNode(SystemClock()).holds(site.cluster(job.cluster).service_addresses)
    if not isinstance(held, Fact):
        return Standing.UNKNOWN
    return Standing.ACTIVE if held.value else Standing.STANDBY
