"""What `labstore status`, `labstore check dbusers` and the page make of the accounts' records."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labstore.assembly import SiteSource, from_site_file
from labstore.model.accounts import AccountKind
from labstore.telemetry import records
from labstore.telemetry.status import Health, judged
from labstore.web.app import create_app
from tests.support.accounts_world import AccountsWorld
from tests.support.web_client import TestClient


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    world = AccountsWorld(tmp_path)
    world.run("dbusers", "apply", "--yes")
    return world


def kept(world: AccountsWorld) -> records.Kept:
    return records.read(records.place(world.base / "run", "dbusers", "wikicloud"))


def test_a_silent_daemon_is_critical_and_named(world: AccountsWorld) -> None:
    record = replace(kept(world), due=world.clock.now())
    later = world.clock.now() + timedelta(hours=1)
    room = judged(record, later, alive=False)
    assert room.health is Health.CRITICAL
    assert "labstore-dbusersd" in room.next[0]


def test_a_standby_is_well(world: AccountsWorld) -> None:
    record = replace(kept(world), state=records.State.STANDBY, facts={})
    assert judged(record, world.clock.now()).health is Health.OK


def test_a_cycle_that_found_nothing_out_has_a_headline(world: AccountsWorld) -> None:
    record = replace(kept(world), state=records.State.FAILED, facts={})
    assert judged(record, world.clock.now()).headline == "failed"


def test_an_account_that_is_on_its_way_for_long_is_told(world: AccountsWorld) -> None:
    world.replica("db2.example.org:3311").away = True
    world.add(AccountKind.TOOL, "tools.late", 53000)
    world.run("dbusers", "apply", "--yes")
    world.clock.advance(2 * 3600)
    world.run("dbusers", "apply", "--yes")
    check = world.run("check", "dbusers", "--critical", "3600")
    assert check.exit_code == 2, check.output
    assert "'oldest_unconverged'=7200s" in check.stdout
    assert "'away'=1" in check.stdout
    assert "on their way" in world.run("status").stdout


def test_nobody_has_reported(tmp_path: Path) -> None:
    world = AccountsWorld(tmp_path)
    check = world.run("check", "dbusers")
    assert (check.exit_code, check.stdout.split()[1]) == (3, "UNKNOWN")


def test_exports_are_checked_apart(world: AccountsWorld) -> None:
    assert world.run("check", "exports").exit_code == 3, "no exports have reported"


def test_the_page_and_its_metrics_show_accounts(world: AccountsWorld) -> None:
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    client = TestClient(create_app(source, ("*",)))
    page = client.get("/").text
    assert "3 accounts on 2 servers" in page
    assert "db2.example.org:3311" in page
    metrics = client.get("/metrics").text
    assert 'labstore_dbusers_account_hosts{host="db1.example.org",status="present"} 3.0' in metrics
    assert metrics.count("labstore_build_info{") == 1
    (room,) = client.get("/api/status").json()["rooms"]
    assert room["room"] == "dbusers"
