"""Who should have an account: what a directory says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.names import Name


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool, user or PAWS user of the directory. `uuid` identifies the entry itself, whatever its name and number;
    empty where the directory has no such thing. `locked` is the directory's positive word that it is disabled, or is
    not; None where its servers differ, and things stay as they are."""

    kind: AccountKind
    name: Name
    uid: int
    uuid: str = ""
    locked: bool | None = False
    created: datetime | None = None

    @property
    def user(self) -> DbUser:
        """The database account that this entry has: by the PAWS id for PAWS, else by the uid."""
        return DbUser.of(self.kind, int(self.name) if self.kind is AccountKind.PAWS else self.uid)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that cannot be taken: what it is called, safe to show, and why."""

    shown: str
    why: str
    claims: frozenset[str] = frozenset()
    """The database account and the name that it would have: nobody's removal is decided while somebody claims it."""


@dataclass(frozen=True)
class Listing:
    """A complete answer for one kind. `agreed` says that every directory server gave the same word on who is absent:
    only then does absence count. `entries` holds everybody that any server has."""

    kind: AccountKind
    entries: Mapping[DbUser, Entry]
    rejected: tuple[Rejected, ...] = ()
    agreed: bool = True
    servers: tuple[str, ...] = field(default=())
    doubt: str = ""
    """Why `agreed` is false."""
