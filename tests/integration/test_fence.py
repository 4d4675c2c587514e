"""A fence command is run for a silent partner, and for nobody else."""

from __future__ import annotations

from pathlib import Path

from labstore.model.names import HostName
from tests.support.pair_cli import PairCli


def test_who_serves_is_not_fenced_and_who_is_silent_is(tmp_path: Path) -> None:
    pair, site, fenced = PairCli.of(tmp_path), tmp_path / "site.yaml", tmp_path / "fenced"
    command = tmp_path / "fence"
    command.write_text(f'#!/bin/sh\necho "$1" >>{fenced}\n')
    command.chmod(0o755)
    site.write_text(site.read_text().replace("    scope:", f"    fence: {{command: [{command}]}}\n    scope:"))
    assert pair.run("failover", "up", "--yes").exit_code == 0
    refused = pair.run("failover", "up", "--yes", "--fence", node="beta")
    assert refused.exit_code == 3, refused.output
    assert pair.json("failover", "up", "--yes", "--fence", node="beta")["refusals"]
    assert not fenced.exists()
    pair.world.machines[HostName("alpha")].alive = False
    done = pair.run("failover", "up", "--yes", "--fence", node="beta")
    assert done.exit_code == 0, done.output
    assert fenced.read_text() == "alpha\n"
