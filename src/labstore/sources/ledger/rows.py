"""Rows of the ledger's tables as values, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from labstore.model.accounts import AccountKind, DbUser, NativeHash, PartialLimits
from labstore.model.database import HostGroupName
from labstore.model.dbusers_settings import LimitRule
from labstore.model.ledger import AccountRow, AccountState, Cause, Event, Request, RequestVerb, Tombstone
from labstore.sources.ledger.store import Row

ACCOUNT_COLUMNS = (
    "id", "mysql_username", "type", "username", "password_hash", "uid", "entry_uuid", "generation", "state",
    "other_hash", "until", "missing_since", "suspended_at", "suspended_why", "password_at",
)  # fmt: skip
TOMBSTONE_COLUMNS = ("mysql_username", "type", "username", "uid", "entry_uuid", "at", "why")
RULE_COLUMNS = (
    "id", "kind", "account", "host_group", "max_connections", "statement_seconds", "queries_per_hour", "reason",
    "until",
)  # fmt: skip
REQUEST_COLUMNS = ("id", "verb", "account", "options", "who", "at")
EVENT_COLUMNS = ("id", "at", "epoch", "actor", "account", "host", "what", "detail", "digest")


def account_row(row: Row) -> AccountRow:
    """Raises ValueError for a row that no account of ours can have."""
    user = DbUser(_text(row[1]))
    kind = AccountKind(_text(row[2]))
    if user.kind is not kind:
        raise ValueError(f"{user} is no account of a {kind.value}")
    return AccountRow(
        id=int(row[0]),
        user=user,
        kind=kind,
        name=_text(row[3]),
        verifier=NativeHash(_text(row[4])),
        uid=user.number if row[5] is None else int(row[5]),
        entry_uuid=_text(row[6]),
        generation=int(row[7]),
        state=AccountState(_text(row[8])),
        other=NativeHash(_text(row[9])) if row[9] else None,
        until=stamp(row[10]),
        missing_since=stamp(row[11]),
        suspended_at=stamp(row[12]),
        cause=Cause(row[13]) if row[13] else None,
        password_at=stamp(row[14]),
    )


def account_values(row: AccountRow) -> tuple[Any, ...]:
    """In the order of ACCOUNT_COLUMNS; hashes in the original's lower case."""
    return (
        row.id, str(row.user), row.kind.value, row.name, row.verifier.stored, row.uid, row.entry_uuid, row.generation,
        row.state.value, row.other.stored if row.other else None, text_of(row.until), text_of(row.missing_since),
        text_of(row.suspended_at), row.cause.value if row.cause else "", text_of(row.password_at),
    )  # fmt: skip


def tombstone(row: Row) -> Tombstone:
    at = stamp(row[5]) or datetime.min.replace(tzinfo=UTC)
    return Tombstone(DbUser(_text(row[0])), AccountKind(_text(row[1])), row[2], int(row[3]), row[4], at, row[6])


def tombstone_values(stone: Tombstone) -> tuple[Any, ...]:
    return (
        str(stone.user), stone.kind.value, stone.name, stone.uid, stone.entry_uuid, stone.at.isoformat(),
        stone.why[:255],
    )  # fmt: skip


def rule(row: Row) -> LimitRule:
    return LimitRule(
        number=int(row[0]),
        kind=AccountKind(row[1]) if row[1] else None,
        account=DbUser(row[2]) if row[2] else None,
        group=HostGroupName(row[3]) if row[3] else None,
        limits=PartialLimits(*(None if value is None else int(value) for value in row[4:7])),
        reason=row[7],
        until=stamp(row[8]),
    )


def request(row: Row) -> Request:
    return Request(
        number=int(row[0]),
        verb=RequestVerb(row[1]),
        account=DbUser(row[2]) if row[2] else None,
        options=json.loads(row[3] or "{}"),
        who=row[4],
        at=stamp(row[5]) or datetime.min.replace(tzinfo=UTC),
    )


def event(row: Row) -> Event:
    return Event(
        number=int(row[0]), at=stamp(row[1]), actor=row[3], account=row[4], host=row[5], what=row[6],
        detail=json.loads(row[7] or "{}"),
    )  # fmt: skip


def link(previous: str, values: Sequence[object]) -> str:
    """The digest of an event that follows another; `values` from `at` to `detail`, as stored."""
    text = json.dumps([previous, *[str(value) for value in values]], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def detail_text(detail: Mapping[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, ensure_ascii=True, default=str)


def stamp(value: object) -> datetime | None:
    return datetime.fromisoformat(_text(value)) if value else None


def text_of(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _text(value: object) -> str:
    """MariaDB gives bytes for BINARY columns."""
    return value.decode("ascii", "replace").rstrip("\0") if isinstance(value, bytes) else str(value)
