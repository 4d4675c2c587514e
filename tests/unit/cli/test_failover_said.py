"""What a move says at its end."""

from __future__ import annotations

from pathlib import Path

from tests.support.pair_cli import PairCli


def test_a_move_with_nothing_to_do_says_so(tmp_path: Path) -> None:
    pair = PairCli.of(tmp_path)
    first, again = (pair.run("failover", "up", "--yes") for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "up: done in " in first.stdout
    assert "up: nothing was to be done" in again.stdout and "done in" not in again.stdout
