"""The record of all accounts: the two tables of the original and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from labstore.model.accounts import DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import LimitRule
from labstore.model.ledger import AccountRow, Debt, Event, Lease, LedgerView, ListingNote, Request, Tombstone


class LedgerFailed(Exception):
    """The ledger did not answer, or not as a ledger does. What was being written is not there, or wholly there."""


class NotLeader(Exception):
    """Another process leads; `holder` is who, `until` (UTC) for how long at least."""

    def __init__(self, holder: str, until: datetime | None) -> None:
        self.holder, self.until = holder, until
        super().__init__(f"{holder or 'another process'} leads" + (f" until {until.isoformat()}" if until else ""))


class SchemaUnfit(Exception):
    """The tables are of no version that this program writes, or hold what a migration cannot take; `problems` say
    what. Nothing is written."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Put:
    """Insert (`row.id` 0) or replace one account, with the event that says why."""

    row: AccountRow
    event: Event


@dataclass(frozen=True, slots=True)
class Bury:
    """Take the account and its rows per server out; leave the tombstone."""

    row: AccountRow
    tombstone: Tombstone
    event: Event


@dataclass(frozen=True, slots=True)
class Places:
    """What was found on one server: accounts that are present, and those that are not, with the debt."""

    host: HostKey
    present: tuple[DbUser, ...] = ()
    absent: Mapping[DbUser, Debt] | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete listing was seen."""

    note: ListingNote


@dataclass(frozen=True, slots=True)
class Finished:
    """A request was carried out, or cannot be."""

    request: Request
    result: str


@dataclass(frozen=True, slots=True)
class Note:
    """An event alone."""

    event: Event


Write = Put | Bury | Places | Listed | Finished | Note


class Ledger(Protocol):
    """Every method raises LedgerFailed for a store that failed. Times are the store's own (UTC)."""

    def prepare(self) -> tuple[str, ...]:
        """Bring the tables to this program's version, in place; the original's are recognised. Returns what was done.
        Killed at any point, the next call goes on. Raises SchemaUnfit."""

    def read(self) -> LedgerView:
        """Everything a decision needs. The same object again as long as nobody wrote."""

    def lead(self, holder: str, seconds: float) -> Lease:
        """Become or remain leader. Raises NotLeader."""

    def resign(self, lease: Lease) -> None:
        """Let somebody else lead at once."""

    def write(self, lease: Lease, writes: Iterable[Write]) -> None:
        """All of it, or nothing. Raises NotLeader where the lease's epoch is over: nothing was written then."""

    def add_hosts(self, lease: Lease, hosts: Sequence[HostKey]) -> int:
        """Let every account have a row for every one of these servers, absent where there was none (upstream #53).
        Returns how many were added."""

    def ask(self, request: Request) -> Request:
        """Leave a request for the leader; needs no lease. Returns it with its number."""

    def add_rule(self, rule: LimitRule, who: str) -> LimitRule:
        """Add a rule about limits, replacing one of the same scope; needs no lease."""

    def end_rule(self, number: int, who: str) -> bool:
        """End a rule; false where there is none of this number."""

    def events(self, account: DbUser | None = None, limit: int = 100) -> tuple[Event, ...]:
        """The newest events, newest first."""

    def verify_events(self) -> int | None:
        """Follow the chain of events from the first; the number of the first that does not fit, or None."""

    def leader(self) -> Lease | None:
        """Who leads or led last; None if nobody ever did."""

    def now(self) -> datetime:
        """The store's clock."""

    def close(self) -> None:
        """Let go of the connection."""
