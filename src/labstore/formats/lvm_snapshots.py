"""`lvs` with the fields that snapshots need, and our tags on them.

lvs --all --reportformat json --units b --nosuffix -o FIELDS GROUP
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

FIELDS = (
    "vg_name,lv_name,lv_uuid,lv_attr,lv_size,lv_time,origin,origin_size,pool_lv,data_percent,snap_percent,"
    "lv_snapshot_invalid,lv_tags,segtype,lv_device_open,vg_size,vg_free,thin_id"
)
PREFIX = "labstore.backup."
_WORD = re.compile(r"[A-Za-z0-9_+./=!:&#-]{0,200}")
_TAG = re.compile(r"([a-z]+)=(.*)", re.DOTALL)


class BadReport(ValueError):
    """Not LVM's JSON, or fields are missing that were asked for."""


@dataclass(frozen=True, slots=True)
class Lv:
    """One logical volume. `size` is its own, `virtual` what a reader sees. `full` is from 0 to 1; `tags` are ours."""

    group: str
    name: str
    uuid: str
    attributes: str
    size: int
    virtual: int
    created: datetime
    origin: str
    pool: str
    full: float | None
    invalid: bool
    open: bool
    group_size: int
    group_free: int
    thin_id: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def thin(self) -> bool:
        return bool(self.pool)

    @property
    def thick_snapshot(self) -> bool:
        return bool(self.origin) and not self.pool


def parse(text: str) -> tuple[Lv, ...]:
    """Raises BadReport."""
    try:
        rows = [row for report in json.loads(text)["report"] for row in report.get("lv", [])]
        return tuple(_lv(row) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadReport(f"not LVM's report: {type(error).__name__} {error}"[:200]) from None


def _lv(row: Mapping[str, str]) -> Lv:
    percent = row["snap_percent"] or row["data_percent"]
    size = int(row["lv_size"])
    return Lv(
        group=row["vg_name"],
        name=row["lv_name"].strip("[]"),
        uuid=row["lv_uuid"],
        attributes=row["lv_attr"],
        size=size,
        virtual=int(row.get("origin_size") or size),
        created=datetime.strptime(row["lv_time"], "%Y-%m-%d %H:%M:%S %z").astimezone(UTC),
        origin=row["origin"].strip("[]"),
        pool=row["pool_lv"].strip("[]"),
        full=float(percent) / 100 if percent else None,
        invalid=row["lv_snapshot_invalid"] == "snapshot invalid" or row["lv_attr"][4:5] in ("I", "S"),
        open=row["lv_device_open"] == "open" or row["lv_attr"][5:6] == "o",
        group_size=int(row.get("vg_size") or 0),
        group_free=int(row.get("vg_free") or 0),
        thin_id=int(row["thin_id"]) if row.get("thin_id") else None,
        tags=tags_of(row["lv_tags"]),
    )


def tags_of(text: str) -> Mapping[str, str]:
    """Our tags among all of a volume's."""
    ours = (tag[len(PREFIX) :] for tag in text.split(",") if tag.startswith(PREFIX))
    return {found[1]: found[2] for found in map(_TAG.fullmatch, ours) if found}


def tag_words(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Tags as LVM takes them. Raises ValueError for what LVM cannot keep."""
    words = tuple(f"{PREFIX}{key}={value}" for key, value in sorted(tags.items()))
    for word in words:
        if _WORD.fullmatch(word) is None or _TAG.fullmatch(word[len(PREFIX) :]) is None:
            raise ValueError(f"{word!r} cannot be an LVM tag")
    return words
