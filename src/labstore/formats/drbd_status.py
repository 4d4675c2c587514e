"""`drbdadm status` (text, DRBD 8.4 and 9) and `drbdsetup status --json` (DRBD 9).

The text leaves out what is as usual: a connection that stands shows only the peer's role, an established replication
shows nothing. A single volume 0 stands without `volume:0`. Colours are never asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from labstore.model.drbd import (
    ConnectionState,
    DeviceStatus,
    DiskState,
    Progress,
    ReplicationState,
    ResourceName,
    ResourceStatus,
    Role,
    connection_of,
)


class BadStatus(ValueError):
    """Text that is not a status of a known form."""


Section = tuple[int, dict[str, str]]


def parse(text: str) -> Mapping[ResourceName, ResourceStatus]:
    """The resources of the text form. Raises BadStatus."""
    statuses = [_resource(block) for block in _blocks(text)]
    return {status.name: status for status in statuses}


def _blocks(text: str) -> list[list[str]]:
    """The lines of each resource; one begins at a line without indentation."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
        else:
            raise BadStatus(f"indented before any resource: {line[:200]!r}")
    return blocks


def _resource(lines: list[str]) -> ResourceStatus:
    name, *words = lines[0].split()
    head = _values(words, lines[0])
    devices: dict[int, dict[str, str]] = {}
    peers: dict[int, dict[str, str]] = {}
    connection: dict[str, str] = {}
    in_peer = False
    last: dict[str, str] = {}
    for line in lines[1:]:
        indent, words = len(line) - len(line.lstrip()), line.split()
        if indent == 2 and ":" not in words[0]:  # a peer: its name, then what is unusual about the connection
            in_peer = True
            connection = last = _values(words[1:], line)
            continue
        values = _values(words, line)
        if indent > 4 and not ({"volume", "disk", "peer-disk", "replication"} & values.keys()):
            last.update(values)  # statistics continue on a line of their own
            continue
        volume = int(values.get("volume", "0"))
        last = (peers if in_peer else devices).setdefault(volume, {})
        last.update(values)
    return _status(name, head, connection, devices, peers)


def _values(words: Sequence[str], line: str) -> dict[str, str]:
    pairs = [word.partition(":") for word in words]
    if not all(colon for _, colon, _ in pairs):
        raise BadStatus(f"not key:value: {line[:200]!r}")
    return {key: value for key, _, value in pairs}


def _status(
    name: str,
    head: Mapping[str, str],
    connection: Mapping[str, str],
    devices: Mapping[int, Mapping[str, str]],
    peers: Mapping[int, Mapping[str, str]],
) -> ResourceStatus:
    suspended = tuple(word for word in head.get("suspended", "no").split(",") if word != "no")
    stands = "role" in connection
    try:
        found = ConnectionState.CONNECTED if stands else ConnectionState.STAND_ALONE
        if "connection" in connection:
            found = connection_of(connection["connection"])[0]
        return ResourceStatus(
            name=ResourceName(name),
            role=Role(head["role"]),
            connection=found,
            peer_role=Role(connection.get("role", Role.UNKNOWN)),
            devices=tuple(_device(volume, devices[volume], peers.get(volume, {}), found) for volume in sorted(devices)),
            suspended=suspended,
        )
    except (KeyError, ValueError) as error:
        raise BadStatus(f"resource {name[:60]!r}: {error}") from None


def _device(
    volume: int, device: Mapping[str, str], peer: Mapping[str, str], connection: ConnectionState
) -> DeviceStatus:
    replication = ReplicationState.OFF
    if "replication" in peer:
        replication = connection_of(peer["replication"])[1]
    elif connection is ConnectionState.CONNECTED and "peer-disk" in peer:
        replication = ReplicationState.ESTABLISHED
    minor, out_of_sync = device.get("minor"), peer.get("out-of-sync")
    return DeviceStatus(
        volume=volume,
        minor=int(minor) if minor is not None else None,
        disk=DiskState(device["disk"]),
        peer_disk=DiskState(peer.get("peer-disk", DiskState.UNKNOWN)),
        replication=replication,
        out_of_sync=int(out_of_sync) if out_of_sync is not None else None,
        progress=Progress(done=float(peer["done"])) if "done" in peer else None,
    )


# --- JSON ------------------------------------------------------------------------------------------------------------


def parse_json(text: str) -> Mapping[ResourceName, ResourceStatus]:
    """The resources of `drbdsetup status --json`. Raises BadStatus. Of several peers the first is taken: a cluster
    here is a pair."""
    try:
        document = json.loads(text)
        statuses = [_from_json(resource) for resource in document]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadStatus(f"not drbdsetup's JSON: {type(error).__name__} {error}"[:300]) from None
    return {status.name: status for status in statuses}


_SUSPENSIONS = ("user", "no-data", "fencing", "quorum")


def _from_json(resource: Mapping[str, Any]) -> ResourceStatus:
    connection: Mapping[str, Any] = next(iter(resource.get("connections", ())), {})
    peers = {int(peer["volume"]): peer for peer in connection.get("peer_devices", ())}
    return ResourceStatus(
        name=ResourceName(resource["name"]),
        role=Role(resource["role"]),
        connection=ConnectionState(connection.get("connection-state", ConnectionState.STAND_ALONE)),
        peer_role=Role(connection.get("peer-role", Role.UNKNOWN)),
        devices=tuple(_device_from_json(device, peers.get(int(device["volume"]))) for device in resource["devices"]),
        suspended=tuple(why for why in _SUSPENSIONS if resource.get(f"suspended-{why}") is True),
    )


def _device_from_json(device: Mapping[str, Any], peer: Mapping[str, Any] | None) -> DeviceStatus:
    here = peer or {}
    return DeviceStatus(
        volume=int(device["volume"]),
        minor=int(device["minor"]),
        disk=DiskState(device["disk-state"]),
        peer_disk=DiskState(here.get("peer-disk-state", DiskState.UNKNOWN)),
        replication=ReplicationState(here.get("replication-state", ReplicationState.OFF)),
        out_of_sync=int(here["out-of-sync"]) if "out-of-sync" in here else None,
        progress=_progress(here),
    )


NEVER = 987654321
"""What drbdsetup writes as seconds to the end where nothing moves."""


def _progress(peer: Mapping[str, Any]) -> Progress | None:
    if "percent-resync-done" not in peer:
        return None
    seconds, rate = peer.get("estimated-seconds-to-finish"), peer.get("db1/dt1 [MiB/s]")
    return Progress(
        done=float(peer["percent-resync-done"]),
        left=int(peer["out-of-sync"]) if "out-of-sync" in peer else None,
        rate=int(float(rate) * 1024) if rate is not None else None,
        seconds=int(seconds) if seconds is not None and int(seconds) != NEVER else None,
    )
