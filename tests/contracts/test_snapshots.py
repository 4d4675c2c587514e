"""What every implementation of Snapshots keeps: the fake, image files, LVM thick and thin.

LVM is tried on a volume group in memory, and on real ones where LABSTORE_TEST_VOLUMES names volumes that may be
snapshotted (`vg/thick vg/thin`, made for this): the lab does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from labstore.backup.image_files import ImageSnapshots
from labstore.backup.lvm_volumes import LvmSnapshots
from labstore.model.backup_settings import LogicalVolume
from labstore.ports.host import Command
from labstore.ports.snapshots import Snapshot, Snapshots
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NotOurs
from labstore.system.clock import SystemClock
from labstore.system.run import LocalHost
from tests.support.fake_clock import FakeClock
from tests.support.fake_lvm import FakeLv, FakeLvm
from tests.support.fake_snapshots import FakeSnapshots

SIZE = 8 << 20
TAGS = {"job": "tools", "root": "ab" * 32}
REAL = os.environ.get("LABSTORE_TEST_VOLUMES", "").split()


@dataclass
class Case:
    """An implementation with what a test needs to look behind it: how somebody else takes a snapshot, and removes
    it. `path` is None where there are no bytes behind it."""

    made: Snapshots
    stranger: Callable[[str], None]
    gone: Callable[[str], object] = lambda _: None
    path: Path | None = None
    room: int | None = None
    silent: Snapshots | None = None


def fake(folder: Path) -> Case:
    path = folder / "volume"
    path.write_bytes(os.urandom(SIZE))
    made = FakeSnapshots(path)

    def stranger(name: str) -> None:
        made.take(name, {})

    return Case(made, stranger, path=path, silent=FakeSnapshots(path, silent=True))


def files(folder: Path) -> Case:
    path = folder / "volume"
    path.write_bytes(os.urandom(SIZE))

    def stranger(name: str) -> None:
        (folder / "volume.generations").mkdir(exist_ok=True)
        (folder / f"volume.generations/{name}.img").write_bytes(b"x")

    return Case(ImageSnapshots(path, SystemClock()), stranger, path=path)


def lvm(folder: Path, thin: bool) -> Case:
    host = FakeLvm("vg", "tools", SIZE, thin)

    def stranger(name: str) -> None:
        host.lvs[name] = FakeLv(name, SIZE, "tools", SIZE, "pool" if thin else "", number=50)

    volume = LogicalVolume.parse("vg/tools")
    made = LvmSnapshots(volume, host, FakeClock(), folder / "scratch", lambda _: None)
    dead = FakeLvm("vg", "tools", SIZE, thin, answers=False)
    silent = LvmSnapshots(volume, dead, FakeClock(), folder / "scratch", lambda _: None)
    return Case(made, stranger, room=None if thin else 1 << 20, silent=silent)


def real_lvm(folder: Path, text: str) -> Case:
    volume, host = LogicalVolume.parse(text), LocalHost()
    made = LvmSnapshots(volume, host, SystemClock(), folder / "scratch")
    found = made.volume()
    assert isinstance(found, Fact), found

    def stranger(name: str) -> None:
        how = ("--size", "4194304b") if found.value.room.needs_size else ()
        host.run(Command.of("lvcreate", "--yes", "--snapshot", *how, "--name", name, text))

    def gone(name: str) -> None:
        host.run(Command.of("lvremove", "--yes", f"{volume.group}/{name}"))

    return Case(made, stranger, gone, Path(found.value.path), 4 << 20 if found.value.room.needs_size else None)


CASES: dict[str, Callable[[Path], Case]] = {
    "fake": fake,
    "image files": files,
    "lvm thick": lambda folder: lvm(folder, thin=False),
    "lvm thin": lambda folder: lvm(folder, thin=True),
    **{f"real {text}": lambda folder, text=text: real_lvm(folder, text) for text in REAL},  # type: ignore[misc]
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return CASES[request.param](tmp_path)


def listed(made: Snapshots) -> tuple[Snapshot, ...]:
    answer = made.snapshots()
    assert isinstance(answer, Fact)
    return answer.value


def test_the_volume_is_found(case: Case) -> None:
    found = case.made.volume()
    assert isinstance(found, Fact)
    assert found.value.size >= SIZE
    assert found.value.holder is None
    assert 0 < found.value.room.free <= found.value.room.size
    assert found.value.room.needs_size == (case.room is not None)


def test_a_snapshot_is_taken_found_and_removed(case: Case) -> None:
    taken = case.made.take("labstore-tools-1", TAGS, case.room)
    try:
        assert taken.ours
        assert taken.valid
        assert dict(taken.tags) == TAGS
        assert taken.room == case.room
        assert [each.name for each in listed(case.made)] == ["labstore-tools-1"]
        assert listed(case.made)[0].token == taken.token
    finally:
        case.made.remove("labstore-tools-1")
    assert listed(case.made) == ()
    case.made.remove("labstore-tools-1")


def test_a_snapshot_stays_what_the_volume_was(case: Case) -> None:
    if case.path is None:
        pytest.skip("there are no bytes behind this one")
    with case.path.open("r+b") as file:
        file.write(b"before")
        os.fsync(file.fileno())
    taken = case.made.take("labstore-tools-2", TAGS, case.room)
    with case.path.open("r+b") as file:
        file.write(b"after!")
        os.fsync(file.fileno())
    with Path(taken.path).open("rb") as file:
        assert file.read(6) == b"before"
    copy = case.made.open_copy("labstore-tools-2", "proof")
    with Path(copy).open("r+b") as file:
        assert file.read(6) == b"before"
        file.seek(0)
        file.write(b"proven")
        os.fsync(file.fileno())
    case.made.close_copy("labstore-tools-2", "proof")
    case.made.close_copy("labstore-tools-2", "proof")
    with Path(taken.path).open("rb") as file:
        assert file.read(6) == b"before"
    case.made.remove("labstore-tools-2")


def test_two_of_one_name_are_refused(case: Case) -> None:
    case.made.take("labstore-tools-3", TAGS, case.room)
    with pytest.raises((StepFailed, AssertionError)):
        case.made.take("labstore-tools-3", {"job": "other"}, case.room)
    assert dict(listed(case.made)[0].tags) == TAGS
    case.made.remove("labstore-tools-3")


def test_tags_can_be_added_and_changed(case: Case) -> None:
    case.made.take("labstore-tools-4", TAGS, case.room)
    case.made.tag("labstore-tools-4", {"proof": "proven"})
    case.made.tag("labstore-tools-4", {"proof": "failed"})
    assert dict(listed(case.made)[0].tags) == {**TAGS, "proof": "failed"}
    for proven in ("then", "now", "now"):
        case.made.tag("labstore-tools-4", {"proof": "failed", "proven": proven})
        assert dict(listed(case.made)[0].tags) == {**TAGS, "proof": "failed", "proven": proven}, "what stays is there"
    case.made.remove("labstore-tools-4")


def test_what_somebody_else_took_is_seen_and_left_alone(case: Case) -> None:
    case.stranger("theirs")
    assert [(each.name, each.ours) for each in listed(case.made)] == [("theirs", False)]
    with pytest.raises(StepFailed) as refused:
        case.made.remove("theirs")
    assert isinstance(refused.value.report, NotOurs)
    for verb in (lambda: case.made.tag("theirs", TAGS), lambda: case.made.open_copy("theirs", "proof")):
        with pytest.raises(StepFailed):
            verb()
    assert [each.name for each in listed(case.made)] == ["theirs"]
    case.gone("theirs")


def test_a_name_that_could_mean_more_is_refused(case: Case) -> None:
    case.made.take("labstore-tools-5", TAGS, case.room)
    for name in ("", "-x", "a/b", "..", "a b", "*", "x" * 200, "@tag"):
        for verb in (case.made.remove, lambda name: case.made.open_copy(name, "proof")):
            if isinstance(case.made, FakeSnapshots):
                continue
            with pytest.raises((ValueError, StepFailed)):
                verb(name)
    assert len(listed(case.made)) == 1
    case.made.remove("labstore-tools-5")


def test_no_answer_is_missing_not_empty(case: Case) -> None:
    """DESIGN law 1."""
    if case.silent is None:
        pytest.skip("this one always answers")
    assert isinstance(case.silent.volume(), Missing)
    assert isinstance(case.silent.snapshots(), Missing)
