"""The original's `dbusers.yaml`, as its deployments have it: in the form of 2020 and in the later one.

Hosts stand with or without a port; variances are numbers of connections (as production has them) or maps (as the
original's program wanted them). Keys that nobody knows are reported and cost nothing, as then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.strict_yaml import load
from labstore.model.accounts import AccountKind, DbUser, PartialLimits
from labstore.model.address import Client
from labstore.model.database import GrantType, HostKey
from labstore.model.names import HostName, shown
from labstore.model.secret import NO_SECRET, Secret
from labstore.reports.in_file import FileNotice

T = TypeVar("T")
_TOP = {"ldap", "labsdbs", "accounts-backend", "nfs-cluster-ip", "replica_cnf", "variances", "metrics_port"}
_FILES = {"tools": (AccountKind.TOOL, AccountKind.USER), "paws": (AccountKind.PAWS,)}
_VARIANCE = ("max_connections",)


@dataclass(frozen=True)
class Login:
    user: str = ""
    password: Secret = NO_SECRET


@dataclass(frozen=True)
class Service:
    """A credential file service: `url` ends with its version."""

    url: str
    login: Login


@dataclass(frozen=True)
class Original:
    """What the file says; what it does not say is empty."""

    name: str
    ldap_hosts: tuple[str, ...] = ()
    ldap: Login = Login()
    hosts: Mapping[HostKey, GrantType] = field(default_factory=dict)
    login: Login = Login()
    ledger_host: str = ""
    ledger: Login = Login()
    cluster_address: Client | None = None
    services: Mapping[AccountKind, Service] = field(default_factory=dict)
    variances: Mapping[DbUser, PartialLimits] = field(default_factory=dict)
    metrics_port: int | None = None
    notices: tuple[FileNotice, ...] = ()


def parse(content: bytes, name: str) -> Original:
    """Raises BadFile with every problem of the file."""
    findings = Findings(load(content, name))
    top = findings.document.value
    for key in top:
        if key not in _TOP:
            origin = findings.document.origin((key,), at_key=True)
            findings.notices.append(origin.notice(f"{shown(key)} is not looked at", did_you_mean(key, _TOP)))
    reader = _Reader(findings)
    found = Original(
        name=name,
        ldap_hosts=reader.servers(),
        ldap=reader.login(("ldap",)),
        hosts=reader.hosts(),
        login=reader.login(("labsdbs",)),
        ledger_host=reader.text(("accounts-backend", "host")),
        ledger=reader.login(("accounts-backend",)),
        cluster_address=reader.address(),
        services=reader.services(),
        variances=reader.variances(),
        metrics_port=reader.number(("metrics_port",), 65535),
        notices=tuple(findings.notices),
    )
    findings.raise_problems()
    return found


@dataclass
class _Reader:
    findings: Findings

    def at(self, path: tuple[str, ...]) -> Any:
        here: Any = self.findings.document.value
        for step in path:
            here = here.get(step) if isinstance(here, dict) else None
        return here

    def section(self, path: tuple[str, ...]) -> dict[str, Any]:
        found = self.at(path)
        if found is None or isinstance(found, dict):
            return found or {}
        self.findings.problem(path, f"{'.'.join(path)} is no map", "write `key: value` lines below it, indented")
        return {}

    def text(self, path: tuple[str, ...]) -> str:
        found = self.at(path)
        if found is None or isinstance(found, str):
            return found or ""
        self.findings.problem(path, f"{'.'.join(path)} is not text", "write it in quotes")
        return ""

    def number(self, path: tuple[str, ...], most: int) -> int | None:
        found = self.at(path)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= most:
            self.findings.problem(path, f"{'.'.join(path)} is no number from 1 to {most}", "write digits alone")
            return None
        return found

    def login(self, path: tuple[str, ...]) -> Login:
        section = self.section(path)
        if not section:
            return Login()
        return Login(self.text((*path, "username")), Secret(self.text((*path, "password"))))

    def servers(self) -> tuple[str, ...]:
        found = self.section(("ldap",)).get("hosts", [])
        if not isinstance(found, list):
            self.findings.problem(("ldap", "hosts"), "ldap.hosts is no list", "write `- host` lines below it")
            return ()
        return tuple(
            name
            for number, each in enumerate(found)
            if (name := self._made(("ldap", "hosts", number), lambda each=each: _server(each), "write a host name"))
        )

    def hosts(self) -> dict[HostKey, GrantType]:
        found: dict[HostKey, GrantType] = {}
        for name, value in self.section(("labsdbs", "hosts")).items():
            path = ("labsdbs", "hosts", name)
            key = self._made(path, lambda name=name: HostKey.parse(name), "write host or host:port", at_key=True)
            words = value if isinstance(value, dict) else {}
            kind = self._made(
                (*path, "grant-type"),
                lambda words=words: GrantType(words.get("grant-type")),
                "write `grant-type: role` or `grant-type: legacy`",
            )
            if key is None or kind is None:
                continue
            if key in found:
                self.findings.problem(path, f"{key} stands here twice", "take one of the two out", at_key=True)
            found[key] = kind
        return found

    def address(self) -> Client | None:
        found = self.at(("nfs-cluster-ip",))
        return None if found is None else self._made(("nfs-cluster-ip",), lambda: Client(found), "write one address")

    def services(self) -> dict[AccountKind, Service]:
        found: dict[AccountKind, Service] = {}
        for name in self.section(("replica_cnf",)):
            path = ("replica_cnf", name)
            if name not in _FILES:
                self.findings.problem(path, f"unknown service {shown(name)}", did_you_mean(name, _FILES), at_key=True)
                continue
            url = self.text((*path, "root_url"))
            if not url.startswith(("http://", "https://")):
                self.findings.problem(path, f"replica_cnf.{name} has no root_url", "write `root_url: https://host/v1`")
            found |= dict.fromkeys(_FILES[name], Service(url.rstrip("/"), self.login(path)))
        return found

    def variances(self) -> dict[DbUser, PartialLimits]:
        found: dict[DbUser, PartialLimits] = {}
        for name, value in self.section(("variances",)).items():
            path = ("variances", name)
            user = self._made(path, lambda name=name: DbUser(name), "write the account: s52788", at_key=True)
            limits = self._limits(path, value)
            if user is not None and limits is not None:
                found[user] = limits
        return found

    def _limits(self, path: tuple[str, ...], value: object) -> PartialLimits | None:
        words = value if isinstance(value, dict) else {"max_connections": value}
        for key in words:
            if key not in _VARIANCE:
                self.findings.problem((*path, key), f"unknown limit {shown(key)}", did_you_mean(key, _VARIANCE), True)
        number = words.get("max_connections")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 31:
            advice = "write `s52788: 48`, or `s52788: {max_connections: 48}`"
            self.findings.problem(path, f"{shown(path[-1])} has no number of connections", advice)
            return None
        return PartialLimits(max_connections=number)

    def _made(self, path: tuple[str | int, ...], make: Any, advice: str, at_key: bool = False) -> Any:
        """What `make` gives; a value that is no text at all is a problem as well."""
        try:
            return make()
        except (ValueError, TypeError, AttributeError) as error:
            words = str(error) if isinstance(error, ValueError) else "is not text"
            self.findings.problem(path, words, advice, at_key)
            return None


def _server(text: str) -> str:
    """A server's URL; the original's were bare names."""
    return text if "://" in text else f"ldap://{HostName(text)}"
