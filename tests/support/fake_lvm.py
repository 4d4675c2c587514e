"""A volume group in memory that understands the commands we give LVM, and answers as LVM does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from labstore.formats.lvm_snapshots import FIELDS
from labstore.ports.host import Command, CommandFailed, Completed


@dataclass
class FakeLv:
    name: str
    size: int
    origin: str = ""
    virtual: int = 0
    pool: str = ""
    tags: list[str] = field(default_factory=list)
    percent: str = ""
    invalid: bool = False
    open: bool = False
    number: int = 0


@dataclass
class FakeLvm:
    """See ports.host.Host. One group with one volume and, for a thin one, its pool."""

    group: str
    volume: str
    size: int
    thin: bool
    free: int = 1 << 40
    answers: bool = True
    ran: list[tuple[str, ...]] = field(default_factory=list)
    lvs: dict[str, FakeLv] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pool = "pool" if self.thin else ""
        if self.thin:
            self.lvs["pool"] = FakeLv("pool", 10 * self.size, percent="25.00")
        self.lvs[self.volume] = FakeLv(self.volume, self.size, pool=pool, percent="50.00" if self.thin else "")

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        self.ran.append(command.argv)
        program, *words = command.argv
        if not self.answers:
            raise CommandFailed(command, "did not end within 120 s and was killed")
        try:
            said = getattr(self, f"_{program}")(words)
        except KeyError as error:
            raise CommandFailed(command, "ended with status 5", 5, f"Failed to find logical volume {error}") from None
        return Completed(command, 0, said or "", "")

    def _lvs(self, words: list[str]) -> str:
        assert words[-2:] == [FIELDS, self.group], words
        return json.dumps({"report": [{"lv": [self._row(lv) for lv in self.lvs.values()]}]})

    def _row(self, lv: FakeLv) -> dict[str, Any]:
        return {
            "vg_name": self.group, "lv_name": lv.name, "lv_uuid": f"uuid-{lv.name}-{lv.number}",
            "lv_attr": "swi-a-s---" if lv.origin and not lv.pool else "Vwi-a-tz--" if lv.pool else "-wi-a-----",
            "lv_size": str(lv.size), "lv_time": f"2026-05-29 11:54:{lv.number:02} +0000", "origin": lv.origin,
            "origin_size": str(lv.virtual) if lv.origin and not lv.pool else "", "pool_lv": lv.pool,
            "data_percent": lv.percent, "snap_percent": lv.percent if lv.origin and not lv.pool else "",
            "lv_snapshot_invalid": "snapshot invalid" if lv.invalid else "", "lv_tags": ",".join(lv.tags),
            "segtype": "thin" if lv.pool else "linear", "lv_device_open": "open" if lv.open else "",
            "vg_size": str(1 << 41), "vg_free": str(self.free), "thin_id": str(lv.number) if lv.pool else "",
        }  # fmt: skip

    def _lvcreate(self, words: list[str]) -> None:
        options = _options(words)
        origin = self.lvs[words[-1].removeprefix(self.group + "/")]
        assert "--snapshot" in words, "nothing but snapshots is ever made"
        assert words[-1] == f"{self.group}/{origin.name}"
        name = options["--name"][0]
        assert name not in self.lvs
        size = int(options["--size"][0].rstrip("b")) if "--size" in options else origin.size
        assert bool(origin.pool) != ("--size" in options), "a size makes a thin volume's snapshot a thick one"
        if not origin.pool:
            self.free -= size
        made = FakeLv(name, size, origin.name, origin.virtual or origin.size, origin.pool, percent="0.00")
        made.tags, made.number = options.get("--addtag", []), len(self.lvs)
        self.lvs[name] = made

    def _lvchange(self, words: list[str]) -> None:
        lv, options = self.lvs[words[-1].removeprefix(self.group + "/")], _options(words)
        tags = dict.fromkeys([*lv.tags, *options.get("--addtag", [])])
        lv.tags = [tag for tag in tags if tag not in options.get("--deltag", [])]  # the real one deletes last, too

    def _lvextend(self, words: list[str]) -> None:
        self.lvs[words[-1].removeprefix(self.group + "/")].size = int(_options(words)["--size"][0].rstrip("b"))

    def _lvremove(self, words: list[str]) -> None:
        assert words[-1].startswith(f"{self.group}/"), "a bare group would be a wildcard"
        assert len(words[-1]) > len(self.group) + 1
        gone = words[-1].removeprefix(self.group + "/")
        del self.lvs[gone]
        for lv in self.lvs.values():  # a thin snapshot lives on without its origin, and no longer names one
            lv.origin = "" if lv.origin == gone else lv.origin

    def _losetup(self, words: list[str]) -> str:
        return "/dev/loop99\n" if "--show" in words else ""

    def _dmsetup(self, words: list[str]) -> None:
        assert words[0] == "create"
        assert " snapshot /dev/" in words[3]


def _options(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for option, value in pairwise(words):
        if option.startswith("--"):
            found.setdefault(option, []).append(value)
    return found
