"""A mount namespace of the test's own, in which the directories of nfs-utils are the test's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_entered = False


def enter() -> None:
    """Leave the machine's mount namespace for one of this process; mounts made from here on are seen by it alone.
    Once per process; raises OSError without the right to."""
    global _entered  # noqa: PLW0603 - a process has one mount namespace
    if _entered:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("--make-rprivate", "/")
    _entered = True


def bind(source: Path, target: Path) -> None:
    """`source` seen at `target`. A mount point that is not there is made, and stays: it is the whole machine's, and
    where one process removes it, the kernel takes the mounts away that others have there (upstream Linux, 3.18)."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch(exist_ok=True)
    _mount("--bind", str(source), str(target))


@contextlib.contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """`source` seen at `target` for a while."""
    bind(source, target)
    try:
        yield
    finally:
        unmount(target)


def unmount(target: Path) -> None:
    subprocess.run(["umount", str(target)], check=True, timeout=30)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=30)


def may_enter() -> bool:
    return os.geteuid() == 0
