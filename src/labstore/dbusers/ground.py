"""What all accounts have in common when they are decided about: the site, the moment, who answered, what is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from labstore.dbusers.desired import Limiter
from labstore.dbusers.facts import DbFacts
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.ledger import AccountRow, AccountState, Request, RequestVerb
from labstore.model.people import Listing
from labstore.ports.credential_writer import FileFact, FileState
from labstore.reconcile.facts import Fact


class Ground:
    """See the module. `known` are the servers that answered, `away` the others; `hosts` are all of them."""

    def __init__(self, facts: DbFacts) -> None:
        self.facts, self.at, self.settings = facts, facts.at, facts.settings
        self.limiter = Limiter(facts.settings, facts.ledger.rules, facts.at)
        self.hosts: dict[HostKey, ReplicaSettings] = {host.key: host for host in facts.settings.hosts}
        self.known = {
            key: answer.value for key, answer in facts.hosts.items() if isinstance(answer, Fact) and key in self.hosts
        }
        self.away = tuple(host.key for host in facts.settings.hosts if host.key not in self.known)
        self.listings = {kind: answer.value for kind, answer in facts.listings.items() if isinstance(answer, Fact)}
        self._claims = {
            kind: frozenset(claim for rejected in listing.rejected for claim in rejected.claims)
            for kind, listing in self.listings.items()
        }
        self._requests = _by_account(facts.ledger.requests)
        self._everybody = [r for r in facts.ledger.requests if r.account is None and r.verb is RequestVerb.ROTATE]
        self._begun = 0

    def users(self) -> list[DbUser]:
        """Everybody anybody knows of, by number: the same facts give the same order."""
        users: set[DbUser] = set(self.facts.ledger.accounts)
        for listing in self.listings.values():
            users.update(listing.entries)
        for view in self.known.values():
            users.update(view.accounts)
        letters = {kind.letter for kind in self.settings.kinds}
        return sorted((user for user in users if user[0] in letters), key=lambda user: (len(user), user))

    def listing(self, kind: AccountKind) -> Listing | None:
        return self.listings.get(kind)

    def absent(self, user: DbUser, row: AccountRow | None) -> bool:
        """Whether this listing's silence about an account counts."""
        listing = self.listings.get(user.kind)
        if listing is None or not listing.agreed or user in listing.entries:
            return False
        claims = self._claims[user.kind]
        return user not in claims and (row is None or row.name not in claims)

    def asked(self, user: DbUser) -> Request | None:
        """The latest word of a person about removing or restoring this account."""
        return next((r for r in reversed(self._requests.get(user, ())) if r.verb is not RequestVerb.ROTATE), None)

    def rotation(self, row: AccountRow | None, file: FileFact | None) -> Request | None:
        """The rotation that an account owes: asked for it, asked of all, or due by the schedule. It begins when the
        account is live."""
        if row is None:
            return None
        request = next(iter(self._owed(row)), None)
        if request is not None and request.account is not None:
            return request
        if not self._can_begin(row, file):
            return None
        request = request or self._due(row)
        return request if request is not None and self._room() else None

    def at_once(self, row: AccountRow) -> bool:
        """Whether the old password of the rotation that is under way, or begins, ends as soon as the file has the new
        one. A request that others still owe is none of this account's any more."""
        if row.state is AccountState.ROTATING and row.until is not None:
            return True
        return any(request.options.get("now") for request in self._owed(row))

    def _owed(self, row: AccountRow) -> Iterator[Request]:
        """Every open request to rotate this account or all that is younger than its password."""
        own = (request for request in self._requests.get(row.user, ()) if request.verb is RequestVerb.ROTATE)
        for request in (*own, *self._everybody):
            if row.password_at is None or row.password_at < request.at:
                yield request

    def _due(self, row: AccountRow) -> Request | None:
        """What the schedule asks of an account. A password from before labstore is as old as can be."""
        every = self.settings.rotation.every
        if every is None:
            return None
        # an offset by the account's number, so that not all are due at once
        span = timedelta(seconds=every * (1 + row.user.number % 101 / 1000))
        due = self.at if row.password_at is None else row.password_at + span
        return Request(RequestVerb.ROTATE, row.user, "the schedule", due) if due <= self.at else None

    def _can_begin(self, row: AccountRow, file: FileFact | None) -> bool:
        """Whether a rotation may begin now. Who cannot would be due in every cycle, and take the others' turn."""
        if row.suspended or not row.name_known or file is None or file.state is FileState.NO_HOME:
            return False
        return row.state is AccountState.LIVE or (row.state is AccountState.OVERLAP and self.at_once(row))

    def _room(self) -> bool:
        """Whether another account may begin a rotation in this cycle."""
        self._begun += 1
        return self._begun <= self.settings.rotation.batch


def _by_account(requests: Iterable[Request]) -> dict[DbUser, list[Request]]:
    found: dict[DbUser, list[Request]] = {}
    for request in requests:
        if request.account is not None:
            found.setdefault(request.account, []).append(request)
    return found
