"""What could not be found out, as it is said."""

from __future__ import annotations

from labstore.dbusers.facts import DbFacts
from labstore.reconcile.facts import Missing
from labstore.reports.sources import SourceFailed
from tests.unit.dbusers.worlds import NOW, ONE, facts, row


def unseen(count: int, reason: str = "Input/output error") -> DbFacts:
    users = [f"s{1001 + number}" for number in range(count)]
    files = {user: Missing(SourceFailed("homes", f"the file of {user}", reason), "homes", NOW) for user in users}
    return facts(rows=[row(user) for user in users], files=files)


def said(given: DbFacts) -> list[str]:
    return [each.report.message() for each in given.missing]


def test_a_few_files_are_named_each() -> None:
    assert said(unseen(2)) == [
        "homes did not give the file of s1001: Input/output error",
        "homes did not give the file of s1002: Input/output error",
    ]


def test_many_files_that_fail_alike_are_one_thing_to_say() -> None:
    """A file system that is away, or a process that may not look, must not fill a record with ten thousand lines."""
    (message,) = said(unseen(1000))
    assert message.startswith("homes did not give the file of s1001, the file of s1002, ")
    assert message.endswith("the file of s1005 and 995 more: Input/output error")


def test_another_reason_and_a_server_are_said_beside() -> None:
    away = Missing(SourceFailed("db1", "its accounts", "silence"), "db1", NOW)
    given = facts(
        rows=[row("s1001"), row("s1002")],
        found={ONE: away},
        files={
            "s1001": Missing(SourceFailed("homes", "the file of s1001", "Input/output error"), "homes", NOW),
            "s1002": Missing(SourceFailed("homes", "the file of s1002", "Too many open files"), "homes", NOW),
        },
    )
    assert len(said(given)) == 3
