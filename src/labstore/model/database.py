"""Replica servers as they are asked and found."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from labstore.model.accounts import NATIVE_PLUGIN, DbUser, Limits, NativeHash
from labstore.model.names import HostName, Name, shown

PORT = 3306


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """A replica server: `db1.example`, or `db1.example:3311`; both forms of one server are equal (upstream #53)."""

    host: str
    port: int = PORT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        host, colon, port = text.rpartition(":") if ":" in text else (text, "", "")
        if colon and (not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536):
            raise ValueError(f"{shown(text)} is not host or host:port")
        return cls(HostName(host.lower()), int(port) if colon else PORT)

    def __str__(self) -> str:
        # one text for the many steps of a plan that name a server
        return sys.intern(str(self.host) if self.port == PORT else f"{self.host}:{self.port}")


class RoleName(Name):
    """A role on a replica server that holds what tools and users may read."""

    __slots__ = ()
    what = "role name"
    grammar = re.compile(r"[a-z][a-z0-9_]{0,63}")
    rule = "a-z, 0-9 and '_', starting with a letter, at most 64"


class HostGroupName(Name):
    """A name for servers that are treated alike: limits and rotation windows speak of groups."""

    __slots__ = ()
    what = "host group"


class GrantType(StrEnum):
    """How an account gets its rights on a server: by a role, or (older servers) by grants of its own."""

    ROLE = "role"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class DbGrant:
    """Privileges on the databases that a pattern covers. `pattern` is as the grant tables hold it, escapes and all."""

    pattern: str
    privileges: frozenset[str]


ALL_ON_DATABASE = frozenset(
    {
        *("Select", "Insert", "Update", "Delete", "Create", "Drop", "References", "Index", "Alter"),
        *("Create_tmp_table", "Lock_tables", "Create_view", "Show_view", "Create_routine", "Alter_routine"),
        *("Execute", "Event", "Trigger", "Delete_history"),
    }
)
"""What ALL PRIVILEGES on a database means in MariaDB 10.11, in the words of the grant table's columns."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """One way in: the plugin and what it compares with."""

    plugin: str
    text: str

    @classmethod
    def native(cls, verifier: NativeHash) -> Self:
        return cls(NATIVE_PLUGIN, str(verifier))


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """An account as a server has it, normalised so that equal states are equal values.

    `touchable` is false for what we never change, whatever its name: a role, an account with global privileges
    (upstream #45), or one that cannot be read. `surplus` names rights beyond those a tool can have from us.
    """

    verifiers: frozenset[Verifier]
    limits: Limits
    locked: bool = False
    default_role: str = ""
    roles: frozenset[str] = frozenset()
    grants: frozenset[DbGrant] = frozenset()
    surplus: tuple[str, ...] = ()
    touchable: bool = True


@dataclass(frozen=True, slots=True)
class WantedAccount:
    """An account as a server shall have it. One verifier, or two while a rotation's window is open."""

    user: DbUser
    verifiers: tuple[NativeHash, ...]
    limits: Limits
    locked: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.verifiers) <= 2:
            raise ValueError("an account has one verifier, or two in a rotation")

    @property
    def ways_in(self) -> frozenset[Verifier]:
        return frozenset(Verifier.native(verifier) for verifier in self.verifiers)
