"""Mounting and unmounting, and what is mounted where, in every mount namespace.

`umount -l` is never used: it hides the mount and keeps the device open, and then nobody can see who holds it. `-f`
does nothing for a local file system (both upstream #20, #21).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.formats.mountinfo import BadMountinfo, Mount, parse
from labstore.ports.host import Command, CommandFailed, Host
from labstore.system.files import kernel_text

Device = tuple[int, int]


class MountFailed(Exception):
    """`point` could not be mounted or unmounted; `busy` if something uses it."""

    def __init__(self, point: str, reason: str, busy: bool = False) -> None:
        super().__init__(f"{point}: {reason}")
        self.point, self.reason, self.busy = point, reason, busy


@dataclass(frozen=True, slots=True)
class Namespace:
    """A mount namespace: its number, the mounts in it, and some process that lives there. `follows` are the ids of
    mounts that come away by themselves when ours does (propagation), as those of most systemd services do."""

    number: int
    pid: int
    mounts: tuple[Mount, ...]
    follows: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Mounts:
    host: Host
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")

    def here(self) -> tuple[Mount, ...]:
        """The mounts that this process sees. Raises OSError, BadMountinfo."""
        return parse(kernel_text(self.proc / "self" / "mountinfo"))

    def elsewhere(self) -> tuple[Namespace, ...]:
        """Every other mount namespace in which some process lives. Raises OSError where /proc cannot be read."""
        own = self._namespace("self")
        groups = frozenset(peer for peer, _ in _groups(kernel_text(self.proc / "self" / "mountinfo")).values() if peer)
        found: dict[int, Namespace] = {}
        for pid in _pids(self.proc):
            number = self._namespace(str(pid))
            if number is None or number == own or number in found:
                continue
            with contextlib.suppress(OSError, BadMountinfo):
                text = kernel_text(self.proc / str(pid) / "mountinfo")
                follows = frozenset(id_ for id_, both in _groups(text).items() if groups & set(both))
                found[number] = Namespace(number, pid, parse(text), follows)
        return tuple(found.values())

    def _namespace(self, pid: str) -> int | None:
        try:
            return (self.proc / pid / "ns" / "mnt").stat().st_ino
        except OSError:
            return None

    def device(self, path: Path) -> Device | None:
        """The number of a block device, None where there is no such node."""
        try:
            number = path.stat().st_rdev
        except OSError:
            return None
        return os.major(number), os.minor(number)

    def alive(self, device: Device) -> bool:
        """Whether a file system on this device is active in the kernel, mounted anywhere or not: so it is after a
        lazy unmount as long as somebody holds a file."""
        name = self._kernel_name(device)
        if name is None:
            return False
        return any((self.sys / "fs" / kind / name).is_dir() for kind in ("ext4", "xfs", "btrfs", "f2fs"))

    def _kernel_name(self, device: Device) -> str | None:
        try:
            return (self.sys / "dev" / "block" / f"{device[0]}:{device[1]}").resolve(strict=True).name
        except OSError:
            return None

    def stacked(self, device: Device) -> tuple[str, ...]:
        """The names of block devices that were built upon this one (device mapper, md, loop)."""
        try:
            holders = self.sys / "dev" / "block" / f"{device[0]}:{device[1]}" / "holders"
            return tuple(sorted(self._label(entry) for entry in holders.iterdir()))
        except OSError:
            return ()

    def _label(self, entry: Path) -> str:
        try:
            return f"{entry.name} ({(entry / 'dm' / 'name').read_text().strip()})"
        except OSError:
            return entry.name

    # --- acting -----------------------------------------------------------------------------------------------------

    def mount(
        self, device: Path, point: str, filesystem: str | None, options: Iterable[str], deadline: float = 120.0
    ) -> None:
        """Mount a device with what its journal holds replayed, never with a repair. Raises MountFailed."""
        kind = ("-t", filesystem) if filesystem else ()
        joined = ",".join(options)
        argv = ("mount", *kind, *(("-o", joined) if joined else ()), str(device), point)
        self._run(Command(argv, deadline), point)

    def bind(self, source: str, point: str) -> None:
        """Raises MountFailed."""
        self._run(Command.of("mount", "--bind", source, point), point)

    def unmount(self, point: str, deadline: float = 30.0) -> None:
        """A plain unmount of what is on top there. Raises MountFailed."""
        self._run(Command.of("umount", point, deadline=deadline), point)

    def unmount_in(self, pid: int, point: str, deadline: float = 30.0) -> None:
        """The same in the mount namespace of another process. Raises MountFailed."""
        self._run(Command.of("nsenter", "--mount", "--target", str(pid), "umount", point, deadline=deadline), point)

    def _run(self, command: Command, point: str) -> None:
        try:
            self.host.run(command)
        except CommandFailed as error:
            said = error.stderr.strip().splitlines()[-1:] or [error.reason]
            raise MountFailed(point, said[0][:300], "busy" in error.stderr) from error


def _groups(mountinfo: str) -> Mapping[int, tuple[int, int]]:
    """Mount id to the peer group that it shares and the one that it follows (0 for none)."""
    found: dict[int, tuple[int, int]] = {}
    for line in mountinfo.split("\n"):
        words = line.partition(" - ")[0].split(" ")
        tags = dict(word.split(":", 1) for word in words[6:] if ":" in word)
        with contextlib.suppress(ValueError):
            found[int(words[0])] = int(tags.get("shared", 0)), int(tags.get("master", 0))
    return found


def of_device(mounts: Iterable[Mount], device: Device) -> tuple[Mount, ...]:
    """The mounts of this device, in the order in which they were made."""
    return tuple(mount for mount in mounts if mount.device == device)


def below(mounts: Iterable[Mount], point: str) -> tuple[Mount, ...]:
    """What is mounted inside of `point`, deepest first, later ones first: the order in which it comes away."""
    prefix = point.rstrip("/") + "/"
    inside = [(number, mount) for number, mount in enumerate(mounts) if mount.point.startswith(prefix)]
    inside.sort(key=lambda each: (each[1].point.count("/"), each[0]), reverse=True)
    return tuple(mount for _, mount in inside)


def by_point(mounts: Iterable[Mount]) -> Mapping[str, Mount]:
    """The mount on top at each point."""
    return {mount.point: mount for mount in mounts}


def _pids(proc: Path) -> list[int]:
    return sorted(int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit())
