"""All that a decision about accounts is made from: one look at the world, taken before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.ledger import LedgerView
from labstore.model.people import Listing
from labstore.ports.credential_writer import FileFact
from labstore.ports.replica_server import HostView
from labstore.reconcile.facts import Answer, Missing


@dataclass(frozen=True)
class DbFacts:
    """What the directory, the ledger, every server and every home say.

    `held` are the passwords (account and generation) that this process still has in memory. `away` says since when a
    server gives no answer. `waiting` says since when a new account waits for something. `heard` is the ledger's time
    just before it was read: what people asked for after that is not in `ledger`.
    """

    at: datetime
    settings: DbusersSettings
    listings: Mapping[AccountKind, Answer[Listing]]
    ledger: LedgerView
    hosts: Mapping[HostKey, Answer[HostView]]
    files: Mapping[DbUser, Answer[FileFact]]
    held: frozenset[tuple[DbUser, int]] = frozenset()
    away: Mapping[HostKey, datetime] = field(default_factory=dict)
    waiting: Mapping[DbUser, datetime] = field(default_factory=dict)
    heard: datetime | None = None

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Everything that could not be found out, each once."""
        answers: list[object] = [*self.listings.values(), *self.hosts.values(), *self.files.values()]
        return tuple(dict.fromkeys(answer for answer in answers if isinstance(answer, Missing)))
