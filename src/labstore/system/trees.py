"""Directories on volumes that tenants write to, and bind mounts of them. The tenants may be root on their share: every
look and every change goes from the volume's own mount downwards through descriptors, never through a path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labstore.system.beneath import open_beneath

NEW = ".labstore-new-directory"
"""Under this name a directory stands until owner and mode are set. What a killed run left there is removed by the next
one that makes something beside it."""
_AT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MS_BIND, _UMOUNT_NOFOLLOW, _RENAME_NOREPLACE = 0x1000, 8, 1
_libc = ctypes.CDLL(None, use_errno=True)


class NotMounted(Exception):
    """Nothing is mounted at a place where a volume should be."""


class NotADirectory(Exception):
    """Something else than a plain directory stands on the way or at its end; the message says where and what."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that is there."""

    owner: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class Top:
    """Where the way down begins: a volume's mount. `mounted` is False for a plain directory."""

    path: str
    mounted: bool = True


def directory(top: Top, path: str) -> Directory | None:
    """The directory at `path`, which lies below `top`; None where nothing is. Raises NotMounted, NotADirectory,
    OSError."""
    try:
        with _opened(top, path) as found:
            status = os.fstat(found)
    except FileNotFoundError:
        return None
    return Directory(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def make_directory(top: Top, path: str, wanted: Directory) -> None:
    """Make it; it appears with its owner and mode. Its parent must be there; what stands at its name already is left
    as it is, and an error. Raises NotMounted, NotADirectory, OSError."""
    parent, _, name = path.rpartition("/")
    with _opened(top, parent) as above:
        with contextlib.suppress(FileNotFoundError):
            _clear(above)
        os.mkdir(NEW, 0o700, dir_fd=above)
        made = open_beneath(above, NEW, os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.fstat(made)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o777 != 0o700 or status.st_nlink > 2:
                raise NotADirectory(f"{parent}/{NEW}: somebody put another one in its place")
            os.fchown(made, wanted.owner, wanted.gid)
            os.fchmod(made, wanted.mode)
            os.fsync(made)
            _rename(above, NEW, name)
        finally:
            os.close(made)
        _sync(above)


def bind(top: Top, source: str, root: str, point: str) -> None:
    """Show the directory `source`, below `top`, at `point` below `root`; what is missing of that is made. Raises
    NotMounted, NotADirectory, OSError."""
    Path(root).mkdir(mode=0o755, parents=True, exist_ok=True)
    with _opened(top, source) as shown, _made_way(root, point) as place:
        done = _libc.mount(f"/proc/self/fd/{shown}".encode(), f"/proc/self/fd/{place}".encode(), None, _MS_BIND, None)
        if done != 0:
            _fail(point)


def unbind(root: str, point: str) -> None:
    """A plain unmount, and the empty directory goes. Raises OSError: EBUSY while something uses it."""
    if _libc.umount2(point.encode(), _UMOUNT_NOFOLLOW) != 0:
        _fail(point)
    path = Path(point)
    while str(path) != root and path.is_relative_to(root):
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent


# --- the way there ---------------------------------------------------------------------------------------------------


@contextmanager
def _opened(top: Top, path: str) -> Iterator[int]:
    """A descriptor of the directory, one name after the other. Raises FileNotFoundError, NotMounted, NotADirectory."""
    here = _top(top)
    try:
        so_far = top.path
        for name in _names(top.path, path):
            so_far = f"{so_far}/{name}"
            here = _next(here, name, so_far)
        yield here
    finally:
        os.close(here)


@contextmanager
def _made_way(root: str, path: str) -> Iterator[int]:
    """The same below a directory that is root's alone; what is missing is made."""
    here = os.open(root, _AT)
    try:
        so_far = root
        for name in _names(root, path):
            so_far = f"{so_far}/{name}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=here)
            here = _next(here, name, so_far)
        yield here
    finally:
        os.close(here)


def _names(top: str, path: str) -> list[str]:
    if path != top and not path.startswith(top.rstrip("/") + "/"):
        raise ValueError(f"{path} does not lie below {top}")
    return [name for name in path.removeprefix(top).split("/") if name]


def _top(top: Top) -> int:
    try:
        found = os.open(top.path, _AT | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotMounted(top.path) from None
    if top.mounted and os.fstat(found).st_dev == Path(top.path).parent.stat().st_dev:
        os.close(found)
        raise NotMounted(top.path)
    return found


def _next(here: int, name: str, so_far: str) -> int:
    """One step down; closes where it came from, unless it raises."""
    try:
        found = open_beneath(here, name, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise NotADirectory(
                f"{so_far} is {'a symbolic link' if _is_link(here, name) else 'no directory'}"
            ) from None
        if error.errno == errno.EXDEV:
            raise NotADirectory(f"{so_far} has another file system mounted on it") from None
        raise
    os.close(here)
    return found


def _is_link(here: int, name: str) -> bool:
    """Only for words: it may be another thing by now."""
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
    return False


def _clear(above: int) -> None:
    """What a killed run left; an owner may have put something else there. Raises FileNotFoundError, NotADirectory."""
    try:
        os.rmdir(NEW, dir_fd=above)
    except NotADirectoryError:
        raise NotADirectory(f"{NEW} stands in the way and is no directory") from None
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise NotADirectory(f"{NEW} stands in the way and is not empty") from None
        raise


def _rename(above: int, old: str, new: str) -> None:
    """Only where there is nothing yet: rename(2) would take the place of an empty directory."""
    if _libc.renameat2(above, old.encode(), above, new.encode(), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        with contextlib.suppress(OSError):
            os.rmdir(old, dir_fd=above)
        raise OSError(number, os.strerror(number), new)


def _sync(above: int) -> None:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def _fail(path: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)
