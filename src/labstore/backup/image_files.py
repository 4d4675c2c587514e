"""Volumes that are image files: a generation is a file beside them, sharing what is equal where the file system can."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from labstore.model.change_hints import Hints
from labstore.model.names import Name
from labstore.ports.clock import Clock
from labstore.ports.snapshots import Room, Snapshot, VolumeFound
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NotOurs, StorageFailed
from labstore.reports.sources import SourceFailed
from labstore.system.block_use import in_use
from labstore.system.files import FileTooLarge, read_limited, sync_directory, write_atomic

_FICLONE = 0x40049409
_SUFFIX = ".generations"


class SnapshotFile(Name):
    """A snapshot's name, which becomes part of a file name."""

    __slots__ = ()
    what = "snapshot's name"


class ImageSnapshots:
    """See ports.snapshots.Snapshots. `NAME.img` and `NAME.json` (its tags) in the folder `IMAGE.generations`; both
    must be there for a snapshot to exist."""

    def __init__(self, image: Path, clock: Clock) -> None:
        self._image, self._clock = image, clock
        self._folder = image.with_name(image.name + _SUFFIX)

    def volume(self) -> Answer[VolumeFound]:
        try:
            size = self._image.stat().st_size if self._image.exists() else 0
            holder = in_use(str(self._image)) if self._image.exists() else None
            return self._fact(VolumeFound(str(self._image), size, self._room(), holder))
        except OSError as error:
            return self._missing("the volume", error)

    def snapshots(self) -> Answer[tuple[Snapshot, ...]]:
        try:
            found = [self._found(path) for path in self._folder.glob("*.img")] if self._folder.is_dir() else []
            return self._fact(tuple(sorted((each for each in found if each), key=lambda each: each.name)))
        except OSError as error:
            return self._missing("the snapshots", error)

    def take(self, name: str, tags: Mapping[str, str], room: int | None = None) -> Snapshot:  # noqa: ARG002 - the Protocol's
        image, said = self._paths(name)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if image.exists():
                raise StepFailed(StorageFailed(name, "there is a snapshot of this name already"))
            self._clear()
            staged = image.with_suffix(".new")
            with _copied(self._image, staged):
                write_atomic(said, json.dumps({"tags": dict(tags)}).encode(), mode=0o600)
                staged.rename(image)
            sync_directory(self._folder)
            found = self._found(image)
        except OSError as error:
            raise self._failed(name, error) from error
        assert found is not None, "its two files were just written"
        return found

    def _clear(self) -> None:
        """Remove what takes that were killed have left; one that is at work holds a lock on it."""
        for left in self._folder.glob("*.new"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        found = self._ours(name)
        try:
            both = {"tags": {**found.tags, **tags}}
            write_atomic(self._paths(name)[1], json.dumps(both).encode(), mode=0o600)
        except OSError as error:
            raise self._failed(name, error) from error

    def remove(self, name: str) -> None:
        image, said = self._paths(name)
        if not image.exists():
            return
        self._ours(name)
        try:
            holder = in_use(str(image))
            if holder is not None:
                raise StepFailed(StorageFailed(name, f"it is in use: {holder}"))
            image.unlink()
            said.unlink(missing_ok=True)
            sync_directory(self._folder)
        except OSError as error:
            raise self._failed(name, error) from error

    def grow(self, name: str, room: int) -> None:
        """A file takes what it needs."""

    def open_copy(self, name: str, purpose: str) -> str:
        self._ours(name)
        image, copy = self._paths(name)[0], self._copy_path(name, purpose)
        try:
            copy.unlink(missing_ok=True)
            with _copied(image, copy):
                pass
        except OSError as error:
            raise self._failed(name, error) from error
        return str(copy)

    def close_copy(self, name: str, purpose: str) -> None:
        try:
            self._copy_path(name, purpose).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(name, error) from error

    def hints(self, since: Snapshot, until: Snapshot) -> Hints | None:  # noqa: ARG002 - files cannot say
        return None

    # --- parts ------------------------------------------------------------------------------------------------------

    def _paths(self, name: str) -> tuple[Path, Path]:
        plain = SnapshotFile(name)
        return self._folder / f"{plain}.img", self._folder / f"{plain}.json"

    def _copy_path(self, name: str, purpose: str) -> Path:
        return self._folder / f"{SnapshotFile(name)}.{SnapshotFile(purpose)}"

    def _found(self, image: Path) -> Snapshot | None:
        """The snapshot that these files are; one without its tags is not ours, and one that just went is none."""
        try:
            status = image.stat()
            tags = _tags(read_limited(image.with_suffix(".json"), 1 << 16))
        except FileNotFoundError:
            tags = {}
            if not image.exists():
                return None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FileTooLarge):
            tags = {}
        made = datetime.fromtimestamp(status.st_mtime, UTC)
        token = f"image {status.st_ino} {status.st_size} {status.st_mtime_ns}"
        taken = status.st_blocks * 512
        return Snapshot(image.stem, str(image), status.st_size, made, token, tags, takes=taken)

    def _ours(self, name: str) -> Snapshot:
        image = self._paths(name)[0]
        try:
            found = self._found(image) if image.exists() else None
        except OSError as error:
            raise self._failed(name, error) from error
        if found is None:
            raise StepFailed(StorageFailed(name, "there is no such snapshot"))
        if not found.ours:
            raise StepFailed(NotOurs(name))
        return found

    def _room(self) -> Room:
        status = os.statvfs(self._image.parent)
        return Room(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize, needs_size=False)

    def _fact(self, value: object) -> Fact:  # type: ignore[type-arg]
        return Fact(value, "files", self._clock.now())

    def _missing(self, what: str, error: OSError) -> Missing:
        report = SourceFailed("files", f"{what} of {self._image}", error.strerror or str(error))
        return Missing(report, "files", self._clock.now())

    @staticmethod
    def _failed(name: str, error: OSError) -> StepFailed:
        return StepFailed(StorageFailed(name, error.strerror or str(error)))


def _tags(text: bytes) -> dict[str, str]:
    """What stands in the file beside an image. Raises whatever a file that somebody touched may make it raise."""
    return {str(key): str(value) for key, value in json.loads(text)["tags"].items()}


@contextlib.contextmanager
def _copied(source: Path, target: Path) -> Iterator[None]:
    """A copy that shares its blocks where the file system can do that, and is as sparse as its source; durable. While
    it is made, and looked at by the caller, it is locked; where that fails nothing of it is left."""
    with source.open("rb") as read, target.open("xb") as written:
        try:
            fcntl.flock(written, fcntl.LOCK_EX)
            os.fchmod(written.fileno(), 0o600)
            if not _cloned(written.fileno(), read.fileno()):
                _copy_data(read.fileno(), written.fileno())
            os.fsync(written.fileno())
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise


def _cloned(written: int, read: int) -> bool:
    try:
        fcntl.ioctl(written, _FICLONE, read)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL):
            return False
        raise
    return True


def _copy_data(read: int, written: int) -> None:
    size = os.fstat(read).st_size
    os.ftruncate(written, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(read, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(read, at, os.SEEK_HOLE)
        while at < end:
            done = os.copy_file_range(read, written, end - at, at, at)
            if not done:
                raise OSError(errno.EIO, "the image became shorter while it was copied")
            at += done
