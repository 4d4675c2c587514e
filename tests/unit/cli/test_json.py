"""docs/reference/json.md names every field that is printed, and every field it names can be printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import pytest

from labstore.assembly import SiteSource, from_site_file
from labstore.model.block_sync import SyncResult
from labstore.web.app import create_app
from tests.support.cli_world import CliWorld
from tests.support.fakes import instance
from tests.support.web_client import TestClient

REFERENCE = (Path(__file__).parents[3] / "docs/reference/json.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+)`", REFERENCE))
FREE = {"data", "untouched", "removes", "facts of steps"}
"""Maps whose keys are not ours: payloads, paths, addresses."""


def fields(value: Any, path: str = "") -> Iterator[str]:
    """Every key in a JSON value, but for keys of free maps."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            if key not in FREE:
                yield from fields(part, f"{path}.{key}")
    elif isinstance(value, list):
        for part in value:
            yield from fields(part, path)


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    """A world in which every kind of thing has happened."""
    world = CliWorld.of(tmp_path)
    world.run("exports", "apply", "--yes")
    world.clock.advance(60)
    world.inventory.delete("tools-2")
    world.run("exports", "apply", "--yes")
    for number in range(1, 31):
        world.inventory.add(instance(f"more-{number}", "p-tools", f"172.16.4.{number}"))
    world.run("exports", "apply", "--yes")
    for number in range(1, 21):
        world.inventory.delete(f"more-{number}")
    world.inventory.broken.add("eqiad1-r/p-maps")
    world.run("exports", "apply", "--yes")
    return world


COMMANDS = {
    "show": ["exports", "show"],
    "plan": ["exports", "plan"],
    "apply": ["exports", "apply", "--yes"],
    "history": ["exports", "history"],
    "diff": ["exports", "diff", "1", "2"],
    "rollback": ["exports", "rollback", "1"],
    "why": ["exports", "why", "172.16.1.12"],
    "status": ["status"],
    "check": ["check", "exports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_that_is_printed_is_documented(world: CliWorld, name: str) -> None:
    printed = set(fields(world.json(*COMMANDS[name])))
    assert printed
    assert printed <= NAMED, printed - NAMED


def test_every_field_of_a_block_sync_is_documented() -> None:
    assert {field.name for field in fields_of(SyncResult)} <= NAMED


@pytest.mark.parametrize(
    "url",
    [
        "/api/status",
        "/api/exports",
        "/api/exports/history",
        "/api/exports/why?address=172.16.1.12",
        "/api/exports/why?address=x",
    ],
)
def test_every_field_of_the_api_is_documented(world: CliWorld, url: str) -> None:
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    answer = TestClient(create_app(source, now=world.clock.now)).get(url).json()
    assert set(fields(answer)) <= NAMED


def test_a_pin_is_documented(world: CliWorld) -> None:
    world.inventory.broken.clear()
    world.run("exports", "rollback", "2", "--apply", "--yes", "--allow-mass-removal")
    pin = world.json("exports", "history")["pin"]
    assert pin is not None
    assert set(pin) <= NAMED


def test_every_field_of_the_page_s_tables_is_printed(world: CliWorld) -> None:
    """No field outlives its command on the page. Backups and block sync have tests of their own."""
    world.inventory.broken.clear()
    printed = {field for name in COMMANDS for field in fields(world.json(*COMMANDS[name]))}
    sections = re.split(r"(?m)^(?=## )", REFERENCE)
    apart = ("## labstore backup", "## labstore blocksync", "## labstore snapshots")
    tables = "".join(each for each in sections if not each.startswith(apart))
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", tables, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    elsewhere = {"notes", "adopted", "site", "at", "unreadable", "site_problems"}
    assert documented - printed - elsewhere == set()


def test_times_have_their_zone(world: CliWorld) -> None:
    text = json.dumps([world.json(*command) for command in COMMANDS.values()])
    for found in re.findall(r'"(\d{4}-\d\d-\d\dT[^"]*)"', text):
        assert re.search(r"[+-]\d\d:\d\d$", found), found
