"""Replica servers by name and port."""

from __future__ import annotations

import pytest

from labstore.model.accounts import DbUser, Limits, NativeHash
from labstore.model.database import HostKey, RoleName, WantedAccount


def test_both_forms_of_a_server_are_one_server() -> None:
    """upstream #53"""
    assert HostKey.parse("db1.example") == HostKey.parse("db1.example:3306") == HostKey.parse("DB1.example")
    assert str(HostKey.parse("db1.example:3306")) == "db1.example"
    assert str(HostKey.parse("db1.example:3311")) == "db1.example:3311"


@pytest.mark.parametrize(
    "text", ["", ":3306", "db1:", "db1:0", "db1:65536", "db1:x", "db1:33\u0661", "d b", "db1/x", "a:1:2"]
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError):
        HostKey.parse(text)


@pytest.mark.parametrize("text", ["", "Role", "a-b", "a`b", "1a", "a b"])
def test_what_is_no_role(text: str) -> None:
    with pytest.raises(ValueError, match="role name"):
        RoleName(text)


def test_never_more_than_two_verifiers() -> None:
    verifier = NativeHash("*" + "A" * 40)
    with pytest.raises(ValueError, match="two in a rotation"):
        WantedAccount(DbUser("s1"), (verifier,) * 3, Limits())
    with pytest.raises(ValueError, match="one verifier"):
        WantedAccount(DbUser("s1"), (), Limits())
