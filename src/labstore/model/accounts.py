"""Database accounts: whose they are, what they are called, what they may use, how they are proven."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Self

from labstore.model.names import Name, shown
from labstore.model.secret import Secret

UID_NOBODY = (1 << 32) - 1
"""chown(2) takes it for `leave as it is`: a file of such an owner would stay root's."""
UID_MIN, UID_MAX = 500, UID_NOBODY - 2
"""Accepted where a site says nothing else; 65534 is nobody on every system."""
_SYSTEM_UIDS = frozenset({0, 65534, 65535})


class AccountKind(StrEnum):
    """Whose account it is. The ledger's `type` column and the v1 API use these words."""

    TOOL = "tool"
    USER = "user"
    PAWS = "paws"

    @property
    def letter(self) -> str:
        """What the names of its database accounts begin with."""
        return {AccountKind.TOOL: "s", AccountKind.USER: "u", AccountKind.PAWS: "p"}[self]


class DbUser(Name):
    """A database account of ours: `s52788` a tool's, `u2170` a user's, `p31` a PAWS user's; the host part is `%`."""

    __slots__ = ()
    what = "database account of ours"
    grammar = re.compile(r"[sup][1-9][0-9]{0,9}")
    rule = "s, u or p and a number without leading zeros"

    @classmethod
    def of(cls, kind: AccountKind, number: int) -> Self:
        """The account of this user, tool or PAWS id. Raises ValueError."""
        return cls(f"{kind.letter}{number}")

    @property
    def kind(self) -> AccountKind:
        return _BY_LETTER[self[0]]

    @property
    def number(self) -> int:
        return int(self[1:])


_BY_LETTER = {kind.letter: kind for kind in AccountKind}


class ToolName(Name):
    """A tool as the directory and the ledger name it, with the project in front: `tools.wikibugs`."""

    __slots__ = ()
    what = "tool name"
    grammar = re.compile(r"[a-z][a-z0-9-]{0,31}\.[a-z][a-z0-9-]{0,31}")
    rule = "project.tool, each of a-z, 0-9 and '-', starting with a letter, at most 32"


class PersonName(Name):
    """A shell name. Compared byte by byte; only ASCII, since look-alikes collided before (upstream #42)."""

    __slots__ = ()
    what = "shell name"
    grammar = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
    rule = "letters, digits, '.', '_' and '-', not starting with '.' or '-', at most 63"


class PawsId(Name):
    __slots__ = ()
    what = "PAWS id"
    grammar = re.compile(r"[1-9][0-9]{0,9}")
    rule = "a number without leading zeros"


_NAMES: dict[AccountKind, type[Name]] = {
    AccountKind.TOOL: ToolName,
    AccountKind.USER: PersonName,
    AccountKind.PAWS: PawsId,
}


def account_name(kind: AccountKind, text: str) -> Name:
    """The name of an account's owner in the grammar of its kind. Raises ValueError."""
    return _NAMES[kind](text)


def home_name(kind: AccountKind, name: str) -> str:
    """The one path component below the base directory that is this owner's home."""
    return name.partition(".")[2] if kind is AccountKind.TOOL else name


@dataclass(frozen=True, slots=True)
class UidRange:
    """Which numbers may be owners. 0, 65534, 65535 and 2^32-1 never are, whatever the range."""

    first: int = UID_MIN
    last: int = UID_MAX

    def check(self, number: int) -> int:
        """The number itself. Raises ValueError for one that may not be an owner."""
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{shown(number)} is not a uid")
        if number in _SYSTEM_UIDS or number >= UID_NOBODY or not self.first <= number <= self.last:
            raise ValueError(f"uid {number} is not one of an account ({self.first} to {self.last})")
        return number


class NativeHash(str):
    """A mysql_native_password verifier as servers show it: `*` and 40 hexadecimal digits, upper case.

    The original's ledger holds lower case, and a server keeps the case it was given; the constructor takes both.
    """

    __slots__ = ()
    _grammar: ClassVar[re.Pattern[str]] = re.compile(r"\*[0-9A-F]{40}")

    def __new__(cls, text: str) -> Self:
        upper = text.upper() if isinstance(text, str) and text.isascii() else ""
        if cls._grammar.fullmatch(upper) is None:
            raise ValueError("not a mysql_native_password verifier ('*' and 40 hexadecimal digits)")
        return super().__new__(cls, upper)

    @classmethod
    def of(cls, password: Secret) -> Self:
        """What PASSWORD() gives: SHA1 of SHA1."""
        first = hashlib.sha1(password.reveal().encode(), usedforsecurity=False).digest()
        return cls("*" + hashlib.sha1(first, usedforsecurity=False).hexdigest())

    @property
    def stored(self) -> str:
        """As the original's ledger holds it."""
        return self.lower()


NATIVE_PLUGIN = "mysql_native_password"
LARGEST_LIMIT = 2_147_483_647


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may use on one server; 0 is no limit. `statement_seconds` counts one statement's time.

    We set none below 0 or above LARGEST_LIMIT; a server may be found to have any number.
    """

    max_connections: int = 0
    statement_seconds: int = 0
    queries_per_hour: int = 0

    def __post_init__(self) -> None:
        for name in ("max_connections", "statement_seconds", "queries_per_hour"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is a whole number, not {shown(value)}")

    def words(self) -> str:
        """For people."""
        parts = (
            (self.max_connections, "connections"),
            (self.statement_seconds, "s per statement"),
            (self.queries_per_hour, "queries per hour"),
        )
        return ", ".join(f"{value} {unit}" for value, unit in parts if value) or "no limits"


@dataclass(frozen=True, slots=True)
class PartialLimits:
    """What one rule says about limits; None is nothing said."""

    max_connections: int | None = None
    statement_seconds: int | None = None
    queries_per_hour: int | None = None

    def over(self, base: Limits) -> Limits:
        """`base` with what this rule says put over it."""
        said = {name: value for name in Limits.__dataclass_fields__ if (value := getattr(self, name)) is not None}
        return replace(base, **said) if said else base

    @property
    def nothing(self) -> bool:
        return self == PartialLimits()
