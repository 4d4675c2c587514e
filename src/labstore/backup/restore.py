"""Bringing back what was backed up: files and directories out of a generation, or a whole volume onto a free device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path, PurePath

from labstore.backup.apply import RESTORE
from labstore.backup.mounting import RestoreMounts
from labstore.backup.restore_onto import Onto
from labstore.model.backup import GenerationName, snapshot_name
from labstore.model.backup_settings import Job, JobName
from labstore.model.block_sync import DevicePath, Permit, Place, SyncResult
from labstore.ports.block_engine import BlockEngine, Order
from labstore.ports.clock import Clock
from labstore.ports.host import Command, CommandFailed, Host
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NotInGeneration, RestoreHolds, RestoreRefused, RunFailed, StorageFailed
from labstore.reports.blocksync import SyncFailed
from labstore.reports.blocksync_target import ForeignTarget, TargetSwapped
from labstore.system.beneath import open_beneath

_DEADLINE = 7 * 86400.0
_MOUNTED = timedelta(hours=6)
"""How long a generation that was only mounted for a restore stays mounted if we are killed."""


@dataclass(frozen=True)
class Restorer:
    host: Host
    mounts: RestoreMounts
    engine: BlockEngine
    clock: Clock
    onto: Onto

    def files(self, job: Job, generation: GenerationName, paths: Sequence[str], into: Path) -> tuple[str, ...]:
        """Copy paths of a generation, with owners, times, links and attributes, into a directory that is there.
        Gives what in `into` was replaced by it; nothing there is removed. Raises StepFailed."""
        if not into.is_dir():
            raise StepFailed(RestoreRefused(str(into), "it is no directory"))
        _apart(paths, into)
        point = Path(self.mounts.root / job.name / generation)
        standing = next((mount for mount in self.mounts.all() if mount.point == str(point)), None)
        until = standing.until if standing is not None else self.clock.now() + _MOUNTED
        mount = self.mounts.mount(job.name, generation, until)  # also where it only stands in the book
        try:
            clean = [within(job.name, point, path) for path in paths]
            return tuple(name for path in clean for name in self._copy(point, path, into))
        finally:
            if standing is None:
                self.mounts.unmount(mount.point)

    def _copy(self, point: Path, path: str, into: Path) -> tuple[str, ...]:
        where = ("--", f"{point}/{path}", f"{into}/")
        found: tuple[str, ...] = ()
        if os.path.lexists(into / PurePath(path).name):
            found = _replaced(self._rsync("--dry-run", "--existing", "--out-format=%i %n", *where))
        self._rsync(*where)
        return found

    def _rsync(self, *more: str) -> str:
        try:
            return self.host.run(Command(("rsync", "-aHAX", "--numeric-ids", *more), _DEADLINE)).stdout
        except CommandFailed as error:
            raise StepFailed(StorageFailed("rsync", str(error))) from error

    def volume(
        self,
        job: Job,
        generation: GenerationName,
        onto: Place,
        snapshots: Snapshots,
        remote: tuple[str, ...] = (),
        given: frozenset[Permit] = frozenset(),
    ) -> SyncResult:
        """Make a whole device what a generation is, and prove it. The device is one that nobody uses, here or on
        another machine, which `remote` reaches; one that holds something wants that to be permitted (`given`). Raises
        StepFailed."""
        self.onto.check(onto)
        name = snapshot_name(job.name, generation)
        copy = snapshots.open_copy(name, RESTORE)
        try:
            permits = self.onto.permits(onto, copy, given)
            options = replace(job.options, permits=permits, full=True, hints=None, cache=False, max_change=1.0)
            label = f"{job.name} {generation}"
            return self.engine.sync(Order(Place(DevicePath(copy)), onto, label, options, job.limits, remote))
        except SyncFailed as failure:
            if isinstance(failure.report, ForeignTarget | TargetSwapped):
                raise StepFailed(RestoreHolds(str(onto), _holds(failure.report))) from failure
            raise StepFailed(RunFailed(job.name, failure.report.message(), failure.report.remedy() or "")) from failure
        finally:
            snapshots.close_copy(name, RESTORE)


def _holds(report: ForeignTarget | TargetSwapped) -> str:
    return report.content if isinstance(report, ForeignTarget) else "something, and is another one than last time"


def _apart(paths: Sequence[str], into: Path) -> None:
    """Two of one name would be one in the end, the later over the earlier. Raises StepFailed."""
    names: dict[str, str] = {}
    for path in dict.fromkeys(each.strip("/") for each in paths):
        name = PurePath(path).name
        if names.setdefault(name, path) != path:
            both, why = f"{names[name]} and {path}", f"both would be {into / name}"
            raise StepFailed(RestoreRefused(both, why, "restore each into a directory of its own"))


def _replaced(said: str) -> tuple[str, ...]:
    """The names that rsync, asked only about what is there already, would write over: not those of directories."""
    rows = (row.partition(" ") for row in said.splitlines())
    return tuple(name for changes, _, name in rows if changes[:1] in (">", "c") and changes[1:2] != "d")


def within(job: JobName, point: Path, path: str) -> str:
    """A path within a mounted generation, checked component by component: no link in it is followed, because whoever
    made the tree chose where links lead. Raises StepFailed."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise StepFailed(NotInGeneration(job, path, "it is not a path within the volume"))
    folder = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = open_beneath(folder, part, os.O_RDONLY | os.O_DIRECTORY)
            os.close(folder)
            folder = inner
        os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise StepFailed(NotInGeneration(job, path, error.strerror or str(error))) from error
    finally:
        os.close(folder)
    return "/".join(parts)
