"""`labstore status` and `labstore check`: the records of all rooms, judged."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.system.locks import exclusive
from labstore.telemetry.records import Kept, Said, write
from tests.support.cli_world import CliWorld
from tests.support.golden import golden

MASS = Said(
    *("mass-removal", Severity.ERROR, "project tools"),
    "project tools: 40 of 128 clients would be removed at once (deleted by the cloud's word)",
    "if this is right: --allow-mass-removal",
    "allow-mass-removal",
)
GONE = Said("project-gone", Severity.WARNING, "maps", "project maps is no longer there", "take it out", None)
NOTE = Said("foreign-file", Severity.NOTICE, "x", "/etc/exports.d/x is not labstore's", None, None)


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    return CliWorld.of(tmp_path)


def left(world: CliWorld, state: State = State.CONVERGED, *said: Said, **facts: object) -> Kept:
    """A daemon's newest record, five seconds old."""
    ended = world.clock.now() - timedelta(seconds=5)
    figures: dict[str, object] = {
        "served_exports": 4,
        "served_clients": 128,
        "generation": 57,
        "instances": 130,
        "source": "cloud novaobserver",
        "complete": ended.isoformat(),
        **facts,
    }
    refused = tuple(each for each in said if each.override)
    kept = Kept(
        *("exports", "primary", "labstore1", "labstore-exportd@labstore1", 812, ended, ended),
        since=ended - timedelta(minutes=12),
        due=ended + timedelta(seconds=40),
        state=state,
        facts=figures,
        refused=refused,
        reports=said,
    )
    write(world.base / "run", kept)
    return kept


def alive(world: CliWorld) -> exclusive:  # type: ignore[valid-type]
    return exclusive(world.base / "run/exports/primary.daemon", "labstore-exportd")


def test_all_is_well(world: CliWorld) -> None:
    left(world)
    with alive(world):
        result = world.run("status")
        check = world.run("check", "exports")
    assert (result.exit_code, check.exit_code) == (0, 0)
    golden("status-ok", result.stdout)
    golden_line = "EXPORTS OK - primary: converged: 4 exports, 128 clients | 'primary_exports'=4 'primary_clients'=128"
    assert check.stdout.startswith(golden_line)


def test_what_waits_for_a_person(world: CliWorld) -> None:
    left(world, State.REFUSED, MASS, GONE, NOTE, held_clients=3, untouched_count=2)
    with alive(world):
        result = world.run("status")
        check = world.run("check", "exports")
    assert (result.exit_code, check.exit_code) == (3, 1)
    golden("status-refused", result.stdout)
    assert "project tools: 40 of 128" in check.stdout


def test_a_daemon_that_died(world: CliWorld) -> None:
    left(world)
    result = world.run("status")
    assert result.exit_code == 1
    golden("status-dead", result.stdout)
    assert world.run("check", "exports").exit_code == 2


def test_nothing_has_reported_yet(world: CliWorld) -> None:
    result = world.run("status")
    assert result.exit_code == 1
    assert "labstore exports apply" in result.stdout, "`plan` would leave no record"
    check = world.run("check", "exports")
    assert (check.exit_code, check.stdout[:15]) == (3, "EXPORTS UNKNOWN")


def test_a_broken_site_file_is_told_beside_the_rest(world: CliWorld) -> None:
    world.site_file.write_text("site: [\n")
    result = world.run("status")
    assert result.exit_code == 5
    assert "the site file cannot be taken" in result.stdout
    assert "site.yaml:" in result.stdout


def test_a_record_that_cannot_be_read_is_told(world: CliWorld) -> None:
    left(world)
    (world.base / "run/exports/broken.json").write_text("{")
    with alive(world):
        result = world.run("status")
    assert result.exit_code == 1
    assert "cannot be read" in result.stdout


def test_holding_is_a_status_of_its_own(world: CliWorld) -> None:
    left(world, State.HOLDING, missing_count=1)
    with alive(world):
        assert world.run("status").exit_code == 4


def test_json(world: CliWorld) -> None:
    left(world, State.REFUSED, MASS)
    with alive(world):
        words = world.json("status")
    assert (words["health"], words["node"]) == ("WARNING", "labstore1")
    assert words["rooms"][0]["refused"][0]["override"] == "allow-mass-removal"
    assert words["rooms"][0]["next"] == ["if this is right: --allow-mass-removal"]


def test_limits_of_the_check(world: CliWorld) -> None:
    left(world)
    with alive(world):
        assert world.run("check", "exports", "--warning", "4").exit_code == 1
        assert world.run("check", "exports", "--critical", "4").exit_code == 2


def test_the_check_s_line_is_one_line_with_one_bar(world: CliWorld) -> None:
    hostile = Said("x", Severity.WARNING, "x", "evil | name\nCRITICAL", None, None)
    left(world, State.HOLDING, hostile)
    with alive(world):
        text = world.run("check", "exports").stdout
    assert text.count("\n") == 1
    assert text.count("|") == 1
    assert re.fullmatch(r"EXPORTS WARNING - [^|]+ \|( 'primary_\w+'=[0-9.]+s?)+\n", text)
