"""One look at the world: the directory, the ledger, every server, every home."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.dbusers.crew import Crew
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.vault import Vault
from labstore.model.accounts import AccountKind, DbUser, PawsId, account_name
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.ledger import LedgerView, ListingNote
from labstore.model.people import Entry, Listing, Rejected
from labstore.ports.clock import Clock
from labstore.ports.credential_writer import CredentialWriter, FileFact, FileOwner, FileState
from labstore.ports.directory import Directory
from labstore.ports.ledger import Ledger
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.dbusers import ListingShrunk
from labstore.reports.report import Override

PAWS_DOUBT = "a PAWS home that is not there is no word of removal"


@dataclass
class Observer:
    """Where each part of the facts comes from. `settings` gives the site as it is now."""

    settings: DbusersSettings
    directory: Directory
    ledger: Ledger
    crew: Crew
    writer: CredentialWriter
    clock: Clock
    vault: Vault = field(default_factory=Vault)
    _waiting: dict[DbUser, datetime] = field(default_factory=dict, init=False)

    def facts(self, overrides: frozenset[Override] = frozenset()) -> DbFacts:
        """Raises LedgerFailed."""
        heard, ledger = self.ledger.now(), self.ledger.read()
        # servers take longest; the directory is asked while they answer
        hosts = self.crew.observe(self.settings.pacing.patience)
        listings = self._listings(ledger, overrides)
        files = self.writer.inspect(list(owners(ledger, listings)))
        at = self.clock.now()
        self._wait(at, listings, files)
        return DbFacts(
            at=at,
            settings=self.settings,
            listings=listings,
            ledger=ledger,
            hosts=hosts,
            files=files,
            held=self.vault.held,
            away=self.crew.away,
            waiting=dict(self._waiting),
            heard=heard,
        )

    def _listings(self, ledger: LedgerView, overrides: frozenset[Override]) -> dict[AccountKind, Answer[Listing]]:
        answers = dict(self.directory.listing())
        if AccountKind.PAWS in self.settings.kinds:
            answers[AccountKind.PAWS] = self._paws()
        wanted = {kind: answer for kind, answer in answers.items() if kind in self.settings.kinds}
        if Override.ALLOW_MASS_REMOVAL in overrides:
            return wanted
        return {kind: judged(answer, ledger.listings.get(kind), self.settings) for kind, answer in wanted.items()}

    def _paws(self) -> Answer[Listing]:
        """PAWS accounts are made for the homes there are, and never removed for want of one."""
        answer = self.writer.paws_ids()
        if isinstance(answer, Missing):
            return answer
        entries: dict[DbUser, Entry] = {}
        rejected: list[Rejected] = []
        for name in answer.value:
            try:
                entry = Entry(AccountKind.PAWS, account_name(AccountKind.PAWS, name), self.settings.files.paws_owner)
            except ValueError as error:
                rejected.append(Rejected(PawsId.what, str(error)))
            else:
                entries[entry.user] = entry
        listing = Listing(AccountKind.PAWS, entries, tuple(rejected), False, (answer.source,), PAWS_DOUBT)
        return Fact(listing, answer.source, answer.at)

    def _wait(
        self,
        at: datetime,
        listings: Mapping[AccountKind, Answer[Listing]],
        files: Mapping[DbUser, Answer[FileFact]],
    ) -> None:
        """Since when each account has had no home: since its entry was made, or since we have known of it."""
        homeless = {user for user, fact in files.items() if isinstance(fact, Fact) and _homeless(fact.value)}
        created = {
            user: entry.created
            for answer in listings.values()
            if isinstance(answer, Fact)
            for user, entry in answer.value.entries.items()
            if user in homeless and entry.created is not None
        }
        self._waiting = {user: created.get(user) or self._waiting.get(user, at) for user in homeless}


def _homeless(fact: FileFact) -> bool:
    return fact.state is FileState.NO_HOME


def judged(answer: Answer[Listing], note: ListingNote | None, settings: DbusersSettings) -> Answer[Listing]:
    """A listing that is much shorter than the last one is taken for cut short, whatever its source says of it."""
    if isinstance(answer, Missing) or note is None:
        return answer
    # a rejected entry is there, and so are those that nobody can name
    count, before = len(answer.value.entries) + len(answer.value.rejected), note.count
    lost = before - count
    removal = settings.removal
    if (count == 0 and lost > 0) or (lost > removal.floor and count < removal.shrink * before):
        return Missing(ListingShrunk(answer.value.kind.value, count, before), answer.source, answer.at)
    return answer


def owners(ledger: LedgerView, listings: Mapping[AccountKind, Answer[Listing]]) -> Iterator[FileOwner]:
    """Whose files are looked at: everybody's in the directory, by the directory's name, and everybody's in the ledger
    that can be named."""
    seen: set[DbUser] = set()
    for answer in listings.values():
        if isinstance(answer, Fact):
            for user, entry in answer.value.entries.items():
                seen.add(user)
                yield FileOwner(entry.kind, entry.name, entry.uid, user)
    for user, row in ledger.accounts.items():
        if user not in seen and row.name_known:
            try:
                name = account_name(row.kind, row.name)
            except ValueError:
                continue
            yield FileOwner(row.kind, name, row.uid, user)
