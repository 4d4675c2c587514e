"""Who uses a block device or an image file. Nothing here can hang: links are read, never followed to what others have
open, which may lie on a dead server."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from labstore.system.files import kernel_text

PROC, SYS = Path("/proc"), Path("/sys/dev/block")


def in_use(path: str) -> str | None:
    """Who keeps this device or file from being written, in words; None where nobody does. Raises OSError.

    For a device the kernel is asked for an exclusive claim, which it refuses while anything of it is mounted (in any
    namespace, through any name), built upon or claimed; the claim is given back at once. It says nothing of a process
    that merely has it open for writing: such are looked for.
    """
    real = os.path.realpath(path)
    if not stat.S_ISBLK(os.stat(path).st_mode):  # noqa: PTH116 - a device path is text here
        return loop_over(real) or writer_of(real)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return holder_of(path)
        raise
    return writer_of(real)


def holder_of(path: str) -> str:
    """Who uses a block device, in words."""
    number = os.stat(path).st_rdev  # noqa: PTH116 - a device path is text here
    name = f"{os.major(number)}:{os.minor(number)}"
    point = mounted(name)
    if point:
        return point
    try:
        holders = sorted(each.name for each in (SYS / name / "holders").iterdir())
    except OSError:
        holders = []
    if holders:
        return f"{', '.join(holders)} is built on it"
    if any(line.partition(" ")[0] in (path, os.path.realpath(path)) for line in _lines(PROC / "swaps")[1:]):
        return "it is swap space"
    return "another program holds it exclusively"


def mounted(number: str) -> str | None:
    """Where a device is mounted, in our mount namespace or any other (where findmnt does not look)."""
    for line in _lines(PROC / "self/mountinfo"):
        fields = line.split(" ")
        if fields[2:3] == [number]:
            return f"mounted at {fields[4]}"
    for process in (each / "mountinfo" for each in _within(PROC) if each.name.isdigit()):
        for line in _lines(process):
            fields = line.split(" ")
            if fields[2:3] == [number]:
                return f"mounted at {fields[4]} in the mount namespace of process {process.parent.name}"
    return None


def writer_of(path: str) -> str | None:
    """Another process that has a file or device open for writing. Only links are read: to stat what others have open
    can hang."""
    processes = (each for each in _within(PROC) if each.name.isdigit())
    for link in (link for each in processes for link in _within(each / "fd")):
        process = link.parts[2]
        try:
            if process == str(os.getpid()) or str(link.readlink()) != path:
                continue
            flags = int((PROC / process / "fdinfo" / link.name).read_text().split("flags:")[1].split()[0], 8)
        except (OSError, IndexError, ValueError):
            continue
        if flags & os.O_ACCMODE != os.O_RDONLY:
            return f"process {process} ({_text(Path('/proc') / process / 'comm')}) has it open for writing"
    return None


def loop_over(path: str) -> str | None:
    """The loop device over a file, if there is one, in words."""
    for block in _within(Path("/sys/block")):
        if block.name.startswith("loop") and _text(block / "loop/backing_file") == path:
            return f"/dev/{block.name} is a loop device over it"
    return None


def _within(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing where it just went: processes and loop devices come and go as we look."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return kernel_text(path).strip("\n")
    except OSError:
        return None


def _lines(path: Path) -> list[str]:
    return (_text(path) or "").split("\n")
