"""What is mounted stands in a book; a damaged one is said, and decides nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.model.backup_settings import Keep
from labstore.reconcile.runner import StepFailed
from tests.unit.backup.test_cycle import World


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "7",
        "[" * 100_000,
        '[{"job": "tools"}]',
        '[{"job": "../x", "generation": "x", "point": "/", "until": "2026-01-01T00:00:00+00:00"}]',
        '[{"job": "tools", "generation": "20260101T000000Z", "point": "/x", "until": "2026-01-01T00:00:00"}]',
    ],
)
def test_a_damaged_book_of_mounts_stops_no_copy_and_lets_none_go(tmp_path: Path, damage: str) -> None:
    world = World(tmp_path, keep=Keep(1, 0, 0, 0, 1))
    world.run()
    world.mounts.book.write_text(damage)
    record = world.run(30)
    assert len(world.names()) == 2, "made, and the older one stays"
    assert "backup-book-damaged" in {report.code for report in record.reports}
    with pytest.raises(StepFailed, match=str(world.mounts.book)):
        world.mounts.unmount("/srv/backup/x")
    world.mounts.book.unlink()
    world.run(30)
    assert len(world.names()) == 1
