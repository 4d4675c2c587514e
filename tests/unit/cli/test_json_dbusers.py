"""docs/reference/json-dbusers.md names every field that is printed, and every field it names can be printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labstore.model.accounts import AccountKind
from tests.support.accounts_world import AccountsWorld

PAGES = Path(__file__).parents[3] / "docs/reference"
REFERENCE = (PAGES / "json-dbusers.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+)`", REFERENCE))
REPORTS = set(re.findall(r"`([a-z_]+)`", (PAGES / "json.md").read_text()))
FREE = {"data", "untouched", "removes", "acts", "states", "options", "detail", "created", "facts"}
"""Maps whose keys are not ours, or figures."""


def fields(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if not (key == "accounts" or name in FREE):
                yield from fields(part, name)
            if key != "accounts":
                yield name
    elif isinstance(value, list):
        for part in value:
            yield from fields(part)


COMMANDS = [
    ["show"],
    ["show", "--list"],
    ["show", "wikibugs"],
    ["why", "wikibugs"],
    ["show", "admin"],
    ["plan"],
    ["limit"],
    ["limit", "alice", "--connections", "5"],
    ["limit", "--end", "1"],
    ["remove", "alice", "--yes"],
    ["rotate", "alice", "--yes"],
    ["host-setup", "db1.example.org", "--source", "10.0.0.5"],
    ["apply", "--yes"],
]


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    """A world in which every kind of thing has happened."""
    world = AccountsWorld(tmp_path)
    world.run("dbusers", "apply", "--yes")
    world.run("dbusers", "remove", "admin", "--now", "--yes")
    for _ in range(3):
        world.run("dbusers", "apply", "--yes")
        world.clock.advance(1)
    world.run("dbusers", "limit", "wikibugs", "--connections", "3")
    for number in range(10):
        world.add(AccountKind.TOOL, f"tools.t{number}", 53000 + number)
    world.run("dbusers", "apply", "--yes")
    world.files.files = {}
    world.replica("db1.example.org").accounts.clear()
    return world


def test_every_field_that_is_printed_is_on_the_page_and_the_reverse(world: AccountsWorld) -> None:
    printed: set[str] = set()
    for command in COMMANDS:
        printed |= set(fields(world.json(*command)))
    assert printed - NAMED - REPORTS == set()
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", REFERENCE, re.MULTILINE)
    on_page = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert on_page - printed == set()
