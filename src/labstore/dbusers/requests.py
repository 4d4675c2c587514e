"""When what people asked for is done. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from labstore.dbusers.facts import DbFacts
from labstore.model.ledger import AccountRow, AccountState, Cause, LedgerView, Request, RequestVerb
from labstore.ports.ledger import Finished

_BY_HAND = frozenset({Cause.ASKED, Cause.ASKED_NOW})
_ROTATED = frozenset({AccountState.OVERLAP, AccountState.LIVE})


def finished(facts: DbFacts, ledger: LedgerView, at: datetime) -> Iterator[Finished]:
    """The requests that need not be thought of any more, with what became of them."""
    for request in ledger.requests:
        result = _result(facts, ledger, request, at)
        if result:
            yield Finished(request, result)


def _result(facts: DbFacts, ledger: LedgerView, request: Request, at: datetime) -> str:
    if request.verb is RequestVerb.ROTATE:
        return _rotated(ledger, request)
    assert request.account is not None
    row = ledger.accounts.get(request.account)
    if row is None:
        return "removed" if request.account in ledger.tombstones else "there is no such account"
    if request.verb is RequestVerb.RESTORE:
        return "" if row.suspended else "restored"
    if row.cause not in _BY_HAND:
        return ""
    if row.cause is Cause.ASKED_NOW:
        return "suspended; it is dropped as soon as its sessions are ended"
    wait = timedelta(seconds=facts.settings.removal.wait)
    return f"suspended; dropped after {(row.suspended_at or at) + wait:%Y-%m-%d %H:%M} UTC unless restored"


def _rotated(ledger: LedgerView, request: Request) -> str:
    if request.account is not None:
        row = ledger.accounts.get(request.account)
        if row is None:
            return "there is no such account"
        return _done(row, request) and "rotated"
    owing = sum(not _done(row, request) for row in ledger.accounts.values() if row.name_known)
    return "" if owing else "all rotated"


def _done(row: AccountRow, request: Request) -> str:
    """Words if the account owes this rotation no more; a suspended one has no use for a new password."""
    if row.suspended:
        return "suspended"
    new = row.password_at is not None and row.password_at >= request.at
    return "rotated" if new and row.state in _ROTATED else ""
