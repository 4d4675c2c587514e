"""The statements themselves: escaped patterns, and nothing that could be said to a server by a name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats import account_statements as statements
from labstore.model.accounts import DbUser, Limits, NativeHash
from labstore.model.database import RoleName, WantedAccount

A, B = NativeHash("*" + "A" * 40), NativeHash("*" + "b" * 40)
S1, S12 = DbUser("s1"), DbUser("s12")
USERS = st.tuples(st.sampled_from("sup"), st.integers(1, 9999999999)).map(lambda pair: DbUser(f"{pair[0]}{pair[1]}"))


def wanted(user: DbUser, *verifiers: NativeHash, limits: Limits = Limits(10), locked: bool = False) -> WantedAccount:  # noqa: B008
    return WantedAccount(user, verifiers or (A,), limits, locked)


def test_accounts_are_made_in_one_statement() -> None:
    assert statements.create([wanted(S1), wanted(S12, A, B)]) == (
        "CREATE USER 's1'@'%' IDENTIFIED VIA mysql_native_password USING '*" + "A" * 40 + "',"
        "'s12'@'%' IDENTIFIED VIA mysql_native_password USING '*" + "A" * 40 + "' OR mysql_native_password USING '*"
        + "B" * 40 + "' WITH MAX_USER_CONNECTIONS 10 MAX_STATEMENT_TIME 0 MAX_QUERIES_PER_HOUR 0"
    )  # fmt: skip


def test_one_statement_has_one_set_of_limits() -> None:
    with pytest.raises(ValueError, match="one set"):
        statements.create([wanted(S1), wanted(S12, limits=Limits(11))])
    with pytest.raises(ValueError, match="one set"):
        statements.alter([wanted(S1), wanted(S12, locked=True)])
    with pytest.raises(ValueError, match="one set"):
        statements.alter([])


def test_a_change_says_whether_the_account_is_locked() -> None:
    assert statements.alter([wanted(S1)]).endswith("ACCOUNT UNLOCK")
    assert statements.alter([wanted(S1, locked=True)]).endswith("ACCOUNT LOCK")


def test_golden_grants() -> None:
    role = RoleName("labsdbuser")
    assert statements.grant_role(role, [S1, S12]) == "GRANT `labsdbuser` TO 's1'@'%','s12'@'%'"
    expected = "SET DEFAULT ROLE `labsdbuser` FOR 's1'@'%', DEFAULT ROLE `labsdbuser` FOR 's12'@'%'"
    assert statements.default_roles(role, [S1, S12]) == expected
    assert statements.grant_public_views([S1]) == r"GRANT SELECT, SHOW VIEW ON `%\_p`.* TO 's1'@'%'"
    assert statements.grant_own_databases(S1) == r"GRANT ALL PRIVILEGES ON `s1\_\_%`.* TO 's1'@'%'"
    assert statements.drop([S1, S12]) == "DROP USER 's1'@'%','s12'@'%'"
    assert statements.lock([S1]) == "ALTER USER 's1'@'%' ACCOUNT LOCK"
    assert statements.kill_sessions(S1) == "KILL USER 's1'"
    assert statements.kill_statement(77) == "KILL QUERY ID 77"


def covers(pattern: str, database: str) -> bool:
    """A grant's pattern as the server matches it: `_` any character, `%` any text, after a backslash themselves."""
    expression, at = "", 0
    while at < len(pattern):
        if pattern[at] == "\\":
            expression, at = expression + re.escape(pattern[at + 1]), at + 2
        else:
            expression, at = expression + {"_": ".", "%": ".*"}.get(pattern[at], re.escape(pattern[at])), at + 1
    return re.fullmatch(expression, database) is not None


@given(USERS, USERS)
def test_nobody_gets_anothers_databases(mine: DbUser, other: DbUser) -> None:
    """upstream #54: an unescaped underscore let s1 into s12's databases."""
    pattern = statements.own_databases(mine).pattern
    assert covers(pattern, f"{mine}__data")
    assert covers(pattern, f"{other}__data") == (mine == other)
    for near in (
        f"{mine}2__x",
        f"{mine}_x",
        f"{mine}x_x",
        f"x{mine}__x",
        f"{mine}",
        f"{mine}_2_x",
        "mysql",
        "enwiki_p",
    ):
        assert not covers(pattern, near), near


@pytest.mark.parametrize(
    ("database", "public"),
    [("enwiki_p", True), ("meta_p", True), ("enwikixp", False), ("enwiki", False), ("enwiki_px", False), ("p", False)],
)
def test_only_public_views_are_public(database: str, public: bool) -> None:
    assert covers(statements.PUBLIC_VIEWS.pattern, database) is public


@given(st.lists(USERS, min_size=1, max_size=5, unique=True), st.lists(st.sampled_from([A, B]), min_size=1, max_size=2))
def test_no_statement_has_more_quotes_than_its_parts(users: list[DbUser], verifiers: list[NativeHash]) -> None:
    text = statements.create([wanted(user, *verifiers) for user in users])
    assert text.count("'") == len(users) * (4 + 2 * len(verifiers))
    assert ";" not in text and "--" not in text and "\\" not in text
