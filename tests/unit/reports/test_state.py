"""What is to be done about a state file depends on what is wrong with it."""

from __future__ import annotations

import pytest

from labstore.reports.state import StateUnusable

FILE = "/var/lib/labstore/exports/primary/history.sqlite"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("file is not a database", f"mv {FILE}* /var/lib/labstore/exports/primary/broken/"),
        ("database disk image is malformed", "the history and since when each client is admitted are lost"),
        ("database or disk is full", "df /var/lib/labstore/exports/primary"),
        ("disk I/O error", "make room"),
        ("database is locked", f"fuser {FILE}"),
        ("attempt to write a readonly database", "owner and rights"),
    ],
)
def test_the_remedy_fits(reason: str, words: str) -> None:
    said = StateUnusable(FILE, reason)
    assert words in said.remedy()
    assert said.message().startswith(f"{FILE} cannot be read or written: {reason}")
