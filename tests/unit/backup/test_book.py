"""What is mounted stands in a book; a damaged one is said, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labstore.model.backup import GenerationName, RestoreMount
from labstore.model.backup_settings import DevicePath, JobName, Keep, Volume
from labstore.reconcile.record import State
from labstore.reconcile.runner import StepFailed
from tests.unit.backup.test_cycle import START, World


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


def stray(world: World, target: DevicePath | None) -> RestoreMount:
    """A mount of a job that was taken out of the site file, with an hour left."""
    generation, until = GenerationName.at(START), START + timedelta(hours=1)
    mount = RestoreMount(JobName("gone"), generation, "/srv/backup/gone/x", until, target)
    with world.mounts._book() as standing:
        standing.append(mount)
        world.mounts._write(standing)
    assert world.mounts.all() == (mount,)
    return mount


def test_the_mount_of_a_job_that_is_gone_ends_with_its_copy_when_its_time_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    mount = stray(world, DevicePath(str(tmp_path / "old.img")))
    world.snapshots.copies.add(copy := (world.mounts.name_of(mount.job, mount.generation), "mount"))
    world.run()
    assert world.mounts.all() == (mount,), "its time is not over"
    assert world.run(2).state is State.CONVERGED
    assert (world.mounts.all(), copy in world.snapshots.copies) == ((), False)


def test_a_copy_is_closed_where_it_was_made_whatever_the_job_says_now(tmp_path: Path) -> None:
    world = World(tmp_path)
    there, asked = DevicePath(str(tmp_path / "old.img")), list[Volume]()
    mounts = replace(world.mounts, snapshots_of=lambda where: asked.append(where) or world.snapshots)
    mounts.unmount(stray(world, there).point)
    assert asked == [there]


def test_a_mount_whose_volume_nobody_knows_is_said_and_holds_up_no_copy(tmp_path: Path) -> None:
    world = World(tmp_path)
    mount = stray(world, None)
    record = world.run(2)
    assert len(world.names()) == 1
    assert {report.code for report in record.reports} == {"backup-mount-of-nobody"}
    assert world.mounts.all() == (mount,)
