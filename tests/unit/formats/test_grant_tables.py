"""The grant tables' rows as values: equal states are equal."""

from __future__ import annotations

import json

import pytest

from labstore.formats import grant_tables
from labstore.formats.account_statements import PUBLIC_VIEWS, own_databases
from labstore.formats.grant_tables import UnreadableGrant, db_grant
from labstore.model.accounts import DbUser, Limits, NativeHash
from labstore.model.database import FoundAccount, Verifier

A, B = "*" + "A" * 40, "*" + "B" * 40
PLAIN = {"access": 0, "version_id": 101119, "plugin": "mysql_native_password", "authentication_string": A}
"""As captured from MariaDB 10.11.19."""


def found(**more: object) -> FoundAccount:
    return grant_tables.account(json.dumps(PLAIN | more))


def native(*hashes: str) -> frozenset[Verifier]:
    return frozenset(Verifier.native(NativeHash(text)) for text in hashes)


def test_a_plain_account() -> None:
    assert found(max_user_connections=10, default_role="labsdbuser", password_last_changed=1) == FoundAccount(
        native(A), Limits(10), default_role="labsdbuser"
    )


def test_the_case_of_a_hash_is_the_one_that_was_given() -> None:
    assert found(authentication_string=A.lower()) == found()


def test_two_passwords_are_two_verifiers_whichever_stands_on_top() -> None:
    other = {"plugin": "mysql_native_password", "authentication_string": B}
    assert found(auth_or=[{}, other]).verifiers == native(A, B)
    assert found(auth_or=[other, {}]).verifiers == native(A, B)


def test_what_a_former_second_password_leaves_behind_says_nothing() -> None:
    assert found(auth_or=[{}]) == found()


def test_limits_of_every_kind() -> None:
    assert found(max_user_connections=5, max_statement_time=12.5, max_questions=100).limits == Limits(5, 13, 100)
    assert found(max_user_connections=0, max_statement_time=0.0, max_questions=0).limits == Limits()


def test_a_part_of_a_second_is_not_no_limit() -> None:
    assert found(max_statement_time=0.001).limits.statement_seconds == 1


@pytest.mark.parametrize("number", [-1, 1 << 32, 1 << 63])
def test_a_number_that_we_would_never_set_is_found_as_it_is(number: int) -> None:
    """As captured from MariaDB 10.11.19: `MAX_USER_CONNECTIONS -1` is stored as -1."""
    assert found(max_user_connections=number).limits == Limits(number)
    assert found(max_statement_time=number - 0.5 if number < 0 else float(number)).limits != Limits()


def test_locked_and_not() -> None:
    assert found(account_locked=True).locked
    assert not found(account_locked=False).locked


@pytest.mark.parametrize("more", [{"access": 1}, {"access": 18446744073709551615}, {"is_role": True}, {"access": None}])
def test_what_is_never_touched(more: dict[str, object]) -> None:
    """upstream #45: a role or an administrator may be named like one of ours."""
    assert not found(**more).touchable


@pytest.mark.parametrize(
    "priv", ["", "x", "[]", "1", '{"max_questions": "many"}', '{"max_questions": 1e999}', '{"max_questions": true}']
)
def test_rows_that_mariadb_does_not_write(priv: str) -> None:
    with pytest.raises(UnreadableGrant):
        grant_tables.account(priv)


def test_grants_as_the_table_has_them() -> None:
    """The flags as captured for the legacy type's two grants."""
    assert db_grant(r"%\_p", "YNNNNNNNNNNNNYNNNNNN") == PUBLIC_VIEWS
    assert db_grant(r"s1\_\_%", "YYYYYYNYYYYYYYYYYYYY") == own_databases(DbUser("s1"))


def test_a_table_with_other_columns_is_not_guessed_at() -> None:
    with pytest.raises(UnreadableGrant, match="20 are known"):
        db_grant("x", "Y" * 21)
