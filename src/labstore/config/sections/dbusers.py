"""`dbusers:` of the site file: who has a database account, where, with which limits, and where its file is."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from labstore.config.fields import Section, optional, part, setting
from labstore.config.values import (
    AddressText,
    ClusterText,
    FileText,
    Flag,
    HostText,
    ListenText,
    NearFileText,
    Percentage,
    Text,
    Whole,
)
from labstore.formats.units import DURATION, Unfit, duration, duration_text
from labstore.model.accounts import LARGEST_LIMIT, UID_MAX, UID_MIN, AccountKind, DbUser
from labstore.model.database import GrantType, HostGroupName, HostKey, RoleName
from labstore.model.dbusers_settings import ORIGINAL_ROLE, DirectoryKind, Orphans, Surplus, Tls
from labstore.model.names import shown


def _span(least: float, most: float, example: str) -> Text:
    def make(text: str) -> float:
        seconds = duration(text)
        if not least <= seconds <= most:
            advice = f"write {duration_text(least)} to {duration_text(most)}"
            raise Unfit(f"{shown(text)} is not a sensible time here", advice)
        return seconds

    return Text(make, "a duration", example, DURATION, unit="ms, s, m, h, d, w")


def _matching(pattern: str, problem: str) -> Any:
    compiled = re.compile(pattern)

    def make(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"{shown(text)} {problem}")
        return text

    return make


YEAR = 365 * 86400.0
Wait = Annotated[float, _span(0.1, 3600, "30s")]
Beat = Annotated[float, _span(0.2, 60, "1s")]
Age = Annotated[float, _span(0, 10 * YEAR, "40d")]
LongAge = Annotated[float, _span(3600, 10 * YEAR, "90d")]
StatementTime = Annotated[float, _span(0, 30 * 86400, "30m")]
KindText = Annotated[AccountKind, Text(AccountKind, "tool, user or paws", "tool", slot="kind")]
AccountText = Annotated[DbUser, Text(DbUser, "a database account", "s52788", DbUser.grammar.pattern, slot="account")]
HostKeyText = Annotated[HostKey, Text(HostKey.parse, "host or host:port", "s1.db.example.org:3311", slot="host")]
GroupText = Annotated[HostGroupName, Text(HostGroupName, "a group's name", "analytics", slot="group")]
RoleText = Annotated[RoleName, Text(RoleName, "a role's name", "labsdbuser", slot="role")]
LoginText = Annotated[
    str, Text(_matching(r"[A-Za-z][A-Za-z0-9_.-]{0,79}", "is not a plain login"), "a login", "labstore")
]
DatabaseText = Annotated[
    str, Text(_matching(r"[A-Za-z][A-Za-z0-9_]{0,63}", "is not a database's name"), "a name", "labsdbaccounts")
]
DnText = Annotated[str, Text(_matching(r"[^\x00-\x1f]{3,500}", "is not a DN"), "a DN", "ou=people,dc=example,dc=org")]
ServerText = Annotated[
    str,
    Text(
        _matching(r"ldap(?:s|i)?://[A-Za-z0-9%._:\[\]-]+/?", "is not ldaps://host, ldap://host or ldapi://path"),
        "a server's URL",
        "ldaps://ldap1.example.org",
    ),
]
UrlText = Annotated[
    str,
    Text(
        _matching(r"https?://[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._/-]*)?", "is not https://host/v1"),
        "the address of the service",
        "https://nfs1.example.org:8443/v1",
    ),
]
ProjectPart = Annotated[
    str, Text(_matching(r"[a-z][a-z0-9-]{0,31}", "is not what tools' names begin with"), "a name", "tools")
]
RuleText = Annotated[
    str, Text(_matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "is not a rule's name"), "a name", "heavy", slot="rule")
]


# --- the directory ---------------------------------------------------------------------------------------------------


class LdapFile(Section):
    servers: list[ServerText] = setting([], "its servers; removals need the word of all of them")
    bind_dn: DnText | None = optional("who labstore is there", "nobody: an anonymous bind")
    password_file: FileText | None = optional("the file with its password", "must be written with bind_dn")
    tools_base: DnText = setting("ou=people,ou=servicegroups,dc=wikimedia,dc=org", "below it are the tools")
    people_base: DnText = setting("ou=people,dc=wikimedia,dc=org", "below it are the people")
    group: DnText = setting("cn=project-tools,ou=groups,dc=wikimedia,dc=org", "the members of this group are the users")
    tls: Tls = setting("verify", "`verify`: encrypted (StartTLS with ldap://), the certificate names the server; `off`")
    ca_file: FileText | None = optional("the authorities that are believed", "the system's")
    page: Whole = setting(1000, "entries in one answer", "entries", ge=10, le=10000)
    connect_deadline: Wait = setting("3s", "how long connecting may take")
    deadline: Wait = setting("60s", "how long a whole listing may take")
    disabled_policies: list[DnText] = setting([], "password policies that mean: disabled, beside any cn=disabled")
    doorbell: Flag = setting(True, "hear of changes at once (syncrepl), beside the regular look")


class DirectoryFile(Section):
    source: DirectoryKind = setting("ldap", "where tools and users are known: `ldap`, or `file`")
    file: NearFileText | None = optional("the file of tools and users", "must be written with source: file")
    project: ProjectPart = setting("tools", "what the names of tools begin with, before the dot")
    ldap: LdapFile = part(LdapFile, "how LDAP is asked (source: ldap)")


# --- the ledger and the servers --------------------------------------------------------------------------------------


class MariadbFile(Section):
    host: HostText | None = optional("its machine", "must be written, unless there is a socket")
    port: Whole = setting(3306, "its port", ge=1, le=65535)
    socket: FileText | None = optional("its socket on this machine", "none")
    database: DatabaseText = setting("labsdbaccounts", "the database with the tables")
    user: LoginText = setting("labstore", "who labstore is there")
    password_file: FileText | None = optional("the file with its password", "no password (unix_socket)")
    tls: Tls = setting("verify", "`verify`: encrypted, and the certificate names the server; `off`")
    ca_file: FileText | None = optional("the authorities that are believed", "the system's")
    deadline: Wait = setting("10s", "how long an answer may take")


class LedgerFile(Section):
    sqlite: FileText | None = optional("a file on this machine", "dbusers/ledger.sqlite in state_dir")
    mariadb: MariadbFile | None = optional("a database in its place: what several machines need", "the file")


class LoginFile(Section):
    """What replica servers have in common."""

    user: LoginText = setting("labstore", "who labstore is on the servers")
    password_file: FileText | None = optional("the file with its password", "no password (unix_socket)")
    tls: Tls = setting("verify", "`verify`: encrypted, and the certificate names the server; `off`")
    ca_file: FileText | None = optional("the authorities that are believed", "the system's")
    procedures: DatabaseText = setting("labstore_accounts", "the database with the procedures of `host-setup`")
    keep_binlog: Flag = setting(False, "write account statements to the server's binary log")
    connect_deadline: Wait = setting("3s", "how long connecting may take")
    deadline: Wait = setting("10s", "how long an answer may take")
    batch: Whole = setting(200, "accounts in one statement", "accounts", ge=1, le=2000)


class HostFile(Section):
    """One replica server; `{}` is enough."""

    grants: GrantType = setting("role", "`role`: rights by a role; `legacy`: by grants of each account")
    role: RoleText = setting(str(ORIGINAL_ROLE), "the role (grants: role)")
    group: GroupText | None = optional("the group to which limits can be given", "none")
    socket: FileText | None = optional("its socket on this machine", "reached over the network")
    required: Flag = setting(False, "a new account's file waits for this server, for a while")
    surplus: Surplus = setting("report", "rights of accounts that are not from us: `report` them, or `revoke` them")
    user: LoginText | None = optional("another login than the common one", "the common one")
    password_file: FileText | None = optional("the file with that login's password", "the common one")
    tls: Tls | None = optional("otherwise than the others", "as the others")
    ca_file: FileText | None = optional("otherwise than the others", "as the others")


# --- files -----------------------------------------------------------------------------------------------------------


class RemoteFile(Section):
    url: UrlText | None = optional("where the service on the NFS server answers", "must be written")
    user: LoginText = setting("labstore", "who labstore is there")
    password_file: FileText = setting("/etc/labstore/writer.password", "the file with its password")
    ca_file: FileText | None = optional("the authorities that are believed", "the system's")
    deadline: Wait = setting("30s", "how long an answer may take")


class FilesFile(Section):
    tool: FileText | None = optional("the directory of the tools' homes on this machine", "not here")
    user: FileText | None = optional("the directory of the users' homes on this machine", "not here")
    paws: FileText | None = optional("the directory of the PAWS homes on this machine", "not here")
    remote: dict[KindText, RemoteFile] = setting({}, "kinds whose homes are on another machine")
    immutable: Flag = setting(True, "protect files by the immutable attribute")
    group_readable: Flag = setting(False, "mode 0440 in place of 0400")
    paws_owner: Whole = setting(52771, "the uid that owns all PAWS homes", ge=1, le=UID_MAX)


class WriterFile(Section):
    """The service that keeps files on this machine for a daemon elsewhere."""

    listen: ListenText = setting("127.0.0.1:8442", "where it answers")
    user: LoginText = setting("labstore", "who may ask")
    password_file: FileText = setting("/etc/labstore/writer.password", "the file with the password")
    certificate: FileText | None = optional("its TLS certificate, with the chain", "unencrypted, on loopback only")
    key: FileText | None = optional("the certificate's key", "in the file of the certificate")


# --- limits ----------------------------------------------------------------------------------------------------------


class LimitFile(Section):
    max_connections: Whole | None = optional(
        "connections at a time; 0 for no limit", "not said", ge=0, le=LARGEST_LIMIT
    )
    statement_time: StatementTime | None = optional("how long one statement may take; 0s for no limit", "not said")
    queries_per_hour: Whole | None = optional(
        "statements in an hour; 0 for no limit", "not said", ge=0, le=LARGEST_LIMIT
    )


def _bare(value: object) -> object:
    """The original's production data had integers where its program wanted maps: both mean connections."""
    return {"max_connections": value} if isinstance(value, int) and not isinstance(value, bool) else value


