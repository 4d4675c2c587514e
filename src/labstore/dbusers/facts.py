"""All that a decision about accounts is made from: one look at the world, taken before anything is decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.ledger import LedgerView
from labstore.model.people import Listing
from labstore.ports.credential_writer import FileFact
from labstore.ports.replica_server import HostView
from labstore.reconcile.facts import Answer, Missing
from labstore.reports.sources import SourceFailed

EXAMPLES = 5


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
        """Everything that could not be found out, each once; files that were not for the same reason are counted, with
        a few examples."""
        others = [answer for answer in (*self.listings.values(), *self.hosts.values()) if isinstance(answer, Missing)]
        files = [answer for answer in self.files.values() if isinstance(answer, Missing)]
        return tuple(dict.fromkeys([*others, *_together(files)]))


def _together(files: Iterable[Missing]) -> Iterator[Missing]:
    """A file system that does not answer is one thing to say, however many files are on it."""
    alike: dict[tuple[str, str], dict[str, Missing]] = {}
    for each in files:
        if isinstance(each.report, SourceFailed):
            alike.setdefault((each.source, each.report.reason), {}).setdefault(each.report.what, each)
        else:
            yield each
    for group in alike.values():
        named = list(group.items())
        if len(named) <= EXAMPLES:
            yield from group.values()
            continue
        words = ", ".join(what for what, _ in named[:EXAMPLES])
        _, first = named[0]
        assert isinstance(first.report, SourceFailed)
        yield replace(first, report=replace(first.report, what=f"{words} and {len(named) - EXAMPLES} more"))
