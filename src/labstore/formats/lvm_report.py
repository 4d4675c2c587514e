"""`lvs`, `vgs` and `pvs` with `--reportformat json --units b --nosuffix`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class BadReport(ValueError):
    """Not LVM's JSON, or fields are missing that were asked for."""


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One logical volume. `origin` is what a snapshot was taken of, empty for others; `full` is how much of a
    snapshot's (or thin pool's) room is used, in per cent. `size` is in bytes."""

    group: str
    name: str
    path: str
    size: int
    attributes: str
    origin: str = ""
    full: float | None = None
    tags: tuple[str, ...] = ()
    device: tuple[int, int] | None = None

    @property
    def snapshot(self) -> bool:
        return bool(self.origin) and self.attributes[:1] in "sS"

    @property
    def open(self) -> bool:
        """Whether something has the device open."""
        return self.attributes[5:6] == "o"


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """`free` and `size` in bytes."""

    name: str
    size: int
    free: int


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    device: str
    group: str


LV_FIELDS = "vg_name,lv_name,lv_path,lv_size,lv_attr,origin,data_percent,lv_tags,lv_kernel_major,lv_kernel_minor"
VG_FIELDS = "vg_name,vg_size,vg_free"
PV_FIELDS = "pv_name,vg_name"


def logical_volumes(text: str) -> tuple[LogicalVolume, ...]:
    """Of a report with LV_FIELDS. Raises BadReport."""
    return tuple(_logical(row) for row in _rows(text, "lv"))


def volume_groups(text: str) -> tuple[VolumeGroup, ...]:
    """Of a report with VG_FIELDS. Raises BadReport."""
    return tuple(VolumeGroup(*_of(row, "vg_name", "vg_size:int", "vg_free:int")) for row in _rows(text, "vg"))


def physical_volumes(text: str) -> tuple[PhysicalVolume, ...]:
    """Of a report with PV_FIELDS. Raises BadReport."""
    return tuple(PhysicalVolume(*_of(row, "pv_name", "vg_name")) for row in _rows(text, "pv"))


def _rows(text: str, kind: str) -> list[Mapping[str, str]]:
    try:
        return [row for report in json.loads(text)["report"] for row in report.get(kind, [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadReport(f"not LVM's JSON: {type(error).__name__} {error}"[:200]) from None


def _of(row: Mapping[str, str], *names: str) -> list[Any]:
    values: list[Any] = []
    for name in names:
        key, _, kind = name.partition(":")
        try:
            values.append(int(row[key]) if kind == "int" else str(row[key]))
        except (KeyError, ValueError, TypeError):
            raise BadReport(f"{key} is missing or no {kind or 'text'}: {str(dict(row))[:200]}") from None
    return values


def _logical(row: Mapping[str, str]) -> LogicalVolume:
    group, name, size, attributes = _of(row, "vg_name", "lv_name", "lv_size:int", "lv_attr")
    full, major, minor = (row.get(key, "") for key in ("data_percent", "lv_kernel_major", "lv_kernel_minor"))
    try:
        return LogicalVolume(
            group=group,
            name=name.strip("[]"),
            path=row.get("lv_path") or f"/dev/{group}/{name.strip('[]')}",
            size=size,
            attributes=attributes,
            origin=row.get("origin", "").strip("[]"),
            full=float(full) if full else None,
            tags=tuple(tag for tag in row.get("lv_tags", "").split(",") if tag),
            device=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
        )
    except (ValueError, AttributeError) as error:
        raise BadReport(f"{error}: {str(dict(row))[:200]}") from None
