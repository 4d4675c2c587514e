"""Entries of a hostile or careless directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.ldap_entries import Attributes, Taken, generalized_time, merged, taken
from labstore.model.accounts import AccountKind, DbUser, UidRange


def entry(name: str, uid: object, **more: list[bytes]) -> tuple[str, Attributes]:
    numbers = [str(uid).encode()] if uid is not None else []
    return f"uid={name},ou=people", {
        "cn": [name.encode()],
        "uidNumber": numbers,
        "entryUUID": [b"u-" + name.encode()],
        **more,
    }


def read(*entries: tuple[str, Attributes]) -> Taken:
    return taken(AccountKind.TOOL, entries, UidRange(), lambda dn: "disabled" in dn)


def test_a_tool() -> None:
    found = read(entry("tools.a", 52788, createTimestamp=[b"20260529115400Z"]))
    made = found.entries[DbUser("s52788")]
    assert (made.name, made.uid, made.uuid, made.locked) == ("tools.a", 52788, "u-tools.a", False)
    assert made.created is not None and made.created.year == 2026


@pytest.mark.parametrize(
    "more",
    [{"pwdAccountLockedTime": [b"000001010000Z"]}, {"pwdPolicySubentry": [b"cn=disabled,ou=ppolicies,dc=x"]}],
)
def test_the_directorys_word_that_an_entry_is_disabled(more: dict[str, list[bytes]]) -> None:
    assert read(entry("tools.a", 52788, **more)).entries[DbUser("s52788")].locked


def test_an_ordinary_policy_disables_nobody() -> None:
    more = {"pwdPolicySubentry": [b"cn=strict,ou=ppolicies,dc=x"]}
    assert not read(entry("tools.a", 52788, **more)).entries[DbUser("s52788")].locked


@pytest.mark.parametrize("uid", [0, -1, 4294967295, 65534, 1, "", "x", "\u0661", "00600", "5e3", None])
def test_numbers_that_are_no_owners(uid: object) -> None:
    found = read(entry("tools.a", uid), entry("tools.b", 52788))
    assert list(found.entries) == ["s52788"]
    assert len(found.rejected) == 1


@pytest.mark.parametrize(
    "name", ["tools.\u0430", "tools.a'; DROP USER root", "tools.a)(cn=*", "tools.", "tools.a\0", "x" * 200, "tools.A"]
)
def test_names_that_are_none(name: str) -> None:
    """upstream #42; a name meets SQL, a path and a filter."""
    found = read(entry(name, 52788))
    assert not found.entries and len(found.rejected) == 1
    assert found.rejected[0].shown.isascii()
    assert "s52788" in found.rejected[0].claims, "who has the account already keeps it"


def test_two_entries_with_one_number_get_no_account() -> None:
    """One of them got the other's in the original."""
    found = read(entry("tools.a", 600), entry("tools.b", 600), entry("tools.c", 601))
    assert list(found.entries) == ["s601"]
    assert {"s600", "tools.a", "tools.b"} <= {claim for each in found.rejected for claim in each.claims}


def test_two_entries_with_one_name_get_no_account() -> None:
    found = read(entry("tools.a", 600), entry("tools.a", 601))
    assert not found.entries
    assert {"s600", "s601"} <= {claim for each in found.rejected for claim in each.claims}


def test_attributes_with_more_values_than_one() -> None:
    dn, attributes = entry("tools.a", 600)
    found = read(
        (dn, {**attributes, "uidNumber": [b"600", b"601"]}), (dn, {**attributes, "cn": [b"tools.a", b"tools.b"]})
    )
    assert not found.entries and {"s600", "s601"} <= {claim for each in found.rejected for claim in each.claims}


def test_bytes_that_are_no_text() -> None:
    dn, attributes = entry("tools.a", 600)
    assert not read((dn, {**attributes, "cn": [b"tools.\xff"]})).entries


@given(
    st.dictionaries(
        st.sampled_from(["cn", "uidNumber", "entryUUID", "createTimestamp"]),
        st.lists(st.binary(max_size=12), max_size=3),
    )
)
def test_any_entry_is_taken_or_rejected(attributes: dict[str, list[bytes]]) -> None:
    found = read(("dn", attributes))
    assert len(found.entries) + len(found.rejected) == 1


# --- two servers -----------------------------------------------------------------------------------------------------


def test_who_is_on_one_server_is_there() -> None:
    both = merged([read(entry("tools.a", 600)), read(entry("tools.b", 601))])
    assert set(both.entries) == {"s600", "s601"}


def test_who_is_disabled_on_one_server_alone_is_neither() -> None:
    locked = entry("tools.a", 600, pwdAccountLockedTime=[b"000001010000Z"])
    assert merged([read(locked), read(entry("tools.a", 600))]).entries[DbUser("s600")].locked is None
    assert merged([read(locked), read(locked)]).entries[DbUser("s600")].locked is True


def test_what_one_server_rejects_is_rejected() -> None:
    twice = read(entry("tools.a", 600), entry("tools.b", 600))
    assert not merged([read(entry("tools.a", 600)), twice]).entries


@pytest.mark.parametrize(
    ("text", "good"), [("20260529115400Z", True), ("20260529115400.5Z", True), ("", False), ("soon", False)]
)
def test_times(text: str, good: bool) -> None:
    assert (generalized_time(text) is not None) is good
