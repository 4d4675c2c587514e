"""One replica server: what accounts it has, changes to them, sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from labstore.model.accounts import DbUser
from labstore.model.database import FoundAccount, HostKey, WantedAccount
from labstore.reconcile.facts import Answer
from labstore.reports.report import Report


@dataclass(frozen=True)
class HostView:
    """A server as found. `accounts` has every account of ours by name, `sessions` how many each has open.

    `looked` counts the accounts that had to be read anew: 0 where a digest proved that nothing changed.
    """

    accounts: Mapping[DbUser, FoundAccount]
    sessions: Mapping[DbUser, int]
    read_only: bool = False
    looked: int = 0


class HostVerb(StrEnum):
    """What is done to an account on one server, in the order in which it is done."""

    LOCK = "lock"
    END_SESSIONS = "end sessions"
    CREATE = "create"
    ALTER = "alter"
    REVOKE = "revoke surplus rights"
    GRANT = "grant"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class HostChange:
    """One change of one account. `wanted` None for LOCK, END_SESSIONS and DROP."""

    verb: HostVerb
    user: DbUser
    wanted: WantedAccount | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A session of one of our accounts. `seconds` is how long its present statement runs, 0 when it runs none."""

    number: int
    query_id: int
    user: DbUser
    seconds: float
    running: bool


class ReplicaServer(Protocol):
    """Not for two threads at a time, except `sessions` and `end_statement`, which have a connection of their own."""

    key: HostKey

    def observe(self) -> Answer[HostView]:
        """Everything, within the deadline; Missing for a server that does not answer or gives a part."""

    def look(self, users: Sequence[DbUser]) -> Answer[Mapping[DbUser, FoundAccount]]:
        """These accounts alone, as they are now; those that are absent are not in it."""

    def carry_out(self, changes: Sequence[HostChange]) -> Mapping[DbUser, Report]:
        """Make these changes, in the order of HostVerb, in lists; where a list fails, one by one, so that one bad
        account costs one account. Returns what failed. Each change is harmless when it was made before.
        Raises StepFailed when the server is lost: what was not made by then is found out by looking."""

    def sessions(self) -> Answer[tuple[Session, ...]]:
        """The sessions of our accounts, for the governor."""

    def end_statement(self, session: Session) -> bool:
        """End the statement that was seen, and never another; false if it had ended by itself. Raises StepFailed."""

    def end_session(self, session: Session) -> bool:
        """End the whole session; false if it had ended. Raises StepFailed."""

    def close(self) -> None:
        """Let go of all connections."""
