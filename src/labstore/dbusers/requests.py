"""When what people asked for is done. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from labstore.dbusers.facts import DbFacts
from labstore.model.accounts import DbUser
from labstore.model.ledger import BY_HAND, AccountRow, AccountState, Cause, LedgerView, Request, RequestVerb
from labstore.ports.credential_writer import FileState
from labstore.ports.ledger import Finished
from labstore.reconcile.facts import Fact

_ROTATED = frozenset({AccountState.OVERLAP, AccountState.LIVE})


def finished(facts: DbFacts, ledger: LedgerView, at: datetime) -> Iterator[Finished]:
    """The requests that need not be thought of any more, with what became of them. What was asked for after the facts
    were read is for the next cycle: nothing that was done in this one was done for it."""
    heard = {request.number for request in facts.ledger.requests}
    requests = [request for request in ledger.requests if request.number in heard]
    last = {request.account: request.number for request in requests if request.verb is not RequestVerb.ROTATE}
    for request in requests:
        if request.verb is not RequestVerb.ROTATE and last[request.account] != request.number:
            yield Finished(request, "another word came after it")
        elif result := _result(facts, ledger, request, at):
            yield Finished(request, result)


def _result(facts: DbFacts, ledger: LedgerView, request: Request, at: datetime) -> str:
    if request.verb is RequestVerb.ROTATE:
        return _rotated(facts, ledger, request, at)
    assert request.account is not None
    row = ledger.accounts.get(request.account)
    if row is None:
        return _without_row(facts, ledger, request)
    if request.verb is RequestVerb.RESTORE:
        return "" if row.suspended else "restored"
    if row.cause not in BY_HAND or (request.options.get("now") and row.cause is not Cause.ASKED_NOW):
        return ""
    if row.cause is Cause.ASKED_NOW:
        return "suspended; it is dropped as soon as its sessions are ended"
    wait = timedelta(seconds=facts.settings.removal.wait)
    return f"suspended; dropped after {(row.suspended_at or at) + wait:%Y-%m-%d %H:%M} UTC unless restored"


def _without_row(facts: DbFacts, ledger: LedgerView, request: Request) -> str:
    assert request.account is not None
    if request.account not in ledger.tombstones:
        return "there is no such account"
    if request.verb is RequestVerb.REMOVE:
        return "removed"
    answer = facts.listings.get(request.account.kind)
    gone = isinstance(answer, Fact) and request.account not in answer.value.entries
    return "the directory does not have it" if gone else ""


def _rotated(facts: DbFacts, ledger: LedgerView, request: Request, at: datetime) -> str:
    if request.account is not None:
        row = ledger.accounts.get(request.account)
        if row is None:
            return "there is no such account"
        return _done(row, request, at) and "rotated"
    owing = {row.user for row in ledger.accounts.values() if row.name_known and not _done(row, request, at)}
    # one home that was archived must not keep the word for everybody open
    homeless = {user for user in owing if _homeless(facts, user)}
    if owing - homeless:
        return ""
    return f"all rotated but {len(homeless)} without a home, whose password is as it was" if homeless else "all rotated"


def _homeless(facts: DbFacts, user: DbUser) -> bool:
    answer = facts.files.get(user)
    return isinstance(answer, Fact) and answer.value.state is FileState.NO_HOME


def _done(row: AccountRow, request: Request, at: datetime) -> str:
    """Words if the account owes this rotation no more; a suspended one has no use for a new password."""
    if row.suspended:
        return "suspended"
    new = row.password_at is not None and row.password_at >= request.at
    if request.options.get("now") and row.state is AccountState.OVERLAP and (row.until is None or row.until > at):
        return ""
    return "rotated" if new and row.state in _ROTATED else ""
