"""/proc/drbd of DRBD 8.4: the only place that tells the rate of a resync and when it ends.

Minors have no names here; the names of resources come from `events2`. The progress lines stand below the device they
belong to and are never taken for one (upstream #28).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labstore.model.drbd import ConnectionState, DiskState, Progress, ReplicationState, Role, connection_of


class BadProcDrbd(ValueError):
    """Text that is not /proc/drbd of a known form."""


@dataclass(frozen=True, slots=True)
class ProcDevice:
    """One configured minor. `protocol` is blank where none is agreed upon; `flags` as DRBD prints them."""

    minor: int
    connection: ConnectionState
    replication: ReplicationState
    role: Role
    peer_role: Role
    disk: DiskState
    peer_disk: DiskState
    protocol: str
    flags: str
    out_of_sync: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ProcDrbd:
    """`version` of the module (`8.4.11`), and its configured minors in order."""

    version: str
    devices: tuple[ProcDevice, ...]


_DEVICE = re.compile(
    r"^\s*(?P<minor>\d+): cs:(?P<cs>\w+)(?: ro:(?P<role>\w+)/(?P<peer_role>\w+)"
    r" ds:(?P<disk>\w+)/(?P<peer_disk>\w+) (?P<protocol>[A-C ]) (?P<flags>\S+))?\s*$"
)
_NUMBERED = re.compile(r"^\s*\d+:")
_VERSION = re.compile(r"^version: (\d+(?:\.\d+)+)")
_OUT_OF_SYNC = re.compile(r"\boos:(\d+)")
_DONE = re.compile(r"(?:sync'ed|verified):\s*(\d+(?:\.\d+)?)%\s*(?:\((\d+)/\d+\)([KM]))?")
_FINISH = re.compile(r"finish: (\d+):(\d\d):(\d\d)\s+speed: ([\d,]+)")


def parse(text: str) -> ProcDrbd:
    """Raises BadProcDrbd."""
    lines = text.splitlines()
    version = _VERSION.match(lines[0]) if lines else None
    if version is None:
        raise BadProcDrbd(f"no version line: {text[:80]!r}")
    devices: list[ProcDevice] = []
    for head, block in _blocks(lines[1:]):
        device = _device(head, "\n".join(block))
        if device is not None:
            devices.append(device)
    return ProcDrbd(version[1], tuple(devices))


def _blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    blocks: list[tuple[str, list[str]]] = []
    for line in lines:
        if _NUMBERED.match(line):
            blocks.append((line, []))
        elif blocks:
            blocks[-1][1].append(line)
    return blocks


def _device(head: str, block: str) -> ProcDevice | None:
    found = _DEVICE.match(head)
    if found is None:
        raise BadProcDrbd(f"not a device line: {head[:200]!r}")
    if found["role"] is None:
        if found["cs"] == "Unconfigured":
            return None
        raise BadProcDrbd(f"a device without roles: {head[:200]!r}")
    try:
        connection, replication = connection_of(found["cs"])
        return ProcDevice(
            minor=int(found["minor"]),
            connection=connection,
            replication=replication,
            role=Role(found["role"]),
            peer_role=Role(found["peer_role"]),
            disk=DiskState(found["disk"]),
            peer_disk=DiskState(found["peer_disk"]),
            protocol=found["protocol"].strip(),
            flags=found["flags"],
            out_of_sync=_number(_OUT_OF_SYNC, block),
            progress=_progress(block),
        )
    except ValueError as error:
        raise BadProcDrbd(f"{error}: {head[:200]!r}") from None


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _progress(block: str) -> Progress | None:
    done, finish = _DONE.search(block), _FINISH.search(block)
    if done is None and finish is None:
        return None
    left = None
    if done is not None and done[2]:
        left = int(done[2]) * (1024 if done[3] == "M" else 1)
    return Progress(
        done=float(done[1]) if done else None,
        left=left,
        rate=int(finish[4].replace(",", "")) if finish else None,
        seconds=int(finish[1]) * 3600 + int(finish[2]) * 60 + int(finish[3]) if finish else None,
    )
