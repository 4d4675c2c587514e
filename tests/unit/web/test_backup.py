"""Backups on the status page, among the metrics and in `labstore status`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labstore.assembly import SiteSource, from_site_file
from labstore.telemetry.records import write
from labstore.web.app import create_app
from tests.support.cli_world import CliWorld
from tests.support.web_client import TestClient
from tests.unit.telemetry.test_backup import FACTS, RECORD


def test_every_view_says_how_old_the_newest_proof_is(tmp_path: Path) -> None:
    world = CliWorld.of(tmp_path)
    world.run("exports", "apply", "--yes")
    write(tmp_path / "run", replace(RECORD, facts={**FACTS, "newest_proven": world.clock.now().isoformat()}))
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    client = TestClient(create_app(source, now=world.clock.now))
    assert "proven to restore" in client.get("/").text
    metrics = client.get("/metrics").text
    assert 'labstore_backup_proven_age_seconds{job="tools"}' in metrics
    assert "labstore_exports_clients" in metrics, "the other rooms are there as ever"
    assert "backup tools  proven to restore" in world.run("status").output
