"""What a move says at its end."""

from __future__ import annotations

from pathlib import Path

from labstore.cli.failover_parts import curable
from labstore.model.names import ExportPath
from tests.support.pair_cli import PairCli


def test_a_move_with_nothing_to_do_says_so(tmp_path: Path) -> None:
    pair = PairCli.of(tmp_path)
    first, again = (pair.run("failover", "up", "--yes") for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "up: done in " in first.stdout
    assert "up: nothing was to be done" in again.stdout and "done in" not in again.stdout


def test_abort_shows_its_steps_and_asks(tmp_path: Path) -> None:
    pair = PairCli.of(tmp_path)
    assert pair.run("failover", "up", "--yes").exit_code == 0
    assert pair.run("failover", "down", "--yes", "--allow-outage").exit_code == 0
    shown = pair.run("failover", "abort", "--dry-run")
    assert shown.exit_code == 0 and "abort: alpha" in shown.stdout and "together about" in shown.stdout
    asked = pair.run("failover", "abort")
    assert asked.exit_code == 2 and "nobody is there to be asked" in asked.stderr
    assert pair.world.serving() is None
    assert pair.run("failover", "abort", "--yes").exit_code == 0
    assert pair.world.serving() is not None


def test_status_says_who_served_last(tmp_path: Path) -> None:
    pair = PairCli.of(tmp_path)
    (never,) = [row for row in pair.run("failover", "status").stdout.splitlines() if "served last" in row]
    assert never.count("never") == 2
    assert pair.run("failover", "up", "--yes").exit_code == 0
    (row,) = [row for row in pair.run("failover", "status").stdout.splitlines() if "served last" in row]
    assert row.count("never") == 1


def test_a_share_whose_directory_leads_elsewhere_holds_up_no_move(tmp_path: Path) -> None:
    for name in ("tools", "elsewhere", "cvn"):
        (tmp_path / name).mkdir()
    (tmp_path / "maps").symlink_to("elsewhere")
    tools, maps, elsewhere = (ExportPath(str(tmp_path / name)) for name in ("tools", "maps", "elsewhere"))
    gone = ExportPath(str(tmp_path / "not-mounted"))
    assert curable([tools, maps, elsewhere, gone]) == {tools, gone}
    assert curable([elsewhere]) == {elsewhere}, "nothing leads there"
