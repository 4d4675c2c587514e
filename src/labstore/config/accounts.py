"""From `dbusers:` of the site file (and the original's dbusers.yaml, where it was read) to the room's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labstore.config.sections.dbusers import DbusersFile, HostFile, LimitFile, LoginFile, MariadbFile, RuleFile
from labstore.formats.dbusers_yaml import Original
from labstore.formats.findings import Findings
from labstore.formats.places import Path as Place
from labstore.formats.units import duration_text
from labstore.model.accounts import AccountKind, Limits, PartialLimits, UidRange
from labstore.model.address import Client
from labstore.model.database import GrantType, HostKey
from labstore.model.dbusers_settings import (
    DbusersSettings,
    DirectoryKind,
    FileDirectorySettings,
    FilesSettings,
    GovernorSettings,
    LdapSettings,
    LedgerSettings,
    LimitRule,
    LimitSettings,
    Pacing,
    RemoteFilesSettings,
    RemovalSettings,
    ReplicaSettings,
    RotationSettings,
    Tls,
    WriterSettings,
)
from labstore.model.secret import NO_SECRET, Secret
from labstore.model.site import Site

LOOPBACK = frozenset({"127.0.0.1", "::1"})
NOTHING = Original("")
SecretReader = Callable[[Path | None, Place], Secret]


def no_secrets(_path: Path | None, _where: Place) -> Secret:
    return NO_SECRET


def resolved(
    findings: Findings,
    file: DbusersFile,
    site: Site,
    base: Path,
    secret: SecretReader = no_secrets,
    original: Original | None = None,
    ledger_tls: Tls = Tls.VERIFY,
) -> DbusersSettings:
    """The settings; meaningless where `findings` has problems afterwards. `original` None where its file is named and
    was not read: then nothing is missing that it may say. `ledger_tls` is for the original's ledger."""
    whole = (original is not None or file.original is None) and not _serves_files_only(file)
    return _Resolver(findings, file, site, base, secret, original or NOTHING, whole, ledger_tls).settings()


def _serves_files_only(file: DbusersFile) -> bool:
    """A machine that keeps files for a daemon elsewhere needs no servers and no directory of its own."""
    return file.writer is not None and not file.hosts and file.original is None


