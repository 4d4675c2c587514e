"""LVM: what there is, and snapshots. Everything is asked as JSON in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from labstore.formats import lvm_report
from labstore.formats.lvm_report import (
    LV_FIELDS,
    PV_FIELDS,
    VG_FIELDS,
    BadReport,
    LogicalVolume,
    PhysicalVolume,
    VolumeGroup,
)
from labstore.model.names import Name
from labstore.ports.host import Command, CommandFailed, Host

T = TypeVar("T")
_AS_JSON = ("--reportformat", "json", "--units", "b", "--nosuffix")
DEADLINE = 60.0


class LvmFailed(Exception):
    """LVM did not do it, or did not answer in a known form."""


class LvmName(Name):
    """A volume group or a logical volume. An empty or odd name is a wildcard to LVM (upstream 1.9)."""

    __slots__ = ()
    what = "LVM name"


@dataclass(frozen=True)
class Lvm:
    host: Host

    def logical_volumes(self, *of: str) -> tuple[LogicalVolume, ...]:
        """Those of these groups (or paths), of all for none. Raises LvmFailed."""
        return self._parsed(lvm_report.logical_volumes, "lvs", "--all", "-o", LV_FIELDS, *of)

    def volume_groups(self) -> tuple[VolumeGroup, ...]:
        return self._parsed(lvm_report.volume_groups, "vgs", "-o", VG_FIELDS)

    def physical_volumes(self) -> tuple[PhysicalVolume, ...]:
        return self._parsed(lvm_report.physical_volumes, "pvs", "-o", PV_FIELDS)

    def snapshot(self, group: LvmName, origin: LvmName, name: LvmName, size: int, tags: tuple[str, ...] = ()) -> None:
        """Take a snapshot with `size` bytes of room for what changes. Raises LvmFailed."""
        marks = tuple(part for tag in tags for part in ("--addtag", tag))
        what = ("--snapshot", "--size", f"{size}b", "--name", name, *marks)
        self._run("lvcreate", "--yes", *what, f"{group}/{origin}")

    def remove_snapshot(self, group: LvmName, name: LvmName) -> None:
        """Remove it if it is a snapshot; anything else is refused. Raises LvmFailed."""
        found = [lv for lv in self.logical_volumes(group) if lv.name == name]
        if not found or not found[0].snapshot:
            raise LvmFailed(f"{group}/{name} is no snapshot; it is left alone")
        self._run("lvremove", "--yes", f"{group}/{name}")

    def _parsed(self, parse: Callable[[str], T], program: str, *arguments: str) -> T:
        text = self._run(program, *_AS_JSON, *arguments)
        try:
            return parse(text)
        except BadReport as error:
            raise LvmFailed(f"{program}: {error}") from error

    def _run(self, *argv: str) -> str:
        try:
            return self.host.run(Command.of(*argv, deadline=DEADLINE)).stdout
        except CommandFailed as error:
            raise LvmFailed(str(error)) from error
