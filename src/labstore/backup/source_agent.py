"""The source's side of a job: what a machine says of the volume, and the snapshot that is read in its stead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labstore.formats.superblock import HEAD, content_of
from labstore.model.backup import STAMP, SourceStatus, Standing
from labstore.model.backup_settings import Job, path_of
from labstore.model.change_hints import Hints
from labstore.model.names import HostName
from labstore.ports.block_source import Provided
from labstore.ports.clock import Clock
from labstore.ports.snapshots import Snapshot, Snapshots
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import LostStep, SnapshotFull, StorageFailed
from labstore.reports.blocksync import SyncFailed

KIND = "source"
TOO_FULL = 0.9
FILLING = 0.7
_MORE = 1.5
PART = 5
"""One of so many parts of a volume is the room of its snapshot where nobody says otherwise."""
EXTENT = 4 << 20


@dataclass(frozen=True)
class SourceAgent:
    """One job's volume on this machine. `standing` and `replica` say what the machine is to the service, and whether
    what lies on its disk is worth reading."""

    job: Job
    node: HostName
    snapshots: Snapshots
    clock: Clock
    standing: Callable[[], Standing] = lambda: Standing.UNKNOWN
    replica: Callable[[], str | None] = lambda: None

    def status(self) -> Answer[SourceStatus]:
        """For the backup host, before anything is done."""
        found = self.snapshots.volume()
        if isinstance(found, Missing):
            return found
        there = self.snapshots.snapshots()
        unfinished = self._unfinished(there.value) if isinstance(there, Fact) else None
        said = SourceStatus(
            node=self.node,
            standing=self.standing(),
            size=found.value.size,
            replica=self.replica(),
            free=found.value.room.free if found.value.room.needs_size else None,
            unfinished=unfinished.name if unfinished else None,
            trouble=None if isinstance(there, Fact) else there.report.message(),
            content=_content(path_of(self.job.source)),
        )
        return Fact(said, found.source, found.at)

    @contextlib.contextmanager
    def provide(self) -> Iterator[Provided]:
        """A snapshot to read: the one of an interrupted run, so that it goes on where it was, or a new one.

        It is removed when the copy succeeded, or kept where the next run can learn from it what has changed since.
        Raises SyncFailed.
        """
        try:
            self._fit()
            snapshot, base = self._snapshot()
            hints = self.snapshots.hints(base, snapshot) if base is not None else None
        except StepFailed as failure:
            raise SyncFailed(failure.report) from failure
        yield Provided(snapshot.path, snapshot.token, hints, lambda: self._check(snapshot.name))
        with contextlib.suppress(StepFailed):  # the copy is good; what could not be tidied is tidied the next time
            self._done(snapshot, base, hints)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _snapshot(self) -> tuple[Snapshot, Snapshot | None]:
        """The snapshot to read, and the one before it where it was kept."""
        there = self.snapshots.snapshots()
        if isinstance(there, Missing):
            raise StepFailed(there.report)
        ours = [each for each in there.value if self._is_ours(each)]
        unfinished = self._unfinished(there.value)
        bases = [each for each in ours if each.tags.get("state") == "base"]
        for each in ours:
            if each is not unfinished and each not in bases[-1:]:
                with contextlib.suppress(StepFailed):  # somebody looks into it; it goes the next time
                    self.snapshots.remove(each.name)
        base = bases[-1] if bases else None
        return unfinished or self._taken(), base

    def _taken(self) -> Snapshot:
        # never a generation's name: both may be in one volume group, and have one date
        name = f"labstore-{self.job.name}-source-{self.clock.now().strftime(STAMP)}"
        tags = {"job": str(self.job.name), "kind": KIND, "state": "open"}
        return self.snapshots.take(name, tags, room_for(self.snapshots, self.job.room))

    def _is_ours(self, snapshot: Snapshot) -> bool:
        return snapshot.tags.get("job") == self.job.name and snapshot.tags.get("kind") == KIND

    def _unfinished(self, there: tuple[Snapshot, ...]) -> Snapshot | None:
        """The snapshot of an interrupted run, if it can still be gone on with."""
        for each in reversed(there):
            age = (self.clock.now() - each.created).total_seconds()
            sound = each.valid and (each.full or 0.0) < TOO_FULL and age < self.job.source_snapshot_age
            if self._is_ours(each) and each.tags.get("state") == "open" and sound:
                return each
        return None

    def _done(self, snapshot: Snapshot, base: Snapshot | None, hints: Hints | None) -> None:
        keep = snapshot.room is None and (hints is not None or self._can_compare(snapshot))
        # Said first: one that is open would be gone on with, and the next copy would be of this moment once more.
        self.snapshots.tag(snapshot.name, {"state": "base" if keep else "done"})
        if not keep:
            self.snapshots.remove(snapshot.name)
        if base is not None:
            self.snapshots.remove(base.name)

    def _can_compare(self, snapshot: Snapshot) -> bool:
        """Whether this storage can say where two snapshots differ at all."""
        return self.snapshots.hints(snapshot, snapshot) is not None

    def _fit(self) -> None:
        replica = self.replica()
        if replica not in (None, "UpToDate"):
            raise StepFailed(LostStep(str(self.job.source), f"its disk is {replica}"))

    def _check(self, name: str) -> None:
        """Whether what is read can still be trusted; gives a filling snapshot more room."""
        try:
            self._fit()
            there = self.snapshots.snapshots()
            if isinstance(there, Missing):
                return  # nobody answered; reading from a snapshot that overflowed fails by itself
            found = next((each for each in there.value if each.name == name), None)
            if found is None:
                raise StepFailed(StorageFailed(name, "it was removed while it was read"))
            self._room(found)
        except StepFailed as failure:
            raise SyncFailed(failure.report) from failure

    def _room(self, found: Snapshot) -> None:
        full = found.full or 0.0
        if not found.valid or full >= TOO_FULL:
            raise StepFailed(SnapshotFull(found.name, 100 if not found.valid else round(full * 100)))
        if full >= FILLING and found.room is not None:
            with contextlib.suppress(StepFailed):  # no more room: it may still suffice
                self.snapshots.grow(found.name, int(found.room * _MORE))


def _content(path: str) -> str | None:
    """The file system that a volume holds, None where that cannot be read or is none that is known. What was read
    before is asked for again: DRBD above writes past the page cache of this device."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a device path is text here
            os.posix_fadvise(file.fileno(), 0, HEAD, os.POSIX_FADV_DONTNEED)
            found = content_of(file.read(HEAD))
    except OSError:
        return None
    return str(found) if found else None


def room_for(snapshots: Snapshots, wanted: int | None) -> int | None:
    """The room that a snapshot is told to have: what is wanted, or a fifth of the volume; None where it shares a pool.

    Raises StepFailed.
    """
    found = snapshots.volume()
    if isinstance(found, Missing):
        raise StepFailed(found.report)
    if not found.value.room.needs_size:
        return None
    return wanted if wanted is not None else -(-found.value.size // PART // EXTENT) * EXTENT