Variance = Annotated[LimitFile, BeforeValidator(_bare, json_schema_input_type=int | LimitFile)]


class RoleLimitFile(LimitFile):
    max_connections: Whole | None = setting(10, "connections at a time; 0 for no limit", ge=0, le=LARGEST_LIMIT)


class RuleFile(LimitFile):
    """The more specific rule wins, limit by limit: account before kind, then with a group before without."""

    kind: AccountKind | None = optional("only accounts of this kind", "every kind")
    account: AccountText | None = optional("only this account", "every account")
    group: GroupText | None = optional("only on servers of this group", "on every server")
    until: Annotated[str, Text(str, "a date", "2027-01-31")] | None = optional(
        "it ends with this day (UTC)", "for ever"
    )
    reason: Annotated[str, Text(str, "a reason", "batch jobs of the summer")] | None = optional("why", "not said")


class LimitsFile(Section):
    role: RoleLimitFile = part(RoleLimitFile, "on servers whose rights are given by a role")
    legacy: LimitFile = part(LimitFile, "on the others")
    variances: dict[AccountText, Variance] = setting(
        {}, "for single accounts where grants are `role`: connections, or a map"
    )
    rules: dict[RuleText, RuleFile] = setting({}, "for kinds, accounts and groups of servers, with an end if need be")


