"""`nfs-manage` with the original's verbs (upstream 1.4, #20, #21)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import Result

from labstore.cli.compat_nfs import USAGE, nfs_manage
from tests.support.pair_cli import PairCli


@pytest.fixture
def pair(tmp_path: Path) -> PairCli:
    return PairCli.of(tmp_path)


def manage(pair: PairCli, *arguments: str, node: str = "alpha") -> Result:
    return pair.run(*arguments, node=node, command=nfs_manage)


def test_up_and_down_act_without_asking(pair: PairCli) -> None:
    up = manage(pair, "up")
    assert up.exit_code == 0, up.output
    assert pair.world.serving() == "alpha"
    down = manage(pair, "down")
    assert down.exit_code == 0, down.output
    assert pair.world.serving() is None


def test_up_is_refused_while_the_partner_serves(pair: PairCli) -> None:
    """The original looked for the word Primary and went on where the partner was unknown (upstream 1.4)."""
    assert manage(pair, "up").exit_code == 0
    refused = manage(pair, "up", node="beta")
    assert refused.exit_code == 3
    assert "alpha" in refused.output
    assert pair.world.serving() == "alpha"


def test_status_shows_both_nodes(pair: PairCli) -> None:
    manage(pair, "up")
    shown = manage(pair, "status")
    assert shown.exit_code == 0, shown.output
    assert "alpha" in shown.output and "beta" in shown.output and "healthy" in shown.output


def test_a_preview_does_nothing(pair: PairCli) -> None:
    shown = manage(pair, "up", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "promote state" in shown.output
    assert pair.world.serving() is None


@pytest.mark.parametrize("arguments", [(), ("restart",), ("UP",), ("switchover",)])
def test_any_other_verb_is_told_the_usage_with_the_original_status(pair: PairCli, arguments: tuple[str, ...]) -> None:
    told = manage(pair, *arguments)
    assert told.exit_code == 1
    assert told.stderr == USAGE + "\n"


def test_the_old_names_are_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["nfs-manage"] == "labstore.cli.compat_nfs:nfs_manage"
    assert project["scripts"]["nfs-manage-binds"] == "labstore.cli.compat_nfs:nfs_manage_binds"
