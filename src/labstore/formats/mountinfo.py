"""/proc/PID/mountinfo (proc(5), kernel Documentation/filesystems/proc.rst 3.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass


class BadMountinfo(ValueError):
    """A line that is not of mountinfo's form."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. `device` is (major, minor); `root` is the path inside the file system that is mounted."""

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    point: str
    options: tuple[str, ...]
    filesystem: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def parse(text: str) -> tuple[Mount, ...]:
    """Every mount, in the kernel's order: of several on one point the last is on top. Raises BadMountinfo.

    Of what ends lines elsewhere the kernel escapes the newline alone (fs/proc_namespace.c, mangle)."""
    return tuple(_mount(line) for line in text.split("\n") if line)


def on_top(mounts: tuple[Mount, ...], point: str) -> Mount | None:
    """What is visible at `point`, exactly there (upstream #66: never by substring)."""
    return next((mount for mount in reversed(mounts) if mount.point == point), None)


def _mount(line: str) -> Mount:
    try:
        left, right = line.split(" - ", 1)
        number, parent, device, root, point, options = left.split(" ")[:6]
        filesystem, source, super_options = right.split(" ", 2)
        major, minor = device.split(":")
        return Mount(
            int(number),
            int(parent),
            (int(major), int(minor)),
            _plain(root),
            _plain(point),
            tuple(options.split(",")),
            filesystem,
            _plain(source),
            tuple(super_options.split(",")),
        )
    except ValueError as error:
        raise BadMountinfo(f"not a line of mountinfo: {line[:200]!r}") from error


def _plain(text: str) -> str:
    """Blanks, tabs, newlines and backslashes come as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
