"""`labstore binds` and `nfs-manage-binds` where there is nothing to mount: what they say, and how they end.

What they do is in tests/integration/test_binds.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.cli.compat_nfs import nfs_manage_binds
from tests.support.pair_cli import PairCli


@pytest.fixture
def pair(tmp_path: Path) -> PairCli:
    return PairCli.of(tmp_path)


@pytest.mark.parametrize("command", ["show", "plan"])
def test_a_standby_has_nothing_to_make_and_says_so(pair: PairCli, command: str) -> None:
    told = pair.run("binds", command)
    assert told.exit_code == 7, told.output
    assert "volume tools: not mounted; nothing is made on it" in " ".join(told.output.split())


def test_a_standby_is_not_written_to(pair: PairCli) -> None:
    assert pair.run("binds", "apply", "--yes").exit_code == 7
    assert not (pair.base / "srv").exists()


def test_nobody_is_asked_who_is_not_there(pair: PairCli) -> None:
    told = pair.run("binds", "apply")
    assert told.exit_code == 2 and "add --yes" in told.stderr


def test_a_project_that_is_not_declared_is_said(pair: PairCli) -> None:
    told = pair.run("binds", "show", "quarry")
    assert told.exit_code == 1 and "there is no project quarry" in told.stderr


def test_a_project_s_own_things_are_shown(pair: PairCli) -> None:
    (pair.base / "srv/tools").mkdir(parents=True)
    shown = pair.json("binds", "show", "tools")
    paths = [each["path"].removeprefix(str(pair.base)) for each in shown["things"]]
    assert "/srv/tools/shared/tools/home" in paths and "/srv/tools/shared/tools/project" in paths
    assert {each["state"] for each in shown["things"]} == {"not looked at"}


def test_the_old_name_ends_as_it_did_where_nothing_is_mounted(pair: PairCli) -> None:
    """upstream 1.3"""
    told = pair.run("-binds", command=nfs_manage_binds)
    assert told.exit_code == 1 and told.output == ""


def test_the_old_name_reads_the_site_file_and_says_what_is_wrong_with_it(pair: PairCli) -> None:
    (pair.base / "site.yaml").write_text("site: [\n")
    told = pair.run("-f", command=nfs_manage_binds)
    assert told.exit_code == 5 and "site.yaml" in told.stderr
