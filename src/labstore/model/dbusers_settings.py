"""How the accounts room works: where the directory, the ledger, the servers and the homes are, and the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from labstore.model.accounts import AccountKind, DbUser, Limits, PartialLimits, UidRange
from labstore.model.address import Client
from labstore.model.database import PORT, GrantType, HostGroupName, HostKey, RoleName
from labstore.model.secret import NO_SECRET, Secret

ORIGINAL_ROLE = RoleName("labsdbuser")
ORIGINAL_LIMITS = Limits(max_connections=10)
NO_LIMITS = Limits()
ALL_UIDS = UidRange()
DAY = 86400.0
HOUR = 3600.0


class Tls(StrEnum):
    """How a connection is protected. VERIFY: encrypted, and the server's certificate names the server."""

    VERIFY = "verify"
    OFF = "off"


class DirectoryKind(StrEnum):
    LDAP = "ldap"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """The LDAP directory. The bases are the original's constants; `servers` are URLs, asked in this order.

    `deadline` bounds one whole listing, in seconds. `ca_file` None: the system's authorities. An entry is suspended
    when it has pwdAccountLockedTime, or a pwdPolicySubentry among `disabled_policies` or with an RDN of cn=disabled.
    """

    servers: tuple[str, ...]
    bind_dn: str = ""
    password: Secret = NO_SECRET
    tools_base: str = "ou=people,ou=servicegroups,dc=wikimedia,dc=org"
    people_base: str = "ou=people,dc=wikimedia,dc=org"
    group: str = "cn=project-tools,ou=groups,dc=wikimedia,dc=org"
    project: str = "tools"
    tls: Tls = Tls.VERIFY
    ca_file: Path | None = None
    page: int = 1000
    connect_deadline: float = 3.0
    deadline: float = 60.0
    disabled_policies: tuple[str, ...] = ()
    doorbell: bool = True


@dataclass(frozen=True, slots=True)
class FileDirectorySettings:
    """A directory in a file of people and tools, for sites without LDAP and for the demonstration."""

    path: Path
    project: str = "tools"


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the ledger is: an SQLite file, or a database on a MariaDB server."""

    sqlite: Path | None = None
    host: str = ""
    port: int = PORT
    socket: Path | None = None
    user: str = ""
    password: Secret = NO_SECRET
    database: str = "labsdbaccounts"
    tls: Tls = Tls.VERIFY
    ca_file: Path | None = None
    deadline: float = 10.0


class Surplus(StrEnum):
    """What happens to rights that our accounts have from somebody else."""

    REPORT = "report"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """One replica server. `required`: a new account's file waits for it (bounded by `Pacing.required_patience`).

    `keep_binlog` false keeps account statements out of the server's binary log, so that a replica gets no transaction
    of its own. `procedures` is the database that holds the procedures of `host-setup`; they are used where they are.
    """

    key: HostKey
    grant_type: GrantType = GrantType.ROLE
    group: HostGroupName | None = None
    user: str = ""
    password: Secret = NO_SECRET
    role: RoleName = ORIGINAL_ROLE
    socket: Path | None = None
    tls: Tls = Tls.VERIFY
    ca_file: Path | None = None
    required: bool = False
    surplus: Surplus = Surplus.REPORT
    keep_binlog: bool = False
    procedures: str = "labstore_accounts"
    connect_deadline: float = 3.0
    deadline: float = 10.0
    batch: int = 200


@dataclass(frozen=True, slots=True)
class RemoteFilesSettings:
    """A credential file service on another machine, by its v1 interface."""

    url: str
    user: str
    password: Secret
    ca_file: Path | None = None
    deadline: float = 30.0


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """This machine's own credential file service: where it answers, who may ask. Without a certificate it is not
    encrypted, and for this machine alone."""

    host: str
    port: int
    user: str
    password: Secret
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """Where the homes are and how credential files are kept.

    `bases` holds the homes of each kind on this machine; `remote` names the service that writes those of a kind
    elsewhere. `immutable` false leaves the attribute alone (file systems without it, sites that restore backups over
    homes): trust then rests on owner and mode.
    """

    bases: Mapping[AccountKind, Path] = field(default_factory=dict)
    remote: Mapping[AccountKind, RemoteFilesSettings] = field(default_factory=dict)
    immutable: bool = True
    mode: int = 0o400
    paws_owner: int = 52771


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One rule about limits: for a kind, an account, a host group, any combination, or everybody.

    The more specific rule wins, limit by limit: account before kind before neither, then with a host group before
    without. `until` (UTC): the rule ends by itself.
    """

    limits: PartialLimits
    kind: AccountKind | None = None
    account: DbUser | None = None
    group: HostGroupName | None = None
    reason: str = ""
    until: datetime | None = None
    number: int = 0
    """Its number in the ledger; 0 for a rule of the configuration."""
    grants: GrantType | None = None
    """Only on servers of this type: the original's variances raise a limit that the older type does not have."""

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """Sorts rules from general to specific."""
        return self.account is not None, self.kind is not None, self.group is not None

    def applies(self, user: DbUser, host: ReplicaSettings, at: datetime) -> bool:
        return (
            (self.account is None or self.account == user)
            and (self.kind is None or self.kind is user.kind)
            and (self.group is None or self.group == host.group)
            and (self.grants is None or self.grants is host.grant_type)
            and (self.until is None or self.until > at)
        )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """`role` and `legacy` hold where no rule says anything: the original's ten connections, and none."""

    role: Limits = ORIGINAL_LIMITS
    legacy: Limits = NO_LIMITS
    rules: tuple[LimitRule, ...] = ()


