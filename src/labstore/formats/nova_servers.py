"""Nova's lists of servers (GET /servers/detail, GET /servers/ID): JSON to instances. Raw dicts stop here.

The rules come from answers recorded in tests/captures/openstack. A shape that is not known is never read as "no
addresses" (upstream #8): it is an error of that server, and so of its project, and of nothing else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labstore.formats.json_api import Unreadable, document, kind
from labstore.model.address import Client
from labstore.model.cloud import AddressKind, Instance, InstanceAddress
from labstore.model.names import shown

DELETED = "DELETED"
"""The status with which changes-since lists servers that are no more."""
UNKNOWN = "UNKNOWN"
"""The status of a server whose cell does not answer (microversion 2.69 and later)."""
NAME_LIMIT = 255

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATUS = re.compile(r"[A-Z_]{1,32}")


@dataclass(frozen=True, slots=True)
class Listed:
    """One server as listed. `updated` and `deleted` are UTC; `deleted` is None while the server lives."""

    instance: Instance
    updated: datetime | None = None
    deleted: datetime | None = None


@dataclass(frozen=True)
class ServerPage:
    """One page. `unreadable` holds, per project id, what was wrong with one of its servers.

    `marker` is what asks for the next page, None on the last one.
    """

    servers: tuple[Listed, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    marker: str | None = None


def server_page(body: bytes, region: str) -> ServerPage:
    """The page in `body`. Raises Unreadable where not even the projects of all servers can be told."""
    page = document(body)
    rows = page.get("servers")
    if not isinstance(rows, list):
        raise Unreadable(f"no list of servers, but {kind(rows)}")
    servers: list[Listed] = []
    unreadable: dict[str, str] = {}
    for row in rows:
        try:
            servers.append(_server(row, region))
        except Unreadable as error:
            unreadable[_project_of(row, error)] = str(error)
    return ServerPage(tuple(servers), unreadable, _marker(page.get("servers_links")))


def one_server(body: bytes, region: str) -> Listed:
    """The server in the answer to GET /servers/ID. Raises Unreadable."""
    return _server(document(body).get("server"), region)


def says_no_such_server(body: bytes) -> bool:
    """Whether the body of a 404 is Nova's own word that there is no such server, and not a web server's page."""
    try:
        return isinstance(document(body).get("itemNotFound"), dict)
    except Unreadable:
        return False


def _project_of(row: object, error: Unreadable) -> str:
    project = row.get("tenant_id") if isinstance(row, dict) else None
    if isinstance(project, str) and _ID.fullmatch(project):
        return project
    raise error


def _server(row: object, region: str) -> Listed:
    if not isinstance(row, dict):
        raise Unreadable(f"a server is an object, not {kind(row)}")
    identity, project = _word(row, "id", _ID), _word(row, "tenant_id", _ID)
    try:
        status = _word(row, "status", _STATUS)
        instance = Instance(
            id=identity,
            name=_name(row.get("name")),
            project_id=sys.intern(project),
            region=region,
            status=sys.intern(status),
            addresses=_addresses(row.get("addresses"), status),
            created=_time(row.get("created")),
        )
        updated = _time(row.get("updated"))
        gone = _time(row.get("OS-SRV-USG:terminated_at")) if status == DELETED else None
    except Unreadable as error:
        raise Unreadable(f"server {identity}: {error}") from None
    return Listed(instance, updated, (gone or updated or instance.created) if status == DELETED else None)


def _word(row: Mapping[str, Any], key: str, grammar: re.Pattern[str]) -> str:
    value = row.get(key)
    if not isinstance(value, str) or grammar.fullmatch(value) is None:
        raise Unreadable(f"{key} is {shown(value)}")
    return value


def _name(value: object) -> str:
    """The name, safe to show: tenants choose it. A server of a cell that is down has none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f"name is {kind(value)}")
    cut = value[:NAME_LIMIT]
    return cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1]


def _addresses(value: object, status: str) -> tuple[InstanceAddress, ...] | None:
    """None where Nova does not say: `{}` of a server being built or failed, of an empty info cache, of a deleted one;
    no key at all where the cell is down (seen: status UNKNOWN)."""
    if value is None and status == UNKNOWN:
        return None
    if not isinstance(value, dict):
        raise Unreadable(f"addresses is {kind(value)}")
    entries = [entry for network in value.values() for entry in _entries(network)]
    return tuple(dict.fromkeys(_address(entry) for entry in entries)) or None


def _entries(network: object) -> list[Any]:
    if not isinstance(network, list):
        raise Unreadable(f"the addresses of a network are {kind(network)}")
    return network


def _address(entry: object) -> InstanceAddress:
    if not isinstance(entry, dict):
        raise Unreadable(f"an address is {kind(entry)}")
    try:
        address = Client(str(entry.get("addr")))
        found = InstanceAddress(address, AddressKind(str(entry.get("OS-EXT-IPS:type"))))
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if not address.single:
        raise Unreadable(f"{address} is a network, not an address")
    return found


def _time(value: object) -> datetime | None:
    """Nova writes UTC, with and without fractions and zone (`created` against `terminated_at`)."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise Unreadable(f"{shown(value)} is not a time") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _marker(links: object) -> str | None:
    """Only the marker is taken from the link to the next page: its host is whatever Nova thinks it is called."""
    if links is None:
        return None
    if not isinstance(links, list):
        raise Unreadable(f"servers_links is {kind(links)}")
    for link in links:
        if isinstance(link, dict) and link.get("rel") == "next":
            found = parse_qs(urlsplit(str(link.get("href"))).query).get("marker", [])
            if len(found) == 1 and _ID.fullmatch(found[0]):
                return found[0]
            raise Unreadable(f"a link to the next page without a marker: {shown(link.get('href'))}")
    return None
