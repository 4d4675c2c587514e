"""The inventory file: projects and their instances, written by people or programs where there is no cloud to ask.

projects:
  tools:
    instances:
      tools-bastion-12: {addresses: [172.16.1.11], floating: [203.0.113.213]}
      tools-worker-1: 172.16.1.13
    subnets: [10.0.8.0/24]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.strict_yaml import DATA_LIMIT, load
from labstore.model.address import Client
from labstore.model.cloud import AddressKind, Instance, InstanceAddress, Project
from labstore.model.names import ProjectName, shown

REGION = "local"
"""The region of instances that name none, where the file names none."""

_TOP = ("projects", "region")
_PROJECT = ("id", "enabled", "subnets", "instances")
_INSTANCE = ("id", "addresses", "floating", "region", "created")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAME = re.compile(r"[!-~]{1,255}")

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class InventoryFile:
    """A whole file: projects by id, and every instance. `regions` are those that it names, in order."""

    projects: Mapping[str, Project]
    instances: tuple[Instance, ...]
    regions: tuple[str, ...]


def parse(text: bytes, name: str, limit: int = DATA_LIMIT) -> InventoryFile:
    """Raises BadFile with every problem; `name` is what reports call the file, `limit` is in bytes."""
    findings = Findings(load(text, name, limit))
    parsed = _Reader(findings).file()
    findings.raise_problems()
    return parsed


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._region = REGION
        self._projects: dict[str, Project] = {}
        self._instances: dict[str, Instance] = {}

    def file(self) -> InventoryFile:
        top = self._findings.document.value
        self._known_keys((), top, _TOP)
        self._region = self._word((), top, "region", REGION)
        projects = top.get("projects")
        if not isinstance(projects, dict):
            advice = "write `projects: {}` if there are none; missing is not empty"
            self._problem(("projects",) if "projects" in top else (), "no map of `projects:`", advice)
            projects = {}
        for name, value in projects.items():
            self._project(("projects", name), name, value)
        regions = dict.fromkeys([self._region, *(each.region for each in self._instances.values())])
        return InventoryFile(self._projects, tuple(self._instances.values()), tuple(regions))

    def _project(self, path: Path, name: str, value: object) -> None:
        known = self._findings.attempt(path, lambda: ProjectName(name), "write the project's name", at_key=True)
        if not isinstance(value, dict):
            self._problem(path, f"project {shown(name)} is not a map", "write {instances: {...}}", at_key=True)
            return
        self._known_keys(path, value, _PROJECT)
        identity = self._word(path, value, "id", name)
        enabled = value.get("enabled", True)
        if not isinstance(enabled, bool):
            self._problem((*path, "enabled"), f"enabled is {shown(enabled)}", "write true or false")
        subnets = self._clients((*path, "subnets"), value.get("subnets", []))
        if identity in self._projects:
            self._problem(path, f"a second project with id {shown(identity)}", "each id once", at_key=True)
        elif known is not None:
            self._projects[identity] = Project(identity, known, enabled is True, subnets)
        self._instances_of((*path, "instances"), name, identity, value.get("instances", {}))

    def _instances_of(self, path: Path, project: str, project_id: str, value: object) -> None:
        if not isinstance(value, dict):
            advice = "write `name: address` lines, or {} if there are none"
            self._problem(path, "the instances are not a map", advice)
            return
        for name, written in value.items():
            self._instance((*path, name), name, f"{project}/{name}", project_id, written)

    def _instance(self, path: Path, name: str, default_id: str, project_id: str, written: object) -> None:
        if _NAME.fullmatch(name) is None:
            self._problem(path, f"instance name {shown(name)}", "letters, digits and signs of ASCII", at_key=True)
        value = written if isinstance(written, dict) else {"addresses": written}
        self._known_keys(path, value, _INSTANCE)
        where = path if value is not written else (*path, "addresses")
        identity = self._word(path, value, "id", default_id)
        fixed = self._addresses(where, value.get("addresses", []), AddressKind.FIXED)
        floating = self._addresses((*path, "floating"), value.get("floating", []), AddressKind.FLOATING)
        region, created = self._word(path, value, "region", self._region), self._time((*path, "created"), value)
        if identity in self._instances:
            self._problem(path, f"a second instance with id {shown(identity)}", "each id once", at_key=True)
        self._instances[identity] = Instance(
            identity, name, project_id, region, "ACTIVE", tuple(dict.fromkeys(fixed + floating)), created
        )

    # --- values -----------------------------------------------------------------------------------------------------

    def _addresses(self, path: Path, value: object, kind: AddressKind) -> tuple[InstanceAddress, ...]:
        """One address or a list of them. An instance without any has none: a file that is silent says so."""
        clients = self._clients(path, [value] if isinstance(value, str) else value)
        for client in clients:
            if not client.single:
                self._problem(path, f"{client} is a network", "an instance has addresses; networks go to `subnets`")
        return tuple(InstanceAddress(client, kind) for client in clients)

    def _clients(self, path: Path, value: object) -> tuple[Client, ...]:
        if not isinstance(value, list):
            self._problem(path, f"{shown(value)} is not a list of addresses", "write [172.16.1.11]")
            return ()
        advice = "write an IPv4 or IPv6 address, or a network with its prefix"
        found = (self._client((*path, at), each, advice) for at, each in enumerate(value))
        return tuple(client for client in found if client is not None)

    def _client(self, path: Path, value: Any, advice: str) -> Client | None:
        return self._findings.attempt(path, lambda: Client(value if isinstance(value, str) else str(value)), advice)

    def _word(self, path: Path, value: Mapping[str, Any], key: str, default: str) -> str:
        word = value.get(key, default)
        if key not in value or (isinstance(word, str) and _WORD.fullmatch(word)):
            return str(word)
        advice = "letters, digits, '.', '_', '/' and '-', at most 128; quote what YAML takes for a number"
        self._problem((*path, key), f"{key} is {shown(word)}", advice)
        return default

    def _time(self, path: Path, value: Mapping[str, Any]) -> datetime | None:
        written = value.get("created")
        if written is None:
            return None
        advice = 'write it in quotes: "2026-05-29T11:54:00Z"'
        time = self._findings.attempt(path, lambda: datetime.fromisoformat(str(written)), advice)
        if time is None:
            return None
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)

    def _known_keys(self, path: Path, value: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in value:
            if key not in known:
                self._problem((*path, key), f"unknown key {shown(key)}", did_you_mean(key, known), at_key=True)

    def _problem(self, path: Path, problem: str, advice: str, at_key: bool = False) -> None:
        self._findings.problem(path, problem, advice, at_key)
