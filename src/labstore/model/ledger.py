"""What the ledger holds: accounts, where they are, what is asked of them, what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import LimitRule


class AccountState(StrEnum):
    """Where an account is on its way. Suspension is beside it: an account comes back to where it was."""

    ISSUING = "issuing"
    """The ledger has a verifier, nobody has read the password yet."""
    LIVE = "live"
    """The file's password is the ledger's verifier."""
    ROTATING = "rotating"
    """Servers shall accept a second verifier, whose password is not in the file yet."""
    OVERLAP = "overlap"
    """The file has the new password; the old one is still accepted, until `until`."""
    DROPPING = "dropping"
    """The waiting time of a removal is over: dropped on every server, then the file goes, then the row."""


class Cause(StrEnum):
    """Why an account is suspended, which decides what brings it back."""

    MISSING = "missing"
    """Complete listings lacked it; it comes back with its entry."""
    LOCKED = "locked"
    """The directory says that it is disabled; it comes back when that ends."""
    ASKED = "asked"
    """A person asked for the removal; it comes back when a person asks for that."""
    ASKED_NOW = "asked, without waiting"


BY_HAND = frozenset({Cause.ASKED, Cause.ASKED_NOW})
"""Causes that a person gave."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as the ledger has it.

    `verifier` belongs to the password in the file (or, while ISSUING, to the one that will be published); `other` is
    the second verifier of a rotation: the new one while ROTATING, the old one while OVERLAP, until `until`; ROTATING it
    is set where the old one is to end as soon as the file has the new one. `generation` counts the
    passwords that were ever minted, `password_at` is when the newest was. `missing_since` is the first of an unbroken
    run of complete listings that lacked the account. `suspended_at` is when it was suspended, or when a person first
    asked for its removal if that was later. `id` is 0 for a row that is not stored yet.
    """

    user: DbUser
    kind: AccountKind
    name: str
    uid: int
    verifier: NativeHash
    generation: int = 1
    state: AccountState = AccountState.LIVE
    entry_uuid: str = ""
    other: NativeHash | None = None
    until: datetime | None = None
    missing_since: datetime | None = None
    suspended_at: datetime | None = None
    cause: Cause | None = None
    password_at: datetime | None = None
    id: int = 0

    @property
    def suspended(self) -> bool:
        return self.suspended_at is not None

    @property
    def verifiers(self) -> tuple[NativeHash, ...]:
        """What servers shall accept, the file's first."""
        return (self.verifier,) if self.other is None else (self.verifier, self.other)

    @property
    def name_known(self) -> bool:
        """False for an account that was found on a server and that nobody can name: it has no home and no file."""
        return not self.name.startswith("?")


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A removed account; kept for ever, so that nobody inherits its databases by getting its number."""

    user: DbUser
    kind: AccountKind
    name: str
    uid: int
    entry_uuid: str
    at: datetime
    why: str

    @property
    def by_hand(self) -> bool:
        """Whether a person asked for the removal: then it is not made again because the directory has it."""
        return self.why.startswith(Cause.ASKED.value)


@dataclass(frozen=True, slots=True)
class Debt:
    """An account that a server lacks, as last known: why, how often it was tried in vain, since when."""

    error: str = ""
    tries: int = 0
    since: datetime | None = None


class RequestVerb(StrEnum):
    """What people ask for; the leader does it in its next cycle."""

    REMOVE = "remove"
    RESTORE = "restore"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True)
class Request:
    """`account` None asks it of every account (rotations only). `options`: `now` skips waiting, `why` explains."""

    verb: RequestVerb
    account: DbUser | None
    who: str
    at: datetime
    options: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True, slots=True)
class ListingNote:
    """The last complete listing of a kind: when, and how many it had."""

    kind: AccountKind
    at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit log. `what` is a word, `detail` its particulars; never a password."""

    what: str
    account: str = ""
    host: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    actor: str = ""
    at: datetime | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Leadership: nobody else writes as leader until somebody takes a higher epoch."""

    holder: str
    epoch: int
    until: datetime


@dataclass(frozen=True)
class LedgerView:
    """The ledger at one moment. `debts` has, per server, only the accounts that are not present there; `present`
    counts the others; `stored_hosts` are the servers as the rows name them."""

    version: int
    accounts: Mapping[DbUser, AccountRow]
    tombstones: Mapping[DbUser, Tombstone]
    debts: Mapping[HostKey, Mapping[DbUser, Debt]]
    present: Mapping[HostKey, int]
    rules: tuple[LimitRule, ...] = ()
    requests: tuple[Request, ...] = ()
    listings: Mapping[AccountKind, ListingNote] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    """Rows that no account of ours could have, as they may be shown."""
