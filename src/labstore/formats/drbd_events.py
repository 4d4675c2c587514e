"""`drbdsetup events2` of DRBD 8.4 and 9: one line per object and change, the form meant for programs.

`events2 --now` ends after the present state, so one call describes every resource on the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

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


class BadEvents(ValueError):
    """A line that is not of events2's form, or a word that DRBD does not use."""


class Action(StrEnum):
    EXISTS = "exists"
    CREATE = "create"
    CHANGE = "change"
    RENAME = "rename"
    DESTROY = "destroy"
    CALL = "call"
    RESPONSE = "response"


class Object(StrEnum):
    """NONE is `-`, the line that ends the present state."""

    RESOURCE = "resource"
    DEVICE = "device"
    CONNECTION = "connection"
    PEER_DEVICE = "peer-device"
    PATH = "path"
    HELPER = "helper"
    NONE = "-"


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `values` holds every `key:value` of it, identifying ones included, in order."""

    action: Action
    object: Object
    values: Mapping[str, str]

    @property
    def resource(self) -> str:
        return self.values.get("name", "")


def event(line: str) -> Event:
    """Raises BadEvents. A leading time stamp (`--timestamps`) is passed over."""
    words = line.split()
    if words and words[0][:4].isdigit():
        words = words[1:]
    try:
        action, kind = Action(words[0]), Object(words[1])
    except (IndexError, ValueError):
        raise BadEvents(f"not a line of events2: {line[:200]!r}") from None
    values: dict[str, str] = {}
    for word in words[2:]:
        key, colon, value = word.partition(":")
        if not colon:
            raise BadEvents(f"{word!r} is no key:value: {line[:200]!r}")
        values[key] = value
    return Event(action, kind, values)


def events(text: str) -> tuple[Event, ...]:
    """Every line of a listing. Raises BadEvents. `- skipped N` means lines are missing, which is an error here."""
    return tuple(event(line) for line in text.splitlines() if line.strip())


def present(found: Iterable[Event]) -> Mapping[ResourceName, ResourceStatus]:
    """The state that the events amount to. Raises BadEvents, also where the end of the present state is missing: a
    listing that was cut short says nothing about what it lacks (DESIGN law 1)."""
    parts: dict[str, dict[tuple[Object, str], dict[str, str]]] = {}
    complete = False
    for each in found:
        if each.object is Object.NONE:
            complete = True
        elif each.object in (Object.HELPER, Object.PATH):
            continue
        elif each.action is Action.DESTROY:
            _forget(parts, each)
        else:
            key = (each.object, each.values.get("volume", ""))
            parts.setdefault(each.resource, {}).setdefault(key, {}).update(each.values)
    if not complete:
        raise BadEvents("the listing ends before its last line `exists -`")
    return {name: _status(name, parts[text]) for text in sorted(parts) if (name := _name(text))}


def _forget(parts: dict[str, dict[tuple[Object, str], dict[str, str]]], gone: Event) -> None:
    if gone.object is Object.RESOURCE:
        parts.pop(gone.resource, None)
    else:
        parts.get(gone.resource, {}).pop((gone.object, gone.values.get("volume", "")), None)


def _name(text: str) -> ResourceName:
    try:
        return ResourceName(text)
    except ValueError as error:
        raise BadEvents(str(error)) from None


def _status(name: ResourceName, parts: Mapping[tuple[Object, str], Mapping[str, str]]) -> ResourceStatus:
    resource = parts.get((Object.RESOURCE, ""), {})
    connection = parts.get((Object.CONNECTION, ""), {})
    suspended = tuple(word for word in resource.get("suspended", "no").split(",") if word != "no")
    try:
        return ResourceStatus(
            name=name,
            role=Role(resource.get("role", Role.UNKNOWN)),
            connection=_connection(connection.get("connection", ConnectionState.STAND_ALONE)),
            peer_role=Role(connection.get("role", Role.UNKNOWN)),
            devices=tuple(
                _device(int(volume), values, parts.get((Object.PEER_DEVICE, volume), {}))
                for (kind, volume), values in sorted(parts.items())
                if kind is Object.DEVICE
            ),
            suspended=suspended,
        )
    except ValueError as error:
        raise BadEvents(f"resource {name}: {error}") from None


def _connection(word: str) -> ConnectionState:
    """8.4 shows some of its own words for a connection even here."""
    return connection_of(word)[0]


def _device(volume: int, device: Mapping[str, str], peer: Mapping[str, str]) -> DeviceStatus:
    minor, out_of_sync = device.get("minor"), peer.get("out-of-sync")
    return DeviceStatus(
        volume=volume,
        minor=int(minor) if minor is not None else None,
        disk=DiskState(device.get("disk", DiskState.UNKNOWN)),
        peer_disk=DiskState(peer.get("peer-disk", DiskState.UNKNOWN)),
        replication=connection_of(peer["replication"])[1] if "replication" in peer else ReplicationState.OFF,
        out_of_sync=int(out_of_sync) if out_of_sync is not None else None,
        progress=Progress(done=float(peer["done"])) if "done" in peer else None,
    )
