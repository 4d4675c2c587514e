"""What is written over generations: room is made before, and the newest proven one is never lost by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labstore.backup.target_room import AMPLE, TargetRoom
from labstore.model.backup import GenerationName
from labstore.ports.snapshots import Room
from labstore.reports.backup import NoRoomToWrite
from labstore.reports.blocksync import SyncFailed
from tests.support.fake_snapshots import FakeSnapshots
from tests.unit.backup.strategies import job

MIB = 1 << 20


@pytest.fixture
def snapshots(tmp_path: Path) -> FakeSnapshots:
    path = tmp_path / "volume"
    path.write_bytes(b"bytes" * 1000)
    return FakeSnapshots(path, room=Room(1 << 40, 1 << 39, needs_size=True))


def generation(
    snapshots: FakeSnapshots, room: int | None, full: float, proof: str = "proven", size: int = 1 << 40
) -> str:
    name = f"labstore-tools-{len(snapshots.there)}"
    stamp = GenerationName.at(snapshots.clock.now())
    snapshots.take(name, {"job": "tools", "kind": "generation", "at": stamp, "root": "a", "proof": proof}, room)
    snapshots.there[name] = replace(snapshots.there[name], size=size, full=full if room else None)
    snapshots.clock.advance(60)
    return name


def test_without_generations_or_where_they_share_a_pool_anything_may_be_written(snapshots: FakeSnapshots) -> None:
    target = TargetRoom(job(), snapshots)
    assert target.allow(MIB) == AMPLE
    generation(snapshots, None, 0.0)
    assert target.allow(MIB) == AMPLE
    assert snapshots.there["labstore-tools-0"].room is None


def test_room_is_made_before_it_is_needed(snapshots: FakeSnapshots) -> None:
    name = generation(snapshots, 16 * MIB, 0.5)
    allowed = TargetRoom(job(), snapshots).allow(32 * MIB)
    room = snapshots.there[name].room
    assert room is not None
    assert allowed >= 32 * MIB
    assert 8 * MIB + allowed < 0.9 * room, "what was taken and what is allowed stay below what is too full"


def test_the_newest_gets_room_first(snapshots: FakeSnapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [generation(snapshots, 16 * MIB, 0.5) for _ in range(3)]
    grown: list[str] = []
    monkeypatch.setattr(snapshots, "grow", lambda name, room: grown.append(name))
    TargetRoom(job(), snapshots).allow(MIB)
    assert grown == names[::-1]


def test_what_has_room_is_left_as_it_is(snapshots: FakeSnapshots) -> None:
    name = generation(snapshots, 1024 * MIB, 0.25)
    allowed = TargetRoom(job(), snapshots).allow(MIB)
    assert snapshots.there[name].room == 1024 * MIB
    assert 600 * MIB < allowed < 0.65 * 1024 * MIB


def test_where_there_is_no_more_room_nothing_is_written_that_would_cost_the_newest_proven_one(
    snapshots: FakeSnapshots,
) -> None:
    kept = generation(snapshots, 64 * MIB, 0.8)
    generation(snapshots, 16 * MIB, 0.85, proof="failed")
    snapshots.refuses.add("grow")
    target = TargetRoom(job(), snapshots)
    assert target.allow(MIB) < 6.5 * MIB, "the other one may be lost"
    with pytest.raises(SyncFailed) as stopped:
        target.allow(8 * MIB)
    assert stopped.value.report == NoRoomToWrite("tools", kept, 64 * MIB)
    assert "would be lost" in stopped.value.report.text()


def test_one_with_room_for_the_whole_volume_can_never_overflow(snapshots: FakeSnapshots) -> None:
    generation(snapshots, 68 * MIB, 0.95, size=64 * MIB)
    snapshots.refuses.add("grow")
    assert TargetRoom(job(), snapshots).allow(32 * MIB) == AMPLE


def test_where_none_is_proven_the_newest_stays(snapshots: FakeSnapshots) -> None:
    generation(snapshots, 64 * MIB, 0.1, proof="failed")
    newest = generation(snapshots, 64 * MIB, 0.89, proof="untried")
    snapshots.refuses.add("grow")
    with pytest.raises(SyncFailed) as stopped:
        TargetRoom(job(), snapshots).allow(MIB)
    assert stopped.value.report == NoRoomToWrite("tools", newest, 64 * MIB)


def test_storage_that_does_not_answer_stops_the_copy(snapshots: FakeSnapshots) -> None:
    snapshots.silent = True
    with pytest.raises(SyncFailed):
        TargetRoom(job(), snapshots).allow(MIB)
