"""What exists in the cloud: projects, users' rights, servers in cells, and what of that is out of order."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

REGION = "eqiad1-r"
NETWORK = "lan-flat-cloudinstances2b"


@dataclass
class Enrolled:
    """A project. `role`: the observer may log in to it. `gone`: deleted in Keystone, while its servers are there."""

    id: str
    name: str
    enabled: bool = True
    role: bool = True
    gone: bool = False
    domain: str = "default"


@dataclass
class Booted:
    """A server. `broken`: its info cache makes Nova answer 500 wherever it would be listed."""

    id: str
    name: str
    project: str
    region: str
    cell: str
    addresses: list[tuple[str, str]]
    created: datetime
    updated: datetime
    status: str = "ACTIVE"
    task: str | None = None
    deleted: bool = False
    hidden: bool = False
    broken: bool = False
    shape: dict[str, Any] = field(default_factory=dict)
    """Keys that replace what Nova would say, None to leave one out: shapes that are not known."""

    @property
    def scheduling(self) -> bool:
        return self.task == "scheduling"

    def json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "tenant_id": self.project,
            "user_id": "56900fc9541c4345909a7cf2763d2349",
            "metadata": {},
            "hostId": "e44618bcadd8ee08abb02cced0cfeddf6c06e788d4198b522dbc2930",
            "image": {"id": "e16203bc-250d-4024-bccd-229504810565", "links": [_link("images")]},
            "flavor": {
                "vcpus": 1,
                "ram": 2048,
                "disk": 20,
                "ephemeral": 0,
                "swap": 0,
                "original_name": "g4.cores1.ram2.disk20",
                "extra_specs": {},
            },
            "created": f"{self.created:%Y-%m-%dT%H:%M:%SZ}",
            "updated": f"{self.updated:%Y-%m-%dT%H:%M:%SZ}",
            "addresses": {} if self.deleted or not self.addresses else {NETWORK: [_entry(*a) for a in self.addresses]},
            "accessIPv4": "",
            "accessIPv6": "",
            "links": [_link("servers"), _link("servers")],
            "OS-DCF:diskConfig": "MANUAL",
            "progress": 0,
            "OS-EXT-AZ:availability_zone": "nova",
            "config_drive": "",
            "key_name": None,
            "OS-SRV-USG:launched_at": f"{self.created:%Y-%m-%dT%H:%M:%S.000000}",
            "OS-SRV-USG:terminated_at": f"{self.updated:%Y-%m-%dT%H:%M:%S.000000}" if self.deleted else None,
            "OS-EXT-STS:task_state": self.task,
            "OS-EXT-STS:vm_state": self.status.lower(),
            "OS-EXT-STS:power_state": 1,
            "os-extended-volumes:volumes_attached": [],
            "locked": False,
            "description": None,
            "tags": [],
            "trusted_image_certificates": None,
        }
        row |= self.shape
        return {key: value for key, value in row.items() if key not in self.shape or value is not None}

    def partial(self) -> dict[str, Any]:
        """All that Nova says of a server whose cell is down."""
        row = {"id": self.id, "status": "UNKNOWN", "tenant_id": self.project, "links": [_link("servers")]}
        return row | {"created": f"{self.created:%Y-%m-%dT%H:%M:%SZ}"}


def _link(what: str) -> dict[str, str]:
    return {"rel": "bookmark", "href": f"http://127.0.0.1:18774/{what}/e16203bc-250d-4024-bccd-229504810565"}


def _entry(kind: str, address: str) -> dict[str, Any]:
    version = 6 if ":" in address else 4
    return {
        "version": version,
        "addr": address,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:62:bc:be",
    }


class World:
    """Everything there is. Change it from any thread; `changed` must be told of changes made to its objects.

    `may_list_all`: the policy of the lab's observer (False: upstream's). `down`: cells that do not answer.
    `most`: servers per page. `newest`: the highest compute microversion. `drops_version`: a proxy in front drops the
    microversion header. `dates`: whether answers carry a Date header.
    """

    def __init__(self, regions: Iterable[str] = (REGION,)) -> None:
        self.regions = list(regions)
        self.projects: dict[str, Enrolled] = {}
        self.servers: dict[str, list[Booted]] = {region: [] for region in self.regions}
        self.of_project: dict[tuple[str, str], list[Booted]] = {}
        self.by_id: dict[str, Booted] = {}
        self.down: set[str] = set()
        self.may_list_all = True
        self.may_list_projects = True
        self.most = 1000
        self.newest = 93
        self.drops_version = False
        self.dates = False
        self.list_limit: int | None = None
        self.password = "secret"
        self.tokens: dict[str, str | None] = {}
        self.version = 0
        self.ahead = timedelta()
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._rows: dict[str, bytes] = {}
        self._by_name: dict[str, Enrolled] = {}
        self.enrol("home")

    # --- deeds ------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def enrol(self, name: str, **more: Any) -> Enrolled:
        project = Enrolled(uuid.uuid5(uuid.NAMESPACE_OID, name).hex, name, **more)
        self.projects[project.id] = project
        self._by_name[name] = project
        return project

    def project(self, name: str) -> Enrolled:
        return self._by_name[name]

    def boot(self, project: str, name: str, *addresses: str, region: str = "", **more: Any) -> Booted:
        """A server, ACTIVE at once. `floating=[...]` adds floating addresses."""
        owner = self._by_name.get(project) or self.enrol(project)
        now = more.pop("at", None) or self.now()
        floating = more.pop("floating", ())
        server = Booted(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name}/{next(self._numbers)}")),
            name=name,
            project=owner.id,
            region=region or self.regions[0],
            cell=more.pop("cell", "cell1"),
            addresses=[("fixed", each) for each in addresses] + [("floating", each) for each in floating],
            created=now,
            updated=now,
            **more,
        )
        with self.lock:
            self.servers[server.region].append(server)
            self.of_project.setdefault((server.region, server.project), []).append(server)
            self.by_id[server.id] = server
            self.version += 1
        return server

    def delete(self, server: Booted) -> None:
        server.deleted, server.status, server.task = True, "DELETED", None
        self.changed(server)

    def archive(self, server: Booted) -> None:
        """Its record goes away too, as `nova-manage db archive_deleted_rows` does."""
        with self.lock:
            self.servers[server.region].remove(server)
            self.of_project[server.region, server.project].remove(server)
            del self.by_id[server.id]
            self.version += 1

    def changed(self, server: Booted, stamp: bool = True) -> None:
        """Tell of a change. Without `stamp` the cloud does not: floating addresses, interfaces."""
        with self.lock:
            if stamp:
                server.updated = self.now()
            self._rows.pop(server.id, None)
            self.version += 1

    def revoke(self) -> None:
        """Every token is dead from now on."""
        self.tokens.clear()

    def populate(self, projects: int, instances: int) -> None:
        """`projects` with `instances` servers each, booted one after the other over the last thirty days."""
        begin, apart = self.now() - timedelta(days=30), timedelta(days=30) / max(1, projects * instances)
        for number in range(projects):
            for index in range(instances):
                count = number * instances + index
                address = f"10.{count >> 16 & 255}.{count >> 8 & 255}.{count & 255}"
                name = f"instance-{number:05}-{index:02}"
                self.boot(f"project-{number:05}", name, address, at=begin + apart * count)

    # --- rows -------------------------------------------------------------------------------------------------------

    def living(self, region: str, project: str | None) -> Iterator[Booted]:
        """Newest first, those waiting for the scheduler before all others, as Nova lists them."""
        all_of_them = self.servers[region] if project is None else self.of_project.get((region, project), [])
        there = [each for each in reversed(all_of_them) if not each.deleted and not each.hidden]
        yield from (each for each in there if each.scheduling)
        yield from (each for each in there if not each.scheduling)

    def written(self) -> None:
        """Have every row at hand, so that an answer takes its latency and no more."""
        for server in self.by_id.values():
            self.row(server)

    def row(self, server: Booted) -> bytes:
        kept = self._rows.get(server.id)
        if kept is None:
            kept = self._rows[server.id] = json.dumps(server.json()).encode()
        return kept