class Orphans(StrEnum):
    """What happens to accounts of ours on a server that neither the directory nor the ledger knows."""

    REPORT = "report"
    SUSPEND = "suspend"


@dataclass(frozen=True, slots=True)
class RemovalSettings:
    """`confirm`: two complete listings at least so many seconds apart must lack a name. `wait`: seconds between the
    suspension and the drop. `floor` and `part` are the brake: a cycle takes at most the larger of `floor` accounts and
    this part of them; `proven` is the same for what the directory says positively (locked)."""

    confirm: float = HOUR
    wait: float = 40 * DAY
    floor: int = 5
    part: float = 0.01
    proven_floor: int = 50
    proven_part: float = 0.1
    shrink: float = 0.9
    orphans: Orphans = Orphans.SUSPEND

    def brake(self, accounts: int) -> int:
        return max(self.floor, int(accounts * self.part))

    def brake_proven(self, accounts: int) -> int:
        return max(self.proven_floor, int(accounts * self.proven_part))


@dataclass(frozen=True, slots=True)
class RotationSettings:
    """`overlap`: seconds during which the old and the new password are both good. `patience`: so long a file's change
    waits for a server that does not answer or does not take it. `every` None: only on request."""

    overlap: float = DAY
    patience: float = HOUR
    every: float | None = None
    batch: int = 500


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    """`interval` seconds between two looks at a server's sessions; `grace` seconds that a statement may overrun."""

    enabled: bool = True
    interval: float = 1.0
    grace: float = 1.0


@dataclass(frozen=True, slots=True)
class Pacing:
    """All in seconds, but `chunk`: accounts per round of work.

    `interval`: between cycles. `patience`: so long a cycle waits for a server's answer, `work_patience` for its work;
    a server that takes longer goes on by itself and is looked at again in the next cycle. `required_patience`: so long
    a new file waits for a required server. `back_off`: the longest wait between two tries of a server that is away.
    `lease`: for so long the leader leads. `home_alert`: after so long a missing home is a warning.
    """

    interval: float = 60.0
    patience: float = 5.0
    work_patience: float = 60.0
    required_patience: float = 300.0
    back_off: float = 60.0
    lease: float = 180.0
    home_alert: float = DAY
    chunk: int = 500


@dataclass(frozen=True, slots=True)
class DbusersSettings:
    """All of it. `service_addresses`: only the node that holds them writes; empty for no such rule. `writer` is this
    node's own credential file service; `metrics_port` None for no metrics."""

    directory: LdapSettings | FileDirectorySettings
    ledger: LedgerSettings
    hosts: tuple[ReplicaSettings, ...]
    files: FilesSettings
    kinds: frozenset[AccountKind] = frozenset({AccountKind.TOOL, AccountKind.USER})
    uids: UidRange = ALL_UIDS
    limits: LimitSettings = LimitSettings()
    removal: RemovalSettings = RemovalSettings()
    rotation: RotationSettings = RotationSettings()
    governor: GovernorSettings = GovernorSettings()
    pacing: Pacing = Pacing()
    service_addresses: tuple[Client, ...] = ()
    writer: WriterSettings | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 9090
    state_dir: Path = Path("/var/lib/labstore")

    def host(self, key: HostKey) -> ReplicaSettings:
        """Raises KeyError."""
        return next((host for host in self.hosts if host.key == key), None) or _unknown(key)

    def group(self, key: HostKey) -> HostGroupName | None:
        return self.host(key).group


def _unknown(key: HostKey) -> ReplicaSettings:
    raise KeyError(str(key))