# --- how it goes -----------------------------------------------------------------------------------------------------


class RemovalFile(Section):
    confirm: Age = setting("1h", "two complete listings at least so far apart must lack a name")
    wait: Age = setting("40d", "from the suspension to the drop")
    floor: Whole = setting(5, "so many accounts may always go at once", "accounts", ge=0, le=1_000_000)
    part: Percentage = setting("1%", "the part of all accounts that may go at once")
    proven_floor: Whole = setting(50, "the same for what the directory says positively", "accounts", ge=0, le=1_000_000)
    proven_part: Percentage = setting("10%", "the same for what the directory says positively")
    shrink: Percentage = setting("90%", "a listing that has less of the last one is taken for cut short")
    orphans: Orphans = setting("suspend", "accounts on a server that nobody knows: `report`, or `suspend` in time")


class RotationFile(Section):
    overlap: Age = setting("1d", "how long the old and the new password are both good")
    patience: Age = setting("1h", "how long a new password waits for a server that does not take it")
    every: LongAge | None = optional("new passwords for all, so often", "only on request")
    batch: Whole = setting(500, "accounts that one cycle begins to rotate", "accounts", ge=1, le=100_000)


class GovernorFile(Section):
    enabled: Flag = setting(True, "end statements that take longer than their account may")
    interval: Beat = setting("1s", "between two looks at a server's sessions")
    grace: Beat = setting("1s", "how long a statement may overrun")


