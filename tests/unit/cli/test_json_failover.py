"""docs/reference/json-failover.md names every field that is printed, and every field it names can be printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_cluster import World
from tests.support.pair_cli import PairCli
from tests.support.small_pair import ALPHA, BETA

PAGES = Path(__file__).parents[3] / "docs/reference"
NAMED = set(re.findall(r"`([a-z_]+)`", (PAGES / "json-failover.md").read_text()))
OF_REPORTS = {"code", "severity", "subject", "message", "remedy", "override", "data"}
FREE = {"data", "untouched", "figures", "removes", "facts"}
"""Maps whose keys are not of this page."""


def fields(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            if key != "nodes" or name not in (ALPHA, BETA):
                yield name
            if name not in FREE:
                yield from fields(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from fields(part, key)


def split(world: World) -> None:
    for name in world.resources:
        world.machines[ALPHA].disks[name].ids = (7, 1)
        world.machines[BETA].disks[name].ids = (9, 1)
        world.machines[ALPHA].alone.add(name)


PRINTED = [
    (["status"], None),
    (["up", "--dry-run"], None),
    (["down", "--dry-run"], None),
    (["up", "--yes"], None),
    (["switchover", "--dry-run"], None),
    (["abort", "--yes"], None),
    (["resolve"], None),
    (["resolve"], split),
]


@pytest.mark.parametrize(("command", "before"), PRINTED, ids=[f"{' '.join(c)} {n}" for n, (c, _) in enumerate(PRINTED)])
def test_every_field_of_failover_is_named(tmp_path: Path, command: list[str], before: Any) -> None:
    pair = PairCli.of(tmp_path)
    if command[0] == "switchover":
        pair.run("failover", "up", "--yes")
    if before is not None:
        before(pair.world)
    said = json.loads(pair.run("failover", *command, "--json").stdout)
    assert set(fields(said)) <= NAMED | OF_REPORTS


@pytest.mark.parametrize("node", ["alpha", "beta"])
def test_a_node_that_is_off_is_a_report(tmp_path: Path, node: str) -> None:
    pair = PairCli.of(tmp_path)
    pair.world.power_off(BETA)
    said = json.loads(pair.run("failover", "status", "--json", node="alpha").stdout)
    assert set(said["nodes"]["beta"]) == {"state", "report"} and set(fields(said)) <= NAMED | OF_REPORTS
    assert node in said["nodes"]


@pytest.mark.parametrize("name", ["drbd", "role", "address", "nfs"])
def test_every_field_of_a_check_is_named(tmp_path: Path, name: str) -> None:
    assert set(PairCli.of(tmp_path).json("check", name)) <= NAMED


@pytest.mark.parametrize("command", ["show", "plan"])
def test_every_field_of_binds_is_named(tmp_path: Path, command: str) -> None:
    said = PairCli.of(tmp_path).json("binds", command)
    assert set(fields(said)) <= NAMED | OF_REPORTS
