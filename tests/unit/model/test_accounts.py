"""Names, numbers and hashes of database accounts: strict, ASCII, and never root's."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.model.accounts import (
    UID_NOBODY,
    AccountKind,
    DbUser,
    Limits,
    NativeHash,
    PartialLimits,
    PawsId,
    PersonName,
    ToolName,
    UidRange,
    home_name,
)
from labstore.model.secret import MASK, Secret

LOOKALIKES = ["s\u0661\u0662", "\u0455123", "s\uff11\uff12", "s1\u200b", "\u017f123", "s\u00b9"]
"""Arabic-Indic digits, Cyrillic dze, full-width digits, a zero-width space, a long s, a superscript one."""


@pytest.mark.parametrize("text", ["s52788", "u1", "p31", "s4294967293", "u9999999999"])
def test_accounts_of_ours(text: str) -> None:
    assert DbUser(text) == text
    assert DbUser.of(DbUser(text).kind, DbUser(text).number) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "s0",
        "s01",
        "S1",
        "x1",
        "root",
        "s1\n",
        " s1",
        "s1'",
        "s1`",
        "s-1",
        "s1_",
        "s12345678901",
        "s1%",
        *LOOKALIKES,
    ],
)
def test_nothing_else_is_an_account_of_ours(text: str) -> None:
    with pytest.raises(ValueError, match="database account"):
        DbUser(text)


@given(st.text(max_size=20))
def test_whatever_is_taken_for_an_account_is_ascii_and_harmless_in_sql(text: str) -> None:
    try:
        user = DbUser(text)
    except ValueError:
        return
    assert user.isascii() and user.isalnum() and user[0] in "sup"


@pytest.mark.parametrize(
    ("kind", "number"), [(AccountKind.TOOL, 0), (AccountKind.USER, -1), (AccountKind.PAWS, 10**10)]
)
def test_numbers_that_make_no_account(kind: AccountKind, number: int) -> None:
    with pytest.raises(ValueError, match="database account"):
        DbUser.of(kind, number)


@pytest.mark.parametrize("text", ["tools.wikibugs", "tools.a", "toolsbeta.x-1", f"tools.{'a' * 32}"])
def test_tool_names(text: str) -> None:
    assert home_name(AccountKind.TOOL, ToolName(text)) == text.partition(".")[2]


@pytest.mark.parametrize(
    "text",
    [
        *("wikibugs", "tools.", "tools..", "tools../etc", "tools.a/b", "tools.A", "tools.a.b", "tools.1a", "tools.a\n"),
        *("tools.\u0430dmin", "tools.admin\u0301", "tools.*", "tools.a)(uid=*", f"tools.{'a' * 33}"),
    ],
)
def test_no_tool_names(text: str) -> None:
    with pytest.raises(ValueError, match="tool name"):
        ToolName(text)


@pytest.mark.parametrize("text", ["alice", "Alice.B", "a_b-c.d", "0day", "x" * 63])
def test_shell_names(text: str) -> None:
    assert PersonName(text) == text


@pytest.mark.parametrize("text", [".", "..", ".ssh", "-rf", "a/b", "al ice", "ali\u0441e", "", "x" * 64, "a\0b"])
def test_no_shell_names(text: str) -> None:
    with pytest.raises(ValueError, match="shell name"):
        PersonName(text)


@pytest.mark.parametrize("text", ["0", "01", "a", "", "12345678901", "1/2"])
def test_no_paws_ids(text: str) -> None:
    with pytest.raises(ValueError, match="PAWS id"):
        PawsId(text)


@pytest.mark.parametrize(
    "number", [0, 1, 499, 65534, 65535, UID_NOBODY - 1, UID_NOBODY, 1 << 32, -1, True, "1000", 1.5]
)
def test_numbers_that_own_no_account(number: object) -> None:
    with pytest.raises(ValueError, match="uid"):
        UidRange().check(number)  # type: ignore[arg-type]


def test_a_range_cannot_admit_what_is_nobodys() -> None:
    wide = UidRange(0, 1 << 40)
    for number in (0, 65534, UID_NOBODY, UID_NOBODY + 5):
        with pytest.raises(ValueError, match="uid"):
            wide.check(number)
    assert UidRange(500, 600).check(550) == 550


# --- hashes and secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("password", "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"),
        ("x", "*B69027D44F6E5EDC07F1AEAD1477967B16F28227"),
        ("", "*BE1BDEC0AA74B4DCB079943E70528096CCA985F8"),
    ],
)
def test_hashes_are_the_servers(password: str, expected: str) -> None:
    """The values are what a server's PASSWORD() gives."""
    assert NativeHash.of(Secret(password)) == expected


def test_the_originals_lower_case_hash_is_the_same_hash() -> None:
    upper = NativeHash.of(Secret("x"))
    assert NativeHash(upper.lower()) == upper
    assert upper.stored == upper.lower()
    assert len(upper.stored) == 41


@pytest.mark.parametrize(
    "text", ["", "*", "*" + "g" * 40, "A" * 41, "*" + "A" * 41, "*" + "A" * 40 + "\n", "*" + "\uff21" * 40]
)
def test_no_hashes(text: str) -> None:
    with pytest.raises(ValueError, match="verifier"):
        NativeHash(text)


def test_a_secret_shows_a_mask_everywhere() -> None:
    secret = Secret("hunter2")
    assert f"{secret} {secret!r} {secret:>20} {[secret]} {(secret,)}".count("hunter2") == 0
    assert str(secret) == MASK
    with pytest.raises(TypeError):
        pickle.dumps(secret)


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1.5, "10"])
def test_limits_are_whole_numbers(value: object) -> None:
    with pytest.raises(ValueError, match="max_connections"):
        Limits(max_connections=value)  # type: ignore[arg-type]


def test_a_rule_says_only_what_it_says() -> None:
    base = Limits(10, 60, 0)
    assert PartialLimits(max_connections=48).over(base) == Limits(48, 60, 0)
    assert PartialLimits(statement_seconds=0).over(base) == Limits(10, 0, 0)
    assert PartialLimits().over(base) is base
    assert PartialLimits().nothing