class PacingFile(Section):
    interval: Wait = setting("60s", "between two cycles; a change in the directory brings the next one at once")
    patience: Wait = setting("5s", "how long a cycle waits for a server's answer")
    work_patience: Wait = setting("60s", "how long it waits for a server's work")
    required_patience: Wait = setting("5m", "how long a new file waits for a required server")
    back_off: Wait = setting("60s", "the longest wait between two tries of a server that is away")
    lease: Annotated[float, _span(5, 3600, "3m")] = setting("3m", "for so long a leader leads that says nothing more")
    home_alert: Age = setting("1d", "after so long a missing home is a warning")
    chunk: Whole = setting(500, "accounts in one round of work", "accounts", ge=1, le=100_000)


class UidsFile(Section):
    first: Whole = setting(UID_MIN, "the smallest", ge=1, le=UID_MAX)
    last: Whole = setting(UID_MAX, "the largest", ge=1, le=UID_MAX)


class AccountMetricsFile(Section):
    enabled: Flag = setting(True, "false for no listener at all")
    listen: ListenText = setting("127.0.0.1:9090", "where Prometheus finds the metrics of accounts")


class DbusersFile(Section):
    original: FileText | None = optional(
        "the original's dbusers.yaml, read as it is; what stands here wins", "not looked at"
    )
    cluster: ClusterText | None = optional("only the active node of this cluster writes", "this machine does")
    service_addresses: list[AddressText] = setting([], "the same by addresses: who holds all of them writes")
    kinds: list[AccountKind] = setting(["tool", "user"], "whose accounts these are", min_length=1)
    directory: DirectoryFile = part(DirectoryFile, "who has an account")
    ledger: LedgerFile = part(LedgerFile, "the record of all accounts")
    login: LoginFile = part(LoginFile, "how replica servers are reached")
    hosts: dict[HostKeyText, HostFile] = setting({}, "the replica servers: one line for each")
    files: FilesFile = part(FilesFile, "the credential files")
    writer: WriterFile | None = optional("the service that keeps files here for a daemon elsewhere", "there is none")
    uids: UidsFile = part(UidsFile, "the numbers that may have accounts; 0, 65534 and 65535 never do")
    limits: LimitsFile = part(LimitsFile, "what an account may use")
    removal: RemovalFile = part(RemovalFile, "how accounts go")
    rotation: RotationFile = part(RotationFile, "how passwords are replaced")
    governor: GovernorFile = part(GovernorFile, "statement time, which an account could unset by itself")
    pacing: PacingFile = part(PacingFile, "how often, and how patiently")
    metrics: AccountMetricsFile = part(AccountMetricsFile, "the metrics of accounts")
