"""Who keeps a file system from being unmounted, or its device from being let go: found without ever hanging.

Links and `fdinfo` in /proc are answered by the kernel alone. What needs a stat, which a dead NFS server elsewhere
could delay for ever, is done by a disposable child: one that does not come back is killed and the file is passed over.
`fuser` and `lsof` have no such care. They also see nothing of a lazy unmount, which is found here by the device.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from labstore.formats.mountinfo import BadMountinfo, Mount, parse
from labstore.system.files import kernel_text
from labstore.system.mounts import Device, Mounts, below, of_device

PATIENCE = 2.0
"""Seconds that one stat may take before its child is given up."""


class HolderKind(StrEnum):
    PROCESS = "process"
    MOUNT = "mount"
    NAMESPACE = "mount namespace"
    SWAP = "swap"
    LOOP = "loop device"
    STACKED = "block device"
    DETACHED = "detached file system"
    """Active in the kernel, mounted nowhere: a lazy unmount that somebody still holds."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One reason why a file system or device is busy. `pid` is 0 where it is no process; `unit` is its systemd unit;
    `how` says by what it holds (`fd 4 /srv/x/file`)."""

    kind: HolderKind
    what: str
    how: str
    pid: int = 0
    unit: str = ""

    def text(self) -> str:
        of = f" of {self.unit}" if self.unit else ""
        pid = f" {self.pid}" if self.pid else ""
        return f"{self.kind}{pid} {self.what}{of}: {self.how}"


@dataclass
class Holders:
    """Looks for what holds `device`, mounted at `point`. `sys` and `proc` as the kernel has them."""

    mounts: Mounts
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    patience: float = PATIENCE
    unseen: list[str] = field(default_factory=list)
    """Files that could not be looked at in time, from the last search."""

    def of(self, device: Device, point: str) -> tuple[Holder, ...]:
        """Everything that holds it, but the mount at `point` in this namespace and the NFS server. Raises OSError."""
        self.unseen.clear()
        found = [*self._mounts(device, point), *self._processes(device), *self._swaps(point), *self._loops(point)]
        found += [Holder(HolderKind.STACKED, name, "is built upon it") for name in self.mounts.stacked(device)]
        if not found and self._detached(device):
            found.append(Holder(HolderKind.DETACHED, point, "was unmounted lazily and is still in use"))
        return tuple(dict.fromkeys(found))

    def _detached(self, device: Device) -> bool:
        if not self.mounts.alive(device):
            return False
        spaces = [self.mounts.here(), *(space.mounts for space in self.mounts.elsewhere())]
        return not any(of_device(mounts, device) for mounts in spaces)

    # --- mounts -----------------------------------------------------------------------------------------------------

    def _mounts(self, device: Device, point: str) -> Iterator[Holder]:
        here = self.mounts.here()
        for mount in below(here, point):
            yield Holder(HolderKind.MOUNT, mount.point, f"{mount.filesystem} is mounted inside")
        for mount in of_device(here, device):
            if mount.point != point and not mount.point.startswith(point.rstrip("/") + "/"):
                yield Holder(HolderKind.MOUNT, mount.point, "shows the same file system")
        for space in self.mounts.elsewhere():
            for mount in of_device(space.mounts, device):
                if mount.id in space.follows:
                    continue
                pid, name, unit = space.pid, self._name(space.pid), self._unit(space.pid)
                yield Holder(HolderKind.NAMESPACE, name, f"has it mounted at {mount.point}", pid, unit)

    # --- processes --------------------------------------------------------------------------------------------------

    def _processes(self, device: Device) -> Iterator[Holder]:
        tables = _Tables(self.proc)
        own, doubtful = os.getpid(), list[tuple[int, str, Path]]()
        for pid in _pids(self.proc):
            if pid == own:
                continue
            with contextlib.suppress(OSError):
                for how in self._certain(pid, device, tables):
                    yield self._holder(pid, how)
                doubtful += self._doubtful(pid, tables)
        devices = stat_devices([path for _, _, path in doubtful], self.patience, self.unseen)
        for pid, how, path in doubtful:
            if devices.get(path) == device:
                yield self._holder(pid, how)

    def _holder(self, pid: int, how: str) -> Holder:
        return Holder(HolderKind.PROCESS, self._name(pid), how, pid, self._unit(pid))

    def _certain(self, pid: int, device: Device, tables: _Tables) -> Iterator[str]:
        """What the kernel says by itself: open files by their mount, mapped files by their device."""
        by_id = tables.devices(pid)
        for number, mount in _descriptors(self.proc, pid):
            if by_id.get(mount) == device:
                yield f"fd {number} {_link(self.proc / str(pid) / 'fd' / number)}"
        mark = f"{device[0]:02x}:{device[1]:02x}"
        seen: set[str] = set()
        for line in (self.proc / str(pid) / "maps").read_text(errors="replace").splitlines():
            words = line.split(maxsplit=5)
            if len(words) == 6 and words[3] == mark and words[5] not in seen:
                seen.add(words[5])
                yield f"maps {words[5]}"

    def _doubtful(self, pid: int, tables: _Tables) -> Iterator[tuple[int, str, Path]]:
        """What only a stat can tell: directories, and files of mounts that no table lists any more."""
        base = self.proc / str(pid)
        for name in ("cwd", "root", "exe"):
            target = _link(base / name)
            if target and not tables.remote(pid, target):
                yield pid, f"{name} {target}", base / name
        known = tables.devices(pid)
        for number, mount in _descriptors(self.proc, pid):
            target = _link(base / "fd" / number)
            if mount not in known and target.startswith("/") and not target.startswith(("/memfd:", "/dev/", "/[")):
                yield pid, f"fd {number} {target}", base / "fd" / number

    def _name(self, pid: int) -> str:
        try:
            return (self.proc / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            return "(gone)"

    def _unit(self, pid: int) -> str:
        try:
            text = (self.proc / str(pid) / "cgroup").read_text(errors="replace")
        except OSError:
            return ""
        parts = re.split(r"[/\n]", text)
        return next((part for part in reversed(parts) if part.endswith((".service", ".scope"))), "")

    # --- swap and loop ----------------------------------------------------------------------------------------------

    def _swaps(self, point: str) -> Iterator[Holder]:
        with contextlib.suppress(OSError):
            for line in kernel_text(self.proc / "swaps").split("\n")[1:]:
                name = line.partition(" ")[0]
                if _inside(name, point):
                    yield Holder(HolderKind.SWAP, name, "is used as swap")

    def _loops(self, point: str) -> Iterator[Holder]:
        for backing in sorted((self.sys / "block").glob("loop*/loop/backing_file")):
            with contextlib.suppress(OSError):
                name = backing.read_text(errors="replace").strip()
                if _inside(name, point):
                    yield Holder(HolderKind.LOOP, backing.parent.parent.name, f"is backed by {name}")


class _Tables:
    """The mounts of processes, read once per namespace."""

    REMOTE = ("nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "autofs", "glusterfs")

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._by_space: dict[str, tuple[Mount, ...]] = {}

    def _of(self, pid: int) -> tuple[Mount, ...]:
        space = _link(self._proc / str(pid) / "ns" / "mnt") or str(pid)
        if space not in self._by_space:
            try:
                self._by_space[space] = parse(kernel_text(self._proc / str(pid) / "mountinfo"))
            except (OSError, BadMountinfo):
                return ()
        return self._by_space[space]

    def devices(self, pid: int) -> Mapping[int, Device]:
        return {mount.id: mount.device for mount in self._of(pid)}

    def remote(self, pid: int, path: str) -> bool:
        """Whether the path lies on a file system that another machine (or a user process) answers for."""
        over = [mount for mount in self._of(pid) if _inside(path, mount.point)]
        deepest = max(over, key=lambda mount: len(mount.point), default=None)
        return deepest is not None and (
            deepest.filesystem in self.REMOTE or deepest.filesystem.startswith("fuse") or not path.startswith("/")
        )


def _pids(proc: Path) -> list[int]:
    return sorted(int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit())


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - the text of the link, `pipe:[1]` included
    except OSError:
        return ""


def _descriptors(proc: Path, pid: int) -> Iterator[tuple[str, int]]:
    """(number, mount id) of every open file of a process."""
    with contextlib.suppress(OSError):
        for entry in sorted((proc / str(pid) / "fdinfo").iterdir(), key=lambda each: int(each.name)):
            with contextlib.suppress(OSError):
                found = re.search(r"^mnt_id:\s*(\d+)$", entry.read_text(errors="replace"), re.MULTILINE)
                if found:
                    yield entry.name, int(found[1])


def _inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


# --- stats that may hang ---------------------------------------------------------------------------------------------


def stat_devices(paths: Sequence[Path], patience: float, unseen: list[str]) -> Mapping[Path, Device]:
    """The device on which each file lies. A file whose stat does not come back within `patience` seconds is put into
    `unseen`; the others are answered all the same."""
    found: dict[Path, Device] = {}
    start = 0
    while start < len(paths):
        reached = _stat_in_child(paths, start, patience, found)
        if reached < len(paths):
            unseen.append(str(paths[reached]))
        start = reached + 1
    return found


def _stat_in_child(paths: Sequence[Path], start: int, patience: float, found: dict[Path, Device]) -> int:
    """Stats from `start` on in a child of its own; the position of the file at which it got stuck, or the end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _stat_all(paths[start:], writing)
    os.close(writing)
    at, pending = start, b""
    try:
        while at < len(paths):
            if not select.select([reading], [], [], patience)[0]:
                break
            piece = os.read(reading, 65536)
            if not piece:
                break
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                if line != b"-":
                    major, minor = line.split(b":")
                    found[paths[at]] = int(major), int(minor)
                at += 1
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _reap(child)
    return at


def _stat_all(paths: Iterable[Path], writing: int) -> None:
    try:
        for path in paths:
            try:
                number = os.stat(path).st_dev  # noqa: PTH116 - nothing but the call itself in this child
                os.write(writing, f"{os.major(number)}:{os.minor(number)}\n".encode())
            except OSError:
                os.write(writing, b"-\n")
    finally:
        os._exit(0)


def _reap(child: int) -> None:
    """Collect the child if it ended; one that is stuck in the kernel is left to it."""
    for _ in range(20):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(child, os.WNOHANG)[0] == child:
                return
        select.select([], [], [], 0.005)
