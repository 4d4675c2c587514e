"""The v1 interface of the credential file service: its JSON, as the original's callers send and read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstore.model.accounts import AccountKind, DbUser, UidRange, account_name
from labstore.model.names import Name, shown
from labstore.model.secret import NO_SECRET, Secret

BODY_LIMIT = 4 << 20
"""Bytes of a request: ten thousand accounts asked about at once have some 600,000."""
DRY_RUN_USER = "dry.run.username"
DRY_RUN_PASSWORD = Secret("dry.run.password")


class BadRequest(ValueError):
    """What was sent is not a request. `status` is the HTTP status that the original gave for it."""

    def __init__(self, reason: str, status: int = 500) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class FileRequest:
    """Which account's file is meant; never a path."""

    kind: AccountKind
    name: Name
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class WriteRequest(FileRequest):
    """`uid` is the owner the file shall have."""

    uid: int = 0
    user: DbUser | None = None
    password: Secret = NO_SECRET


def decode(body: bytes) -> Mapping[str, Any]:
    """The JSON object in a request's body. Raises BadRequest."""
    if len(body) > BODY_LIMIT:
        raise BadRequest(f"more than {BODY_LIMIT} bytes", 413)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("not JSON", 400) from None
    if not isinstance(value, dict):
        raise BadRequest("not a JSON object", 400)
    return value


def file_request(value: Mapping[str, Any]) -> FileRequest:
    """Which account a read or delete is about. Raises BadRequest."""
    kind, name = _whose(value)
    return FileRequest(kind, name, _flag(value))


def write_request(value: Mapping[str, Any], uids: UidRange) -> WriteRequest:
    """Raises BadRequest."""
    return _owned(value, uids, Secret(_text(value, "password")))


def owner_request(value: Mapping[str, Any], uids: UidRange) -> WriteRequest:
    """The same without a password, where labstore's own client asks about a file. Raises BadRequest."""
    return _owned(value, uids, NO_SECRET)


def named_owner(value: Mapping[str, Any]) -> bool:
    """Whether a read or delete says whose file it is; the original's callers do not."""
    return "uid" in value and "mysql_username" in value


def _owned(value: Mapping[str, Any], uids: UidRange, password: Secret) -> WriteRequest:
    """A PAWS file's owner is one fixed uid, the number of its account is the PAWS id; everybody else's account bears
    the owner's uid."""
    kind, name = _whose(value)
    user = _attempt(lambda: DbUser(_text(value, "mysql_username")))
    uid = _attempt(lambda: uids.check(_number(value, "uid")))
    number = int(name) if kind is AccountKind.PAWS else uid
    if user != DbUser.of(kind, number):
        raise BadRequest(f"{user} is not the database account of {kind.value} {shown(name)}", 400)
    return WriteRequest(kind, name, _flag(value), uid, user, password)


def ok(**detail: Any) -> dict[str, Any]:
    return {"result": "ok", "detail": detail}


def skip(reason: str, **detail: Any) -> dict[str, Any]:
    return {"result": "skip", "detail": {"reason": reason, **detail}}


def error(reason: str) -> dict[str, Any]:
    return {"result": "error", "detail": {"reason": reason}}


def bad_type(word: object) -> BadRequest:
    known = [kind.value for kind in AccountKind]
    return BadRequest(f"Bad user type {shown(word)}, supported ones: {known}", 400)


def _whose(value: Mapping[str, Any]) -> tuple[AccountKind, Name]:
    word = str(value.get("account_type"))
    try:
        kind = AccountKind(word)
    except ValueError:
        raise bad_type(word) from None
    return kind, _attempt(lambda: account_name(kind, _text(value, "account_id")))


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if isinstance(found, int) and not isinstance(found, bool) and key == "account_id":
        return str(found)
    if not isinstance(found, str):
        raise BadRequest(f"{key} is not text", 400)
    return found


def _number(value: Mapping[str, Any], key: str) -> int:
    """The original took a number or its digits."""
    found = value.get(key)
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 12:
        return int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise BadRequest(f"Bad {key} format, expected a number, got {shown(found)}", 400)
    return found


def _flag(value: Mapping[str, Any]) -> bool:
    found = value.get("dry_run", False)
    if not isinstance(found, bool):
        raise BadRequest("dry_run is neither true nor false", 400)
    return found


def _attempt(make: Any) -> Any:
    try:
        return make()
    except BadRequest:
        raise
    except ValueError as problem:
        raise BadRequest(str(problem), 400) from None
