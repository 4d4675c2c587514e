"""What a whole volume may be restored onto: nothing that backups are made of, and nothing that holds something else,
unless a person says so."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.backup.plan import LOCAL
from labstore.formats.superblock import HEAD, content_of
from labstore.model.backup_settings import Job, JobName, LogicalVolume, path_of
from labstore.model.block_sync import Permit, Place
from labstore.model.names import HostName
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.facts import Fact
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import RestoreHolds, RestoreRefused
from labstore.system.block_use import in_use

Identity = tuple[str, int, int]
BLOCKS = Path("/sys/dev/block")


@dataclass(frozen=True)
class Onto:
    """`jobs` are all of the site's, `here` is this machine."""

    jobs: Mapping[JobName, Job]
    snapshots_of: Callable[[Job], Snapshots]
    here: HostName

    def check(self, onto: Place) -> None:
        """Refuse what backups are made of, what is in use and what no volume can be. Raises StepFailed."""
        local = onto.host in (None, LOCAL, self.here)
        parts = self._parts(onto) if local else self._far_sources(onto)
        what = next(parts, None)
        if what is not None:
            why = f"it is {what}"
            raise StepFailed(RestoreRefused(str(onto), why, "restore onto another one, and rename that if need be"))
        if local:
            _fit(onto.path)

    def permits(self, onto: Place, copy: str, given: frozenset[Permit]) -> frozenset[Permit]:
        """What the copy may do there. Raises StepFailed where it holds something that is not the volume in `copy`;
        another machine looks for itself."""
        ours = frozenset({Permit.NEW_SOURCE, Permit.SHRINK})
        if Permit.ADOPT_TARGET not in given:
            if onto.host is not None:
                return ours
            holds = _something_else(onto.path, copy)
            if holds is not None:
                raise StepFailed(RestoreHolds(str(onto), holds))
        return ours | {Permit.ADOPT_TARGET, Permit.NEW_TARGET}

    def _parts(self, onto: Place) -> Iterator[str]:
        """What of backups a device or file here is, by whatever name it goes."""
        wanted = frozenset(_identities(onto.path))
        for job in self.jobs.values():
            if (not job.nodes or LOCAL in job.nodes or self.here in job.nodes) and _any(path_of(job.source), wanted):
                yield f"the source of job {job.name}"
            if _any(path_of(job.target), wanted):
                yield f"the target of job {job.name}"
            if any(_any(path, wanted) for path in self._snapshots(job)) or _beside(job, onto.path):
                yield f"a generation of job {job.name}"

    def _snapshots(self, job: Job) -> Iterable[str]:
        listed = self.snapshots_of(job).snapshots()
        return [each.path for each in listed.value] if isinstance(listed, Fact) else ()

    def _far_sources(self, onto: Place) -> Iterator[str]:
        for job in self.jobs.values():
            if onto.host in job.nodes and onto.path == path_of(job.source):
                yield f"the source of job {job.name}"


def _fit(device: str) -> None:
    try:
        mode = os.stat(device).st_mode  # noqa: PTH116 - a device path is text here
        holder = in_use(device) if stat.S_ISBLK(mode) or stat.S_ISREG(mode) else "it is no block device and no file"
    except OSError as error:
        raise StepFailed(RestoreRefused(device, error.strerror or str(error))) from error
    if holder is not None:
        raise StepFailed(RestoreRefused(device, holder))


def _beside(job: Job, path: str) -> bool:
    """Whether a path lies where the generations of an image file lie."""
    if isinstance(job.target, LogicalVolume):
        return False
    return os.path.dirname(os.path.realpath(path)) == os.path.realpath(f"{job.target}.generations")  # noqa: PTH120


def _any(path: str, wanted: frozenset[Identity]) -> bool:
    return not wanted.isdisjoint(_identities(path))


def _identities(path: str) -> Iterator[Identity]:
    """What a path leads to; of a loop device the file too. Nothing where there is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a device path is text here
    except OSError:
        return
    if not stat.S_ISBLK(found.st_mode):
        yield ("file", found.st_dev, found.st_ino)
        return
    yield ("device", found.st_rdev, 0)
    number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    try:
        backing = (BLOCKS / number / "loop/backing_file").read_text().removesuffix("\n")
    except OSError:
        return
    yield from _identities(backing)


def _something_else(path: str, copy: str) -> str | None:
    """What a device or file holds that is not blank and not the volume in `copy`. Raises StepFailed."""
    try:
        there, ours = _head(path), _head(copy)
    except OSError as error:
        raise StepFailed(RestoreRefused(path, error.strerror or str(error))) from error
    content = content_of(there)
    same = there == ours or (content is not None and content == content_of(ours))
    return None if same or not there.strip(b"\0") else str(content or "something")


def _head(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a device path is text here
        return file.read(HEAD)
