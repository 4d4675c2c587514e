"""The file of people and tools."""

from __future__ import annotations

import pytest

from labstore.formats.people_file import parse
from labstore.model.accounts import AccountKind, DbUser, UidRange
from labstore.reports.in_file import BadFile


def read(text: str) -> dict[AccountKind, dict[DbUser, str]]:
    found = parse(text.encode(), "people.yaml", "tools", UidRange())
    return {kind: {user: str(entry.name) for user, entry in listing.entries.items()} for kind, listing in found.items()}


def test_tools_and_users() -> None:
    assert read("tools: {wikibugs: 52788, admin: {uid: 52001, locked: true}}\nusers: {alice: 2170}\n") == {
        AccountKind.TOOL: {"s52788": "tools.wikibugs", "s52001": "tools.admin"},
        AccountKind.USER: {"u2170": "alice"},
    }


def test_locked() -> None:
    found = parse(b"tools: {a: {uid: 600, locked: true}}\nusers: {}", "f", "tools", UidRange())
    assert found[AccountKind.TOOL].entries[DbUser("s600")].locked is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tools: {a: 600}\n", "no map `users:`"),
        ("tools: {}\nuser: {}\n", "unknown key 'user'"),
        ("tools: {a: 600, b: 600}\nusers: {}\n", "uid 600 is also tools.a's"),
        ("tools: {a: 0}\nusers: {}\n", "uid 0"),
        ("tools: {A: 600}\nusers: {}\n", "is not a tool name"),
        ("tools: {a: {locked: true}}\nusers: {}\n", "uid"),
        ("tools: {a: {uid: 600, locked: maybe}}\nusers: {}\n", "neither true nor false"),
        ("tools: {a: soon}\nusers: {}\n", "has no uid"),
        ("tools: []\nusers: {}\n", "no map `tools:`"),
        ("", "empty"),
    ],
)
def test_a_file_with_a_problem_is_not_taken_at_all(text: str, words: str) -> None:
    with pytest.raises(BadFile) as bad:
        read(text)
    assert any(words in report.message() for report in bad.value.reports), [r.message() for r in bad.value.reports]
