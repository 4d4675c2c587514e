"""Who an account belongs to: nobody inherits it, and with it databases, by getting its number."""

from __future__ import annotations

import pytest

from labstore.dbusers.turns import Act, Change, turned
from labstore.model.accounts import DbUser
from labstore.reports.dbusers import IdentityChanged
from tests.unit.dbusers.worlds import NOW, acts, entry, facts, plan, row

RENAMED = "tools.stranger"


@pytest.mark.parametrize(
    ("known", "shown"), [("u-s1001", ""), ("", "u-s1001"), ("", ""), ("u-s1001", "u-other")], ids=str
)
def test_another_name_without_the_same_entry_is_refused(known: str, shown: str) -> None:
    """A directory need not show entryUUID: a rule of access, a file of people, a server that has none."""
    made = plan(facts([entry("s1001", name=RENAMED, uuid=shown)], [row("s1001", entry_uuid=known)]))
    assert acts(made) == []
    assert [type(refusal.report) for refusal in made.refusals] == [IdentityChanged]


@pytest.mark.parametrize("missing_since", [None, NOW], ids=["seen all the time", "missing before"])
def test_the_same_entry_by_another_name_is_a_renaming(missing_since: object) -> None:
    made = plan(facts([entry("s1001", name=RENAMED)], [row("s1001", missing_since=missing_since)]))
    assert "s1001 note who it belongs to" in acts(made) and made.refusals == ()


@pytest.mark.parametrize(("known", "shown"), [("u-s1001", ""), ("", "u-s1001"), ("", "")], ids=str)
def test_the_same_name_is_the_same_owner_where_entries_cannot_be_compared(known: str, shown: str) -> None:
    made = plan(facts([entry("s1001", uuid=shown)], [row("s1001", entry_uuid=known)]))
    assert made.refusals == ()


def test_an_entry_that_a_person_took_for_another_one_is_not_on_record_any_more() -> None:
    """Else the former owner's entry would get the account back under any name."""
    before = row("s1001")
    change = Change(Act.IDENTIFY, DbUser("s1001"), 1, name=RENAMED, uid=1001)
    after = turned(before, change, None, NOW)
    assert after is not None and (after.name, after.entry_uuid) == (RENAMED, "")