@dataclass
class _Resolver:
    findings: Findings
    file: DbusersFile
    site: Site
    base: Path
    secret: SecretReader
    original: Original
    whole: bool
    ledger_tls: Tls

    def settings(self) -> DbusersSettings:
        file = self.file
        kinds = frozenset(file.kinds)
        hosts = self._hosts()
        settings = DbusersSettings(
            directory=self._directory(),
            ledger=self._ledger(),
            hosts=hosts,
            files=self._files(kinds),
            kinds=kinds,
            uids=self._uids(),
            limits=self._limits(hosts),
            removal=RemovalSettings(**_values(file.removal)),
            rotation=RotationSettings(**_values(file.rotation)),
            governor=GovernorSettings(**_values(file.governor)),
            pacing=self._pacing(),
            service_addresses=self._addresses(),
            writer=self._writer(),
            metrics_host=file.metrics.listen.host,
            metrics_port=self._metrics_port(),
            state_dir=self.site.state_dir / "dbusers",
        )
        if self.whole and not hosts:
            self._say((), "there is no replica server", "write `hosts:` with a line for each: `db1.example.org: {}`")
        return settings

    def _say(self, path: tuple[str | int, ...], problem: str, advice: str, at_key: bool = False) -> None:
        self.findings.problem(("dbusers", *path), f"dbusers: {problem}", advice, at_key)

    # --- who ----------------------------------------------------------------------------------------------------------

    def _directory(self) -> LdapSettings | FileDirectorySettings:
        file = self.file.directory
        if file.source is DirectoryKind.FILE:
            if file.file is None:
                self._say(("directory", "source"), "source: file, and no file", "write `file: people.yaml`")
            return FileDirectorySettings(self.base / (file.file or ""), file.project)
        ldap = file.ldap
        servers = tuple(ldap.servers) or self.original.ldap_hosts
        if self.whole and not servers:
            self._say(("directory",), "LDAP has no servers", "write `ldap: {servers: [ldaps://ldap1.example.org]}`")
        password = self.secret(ldap.password_file, ("dbusers", "directory", "ldap", "password_file"))
        if ldap.bind_dn is not None and ldap.password_file is None:
            self._say(("directory", "ldap", "bind_dn"), "bind_dn without password_file", "name the file with it")
        if bool(ldap.ca_file) and ldap.tls is Tls.OFF:
            self._say(("directory", "ldap", "ca_file"), "a ca_file, and tls: off", "take one of them out")
        return LdapSettings(
            servers=servers,
            bind_dn=ldap.bind_dn or self.original.ldap.user,
            password=password or self.original.ldap.password,
            tools_base=ldap.tools_base,
            people_base=ldap.people_base,
            group=ldap.group,
            project=file.project,
            tls=ldap.tls,
            ca_file=ldap.ca_file,
            page=ldap.page,
            connect_deadline=ldap.connect_deadline,
            deadline=ldap.deadline,
            disabled_policies=tuple(ldap.disabled_policies),
            doorbell=ldap.doorbell,
        )

    def _uids(self) -> UidRange:
        uids = self.file.uids
        if uids.first > uids.last:
            self._say(("uids",), f"uids from {uids.first} to {uids.last} are none", "write the smaller one as `first`")
        return UidRange(uids.first, uids.last)

    # --- where --------------------------------------------------------------------------------------------------------

    def _ledger(self) -> LedgerSettings:
        ledger = self.file.ledger
        if ledger.mariadb is not None and ledger.sqlite is not None:
            self._say(("ledger",), "both sqlite and mariadb", "one of them is the ledger", at_key=True)
        if ledger.mariadb is not None:
            return self._mariadb(ledger.mariadb)
        if ledger.sqlite is None and self.original.ledger_host:
            login = self.original.ledger
            return LedgerSettings(
                host=self.original.ledger_host, user=login.user, password=login.password, tls=self.ledger_tls
            )
        return LedgerSettings(sqlite=ledger.sqlite or self.site.state_dir / "dbusers" / "ledger.sqlite")

    def _mariadb(self, file: MariadbFile) -> LedgerSettings:
        host = file.host or self.original.ledger_host
        if self.whole and not host and file.socket is None:
            self._say(("ledger", "mariadb"), "the ledger's server has no host", "write `host:`, or `socket:`", True)
        written = {name: getattr(file, name) for name in ("port", "socket", "database", "tls", "ca_file", "deadline")}
        password = self.secret(file.password_file, ("dbusers", "ledger", "mariadb", "password_file"))
        user = self.original.ledger.user if "user" not in file.model_fields_set else ""
        return LedgerSettings(
            host=host or "", user=user or file.user, password=password or self.original.ledger.password, **written
        )

    def _hosts(self) -> tuple[ReplicaSettings, ...]:
        login = self.file.login
        password = self.secret(login.password_file, ("dbusers", "login", "password_file"))
        user = login.user
        if "user" not in login.model_fields_set and self.original.login.user:
            user = self.original.login.user
        password = password or self.original.login.password
        found = {
            key: self._host(key, _of_original(kind), login, user, password)
            for key, kind in self.original.hosts.items()
            if key not in self.file.hosts
        }
        for key, host in self.file.hosts.items():
            found[key] = self._host(key, host, login, user, password)
        self._each_once()
        return tuple(found.values())

    def _host(self, key: HostKey, file: HostFile, login: LoginFile, user: str, password: Secret) -> ReplicaSettings:
        where = ("dbusers", "hosts", str(key), "password_file")
        own = self.secret(file.password_file, where) if file.password_file else None
        return ReplicaSettings(
            key=key,
            grant_type=file.grants,
            group=file.group,
            user=file.user or user,
            password=own or password,
            role=file.role,
            socket=file.socket,
            tls=file.tls or login.tls,
            ca_file=file.ca_file or login.ca_file,
            required=file.required,
            surplus=file.surplus,
            keep_binlog=login.keep_binlog,
            procedures=login.procedures,
            connect_deadline=login.connect_deadline,
            deadline=login.deadline,
            batch=login.batch,
        )

    def _each_once(self) -> None:
        """`db1` and `db1:3306` are one server (upstream #53)."""
        written = self.findings.document.value.get("dbusers", {})
        seen: dict[HostKey, str] = {}
        for text in written.get("hosts") or () if isinstance(written, dict) else ():
            try:
                key = HostKey.parse(text)
            except ValueError:
                continue
            first = seen.setdefault(key, text)
            if first != text:
                self._say(("hosts", text), f"{text} is the same server as {first}", "take one of the two out", True)

    # --- files --------------------------------------------------------------------------------------------------------

    def _files(self, kinds: Iterable[AccountKind]) -> FilesSettings:
        file = self.file.files
        bases = {kind: path for kind in AccountKind if (path := getattr(file, kind.value)) is not None}
        remote = {
            kind: RemoteFilesSettings(service.url, service.login.user, service.login.password)
            for kind, service in self.original.services.items()
            if kind not in bases
        }
        for kind, each in file.remote.items():
            where = ("files", "remote", kind.value)
            if each.url is None:
                self._say(where, f"the service for {kind.value} has no url", "write `url: https://nfs1/v1`", True)
            if kind in bases:
                self._say(where, f"the homes of {kind.value} are here and elsewhere", "one of the two", True)
            if each.url is not None and not _private(each.url):
                self._say((*where, "url"), "passwords would go unencrypted over the network", "write https://")
            password = self.secret(each.password_file, ("dbusers", *where, "password_file"))
            remote[kind] = RemoteFilesSettings(each.url or "", each.user, password, each.ca_file, each.deadline)
        for kind in sorted(kinds):
            if self.whole and kind not in bases and kind not in remote:
                advice = f"write `files: {{{kind.value}: /srv/...}}`, or take {kind.value} out of `kinds`"
                self._say(("files",), f"nobody knows where the homes of {kind.value} accounts are", advice)
        return FilesSettings(bases, remote, file.immutable, 0o440 if file.group_readable else 0o400, file.paws_owner)

    def _writer(self) -> WriterSettings | None:
        file = self.file.writer
        if file is None:
            return None
        if file.certificate is None and file.listen.host not in LOOPBACK:
            advice = "write `certificate:` (and `key:`), or listen on 127.0.0.1"
            self._say(("writer", "listen"), "passwords would go unencrypted over the network", advice)
        password = self.secret(file.password_file, ("dbusers", "writer", "password_file"))
        return WriterSettings(file.listen.host, file.listen.port, file.user, password, file.certificate, file.key)

    # --- rules --------------------------------------------------------------------------------------------------------

    def _limits(self, hosts: Iterable[ReplicaSettings]) -> LimitSettings:
        limits = self.file.limits
        groups = {host.group for host in hosts if host.group is not None}
        rules = [
            LimitRule(what, account=user, reason="variance", grants=GrantType.ROLE)
            for user, what in self.original.variances.items()
            if user not in limits.variances
        ]
        rules += [
            LimitRule(_partial(what), account=user, reason="variance", grants=GrantType.ROLE)
            for user, what in limits.variances.items()
        ]
        for name, rule in limits.rules.items():
            rules.append(self._rule(name, rule, groups))
        return LimitSettings(_partial(limits.role).over(Limits()), _partial(limits.legacy).over(Limits()), tuple(rules))

    def _rule(self, name: str, file: RuleFile, groups: Iterable[str]) -> LimitRule:
        where = ("limits", "rules", name)
        if file.account is not None and file.kind is not None and file.account.kind is not file.kind:
            self._say((*where, "kind"), f"{file.account} is no {file.kind.value}", "take one of the two out")
        if self.whole and file.group is not None and file.group not in groups:
            known = ", ".join(sorted(groups)) or "none"
            self._say((*where, "group"), f"no server is of group {file.group}", f"known are: {known}")
        limits = _partial(file)
        if limits.nothing:
            self._say(where, f"rule {name} says nothing", "write max_connections, statement_time or queries_per_hour")
        return LimitRule(limits, file.kind, file.account, file.group, file.reason or name, self._until(where, file))

    def _until(self, where: tuple[str, ...], file: RuleFile) -> datetime | None:
        """The end of the day that is named."""
        if file.until is None:
            return None
        try:
            return datetime.strptime(file.until, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
        except ValueError:
            self._say((*where, "until"), "not a date", 'write year-month-day in quotes: "2027-01-31"')
            return None

    def _pacing(self) -> Pacing:
        pacing = Pacing(**_values(self.file.pacing))
        if pacing.lease < pacing.interval + pacing.patience + pacing.work_patience:
            least = duration_text(pacing.interval + pacing.patience + pacing.work_patience)
            problem = "the lease ends before the next cycle does"
            self._say(("pacing", "lease"), problem, f"write at least interval, patience and work_patience: {least}")
        return pacing

    def _addresses(self) -> tuple[Client, ...]:
        file = self.file
        if file.cluster is not None and file.service_addresses:
            self._say(("service_addresses",), "both cluster and service_addresses", "one of them says it")
        if file.cluster is not None:
            found = {cluster.name: cluster for cluster in self.site.clusters}.get(file.cluster)
            if found is None:
                self._say(("cluster",), f"there is no cluster {file.cluster}", "name one of clusters:")
                return ()
            return found.service_addresses
        if not file.service_addresses and self.original.cluster_address is not None:
            return (self.original.cluster_address,)
        return tuple(file.service_addresses)

    def _metrics_port(self) -> int | None:
        metrics = self.file.metrics
        if not metrics.enabled:
            return None
        written = "listen" in metrics.model_fields_set
        return metrics.listen.port if written else self.original.metrics_port or metrics.listen.port


def _private(url: str) -> bool:
    at = urlsplit(url)
    return at.scheme == "https" or at.hostname in LOOPBACK


def _values(section: Any) -> dict[str, Any]:
    return {name: getattr(section, name) for name in type(section).model_fields}


def _partial(file: LimitFile) -> PartialLimits:
    seconds = None if file.statement_time is None else -int(-file.statement_time // 1)
    return PartialLimits(file.max_connections, seconds, file.queries_per_hour)


def _of_original(kind: GrantType) -> HostFile:
    return HostFile(grants=kind)
