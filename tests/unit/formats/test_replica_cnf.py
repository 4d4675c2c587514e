"""The v1 requests: what is taken, and with which status the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.replica_cnf import (
    BODY_LIMIT,
    BadRequest,
    decode,
    error,
    file_request,
    ok,
    skip,
    write_request,
)
from labstore.model.accounts import AccountKind, UidRange

WRITE: dict[str, Any] = {
    "account_id": "tools.wikibugs", "account_type": "tool", "uid": 52788, "mysql_username": "s52788",
    "password": "abcdefghijklmnop", "dry_run": False,
}  # fmt: skip


def test_a_write() -> None:
    made = write_request(WRITE, UidRange())
    assert (made.kind, made.name, made.uid, made.user) == (AccountKind.TOOL, "tools.wikibugs", 52788, "s52788")
    assert "abcdefghijklmnop" not in repr(made)


def test_the_originals_callers_may_send_digits() -> None:
    assert write_request(WRITE | {"uid": "52788"}, UidRange()).uid == 52788


def test_a_paws_file_belongs_to_another_uid_than_its_number() -> None:
    paws = {"account_id": 31, "account_type": "paws", "uid": 52771, "mysql_username": "p31"}
    assert write_request(WRITE | paws, UidRange()).user == "p31"


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"account_id": "tools.../../etc"},
            {"account_id": "tools.wikibugs/.."},
            {"account_id": "wikibugs"},
            {"account_id": None},
        ),
        *({"uid": 0}, {"uid": "x"}, {"uid": True}, {"uid": 4294967295}, {"uid": -1}, {"uid": 52789}),
        *(
            {"mysql_username": "s52789"},
            {"mysql_username": "root"},
            {"mysql_username": "u52788"},
            {"mysql_username": 1},
        ),
        *({"account_type": "admin"}, {"account_type": None}, {"dry_run": "no"}, {"password": None}),
    ],
)
def test_what_is_refused(wrong: dict[str, object]) -> None:
    """upstream #57: the account's name was joined to a path unchecked; anybody's uid was taken."""
    with pytest.raises(BadRequest) as refused:
        write_request(WRITE | wrong, UidRange())
    assert refused.value.status == 400


def test_a_bad_type_is_told_as_the_original_told_it() -> None:
    with pytest.raises(BadRequest, match="Bad user type 'admin', supported ones: \\['tool', 'user', 'paws'\\]") as bad:
        file_request({"account_id": "tools.a", "account_type": "admin", "dry_run": False})
    assert bad.value.status == 400


def test_answers() -> None:
    assert ok(user="s1") == {"result": "ok", "detail": {"user": "s1"}}
    assert skip("no home") == {"result": "skip", "detail": {"reason": "no home"}}
    assert error("x") == {"result": "error", "detail": {"reason": "x"}}


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"[" * 100_000, b" " * (BODY_LIMIT + 1)])
def test_bodies_that_are_no_object(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10), lambda inner: st.lists(inner, max_size=2)
)


@given(st.dictionaries(st.sampled_from([*WRITE, "more"]), JSON))
def test_any_object_is_taken_or_refused(value: dict[str, Any]) -> None:
    body = json.dumps(WRITE | value).encode()
    try:
        made = write_request(decode(body), UidRange())
    except BadRequest:
        return
    assert made.user is not None and str(made.uid) in made.user
