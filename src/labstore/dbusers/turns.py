"""What a decision does to an account's row: pure functions from row to row, the same for preview and for real."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from labstore.model.accounts import DbUser, NativeHash
from labstore.model.ledger import BY_HAND, AccountRow, AccountState, Cause
from labstore.model.names import shown


class Act(StrEnum):
    """Everything that can be done about an account. The first group concerns its row in the ledger."""

    ISSUE = "issue a password"
    ADOPT = "adopt the password of its file"
    CONFIRM = "note that its file is in place"
    IDENTIFY = "note who it belongs to"
    KNOW = "note an account that nobody owns"
    MISSED = "note that the directory lacks it"
    BACK = "note that the directory has it again"
    ROTATE = "begin a rotation"
    OVERLAP = "note that its file has the new password"
    SETTLE = "end the old password"
    SUSPEND = "suspend"
    RESUME = "resume"
    END = "end the waiting time"
    BURY = "leave a tombstone"

    CREATE = "create"
    ALTER = "alter"
    REVOKE = "revoke rights beyond ours"
    GRANT = "grant"
    LOCK = "lock"
    END_SESSIONS = "end its sessions"
    DROP = "drop"

    PUBLISH = "publish its file"
    REPLACE = "replace its file"
    PROTECT = "protect its file"
    WITHDRAW = "withdraw its file"


class Stage(StrEnum):
    """Where an act happens."""

    LEDGER = "ledger"
    HOST = "server"
    FILE = "file"


HOST_ACTS = frozenset({Act.CREATE, Act.ALTER, Act.REVOKE, Act.GRANT, Act.LOCK, Act.END_SESSIONS, Act.DROP})
FILE_ACTS = frozenset({Act.PUBLISH, Act.REPLACE, Act.PROTECT, Act.WITHDRAW})
MINTING = frozenset({Act.ISSUE, Act.ROTATE})
"""Acts that need a new password."""


@dataclass(frozen=True, slots=True)
class Change:
    """One act on one account. `generation` is the password's that the act is about; the password and its hash are in
    no plan. What an act needs beside, it carries: owner, server, cause, moment.

    `until` of OVERLAP is when the old password ends, of ROTATE the same where that is at once; of PUBLISH and REPLACE
    it is how long the file waits for servers that answer and do not do their part."""

    act: Act
    user: DbUser
    generation: int = 0
    host: str = ""
    name: str = ""
    uid: int = 0
    uuid: str = ""
    cause: Cause | None = None
    until: datetime | None = None

    @property
    def stage(self) -> Stage:
        if self.act in HOST_ACTS:
            return Stage.HOST
        return Stage.FILE if self.act in FILE_ACTS else Stage.LEDGER

    @property
    def key(self) -> str:
        place = f"@{self.host}" if self.host else ""
        return f"{self.user}{place} {self.act}"


def placeholder(user: DbUser, generation: int) -> NativeHash:
    """Stands for the hash of a password that is not minted yet: nobody's, the same each time."""
    text = f"labstore placeholder {user} {generation}".encode()
    return NativeHash("*" + hashlib.sha1(text, usedforsecurity=False).hexdigest())


def turned(row: AccountRow | None, change: Change, verifier: NativeHash | None, at: datetime) -> AccountRow | None:
    """The row after an act on the ledger; None after BURY. `verifier` belongs to acts that bring a password's hash:
    the minted one, or the one found in the file or on the server."""
    if row is None:
        return _new(change, verifier, at)
    if change.act in (Act.ISSUE, Act.ADOPT):
        return _with_password(row, change, verifier, at)
    if change.act is Act.OVERLAP:
        assert row.other is not None
        return replace(row, verifier=row.other, other=row.verifier, state=AccountState.OVERLAP, until=change.until)
    return None if change.act is Act.BURY else replace(row, **_FIELDS[change.act](row, change, verifier, at))


_FIELDS: dict[Act, Callable[[AccountRow, Change, NativeHash | None, datetime], dict[str, Any]]] = {
    Act.CONFIRM: lambda _row, _change, _verifier, _at: {"state": AccountState.LIVE},
    Act.IDENTIFY: lambda row, change, _verifier, _at: _identity(row, change),
    Act.MISSED: lambda _row, _change, _verifier, at: {"missing_since": at},
    Act.BACK: lambda _row, _change, _verifier, _at: {"missing_since": None},
    Act.ROTATE: lambda _row, change, verifier, at: {
        "other": verifier,
        "generation": change.generation,
        "state": AccountState.ROTATING,
        "password_at": at,
        "until": change.until,
    },
    Act.SETTLE: lambda _row, _change, _verifier, _at: {"other": None, "until": None, "state": AccountState.LIVE},
    Act.SUSPEND: lambda row, change, _verifier, at: {
        # a person's word begins the waiting time, however long the directory had the account disabled before
        "suspended_at": at if _first_word(row, change) else row.suspended_at or at,
        "cause": change.cause,
    },
    # one that was being dropped begins again with what its file says
    Act.RESUME: lambda row, _change, _verifier, _at: {
        "suspended_at": None,
        "cause": None,
        "missing_since": None,
        "state": AccountState.LIVE if row.state is AccountState.DROPPING else row.state,
    },
    Act.END: lambda _row, _change, _verifier, _at: {"state": AccountState.DROPPING, "other": None, "until": None},
}
"""What an act changes in a row. KeyError for an act that is none on the ledger."""


def _with_password(row: AccountRow, change: Change, verifier: NativeHash | None, at: datetime) -> AccountRow:
    assert verifier is not None
    return replace(
        row,
        **_identity(row, change),
        verifier=verifier,
        generation=change.generation,
        state=AccountState.ISSUING if change.act is Act.ISSUE else AccountState.LIVE,
        other=None,
        until=None,
        password_at=at,
    )


def _new(change: Change, verifier: NativeHash | None, at: datetime) -> AccountRow:
    if verifier is None or change.act not in (Act.ISSUE, Act.ADOPT, Act.KNOW):
        raise ValueError(f"{shown(change.key)}: there is no such account")
    return AccountRow(
        user=change.user,
        kind=change.user.kind,
        name=change.name,
        uid=change.uid,
        entry_uuid=change.uuid,
        verifier=verifier,
        generation=change.generation,
        state=AccountState.ISSUING if change.act is Act.ISSUE else AccountState.LIVE,
        password_at=at,
        missing_since=at if change.act is Act.KNOW else None,
    )


def _first_word(row: AccountRow, change: Change) -> bool:
    """Whether a person asks for what nobody asked for before."""
    return change.cause in BY_HAND and row.cause not in BY_HAND


def _identity(row: AccountRow, change: Change) -> dict[str, Any]:
    name = change.name or row.name
    # an entry without a UUID by another name: a person said that it is the owner, and the former entry is not
    known = row.entry_uuid if name == row.name else ""
    return {"name": name, "uid": change.uid or row.uid, "entry_uuid": change.uuid or known}


def unnamed(user: DbUser) -> str:
    """How the ledger calls the owner of an account that nobody owns."""
    return f"?{user}"
