"""Locks held by a process for as long as it lives: nothing stale is ever left behind (upstream #38)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path


class Locked(Exception):
    """Another process holds the lock; `holder` is what it wrote about itself."""

    def __init__(self, path: Path, holder: str) -> None:
        self.path, self.holder = path, holder
        super().__init__(f"{path} is held by {holder or 'another process'}")


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold `path` while the block runs. Raises Locked at once if somebody else does, OSError if it cannot be opened.

    The kernel lets go when the process ends, however it ends. The file stays; only the lock on it means anything. To
    lock a file one needs no more than to read it (flock(2)), so nobody but its owner may: any user could keep us out.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(path, os.pread(descriptor, 400, 0).decode("utf-8", "replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{what}, pid {os.getpid()}, {' '.join(sys.argv)[:300]}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def is_held(path: Path, locks: Path = Path("/proc/locks")) -> bool | None:
    """Whether some process holds this lock now; None where that cannot be told. A file that is not there is not held.

    Asks the kernel's list of locks: whoever may see the file may ask, and a look turns nobody away.
    """
    try:
        found = path.lstat()
        held = _held_inodes(locks.read_text())
    except FileNotFoundError:
        return False if locks.exists() else None
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    here = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    devices = {device for device, inode in held if inode == str(found.st_ino)}
    if devices and here not in devices:
        return None  # btrfs and overlayfs show stat(2) another device than the kernel's list
    return bool(devices)


def _held_inodes(listed: str) -> list[tuple[str, str]]:
    """Device and inode of every file of which somebody has an flock; who still waits for one is marked `->`."""
    rows = (line.split() for line in listed.splitlines())
    files = (row[5] for row in rows if len(row) > 5 and row[1] == "FLOCK")
    return [(device, inode) for device, _, inode in (file.rpartition(":") for file in files)]
