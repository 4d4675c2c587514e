"""What only LVM has: a pool that is asked where two thin snapshots differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labstore.backup.lvm_volumes import LvmSnapshots
from labstore.model.backup_settings import LogicalVolume
from labstore.ports.host import Command, CommandFailed, Completed
from labstore.ports.snapshots import Snapshot
from labstore.system import locks
from tests.support.fake_clock import FakeClock
from tests.support.fake_lvm import FakeLvm

DELTA = """<superblock uuid="" time="1" transaction="2" data_block_size="128" nr_data_blocks="0">
  <diff left="1" right="2"><same begin="0" length="3"/><different begin="3" length="1"/></diff>
</superblock>"""


@dataclass
class Pool:
    """See ports.host.Host. A pool that holds its metadata still for one at a time, as device mapper does."""

    lvm: FakeLvm
    held: bool = False
    dies: bool = False
    told: list[str] = field(default_factory=list)

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        if command.argv[0] == "thin_delta":
            if self.dies:
                raise KeyboardInterrupt
            assert self.held
            return Completed(command, 0, DELTA, "")
        if command.argv[:2] == ("dmsetup", "message"):
            assert command.argv[2] == "vg-pool-tpool"
            self.told.append(command.argv[-1])
            if self.held == (command.argv[-1] == "reserve_metadata_snap"):
                raise CommandFailed(command, "ended with status 1", 1, "message ioctl failed")
            self.held = not self.held
            return Completed(command, 0, "", "")
        return self.lvm.run(command, expect)


@pytest.fixture
def pool() -> Pool:
    return Pool(FakeLvm("vg", "tools", 8 << 20, thin=True))


@pytest.fixture
def made(pool: Pool, tmp_path: Path) -> LvmSnapshots:
    return LvmSnapshots(LogicalVolume.parse("vg/tools"), pool, FakeClock(), tmp_path / "scratch", lambda _: None)


@pytest.fixture
def two(made: LvmSnapshots) -> tuple[Snapshot, Snapshot]:
    return made.take("one", {"job": "tools"}), made.take("two", {"job": "tools"})


def test_the_pool_says_where_two_snapshots_differ(
    made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]
) -> None:
    hints = made.hints(*two)
    assert hints is not None
    assert list(hints.ranges()) == [(3 << 16, 4 << 16)]
    assert pool.told == ["reserve_metadata_snap", "release_metadata_snap"]
    assert not pool.held


def test_what_a_killed_run_left_held_is_let_go(made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]) -> None:
    made.hints(*two)
    pool.held = True
    (made.scratch / "vg-pool.held").touch()
    assert made.hints(*two) is not None
    assert not pool.held
    assert not (made.scratch / "vg-pool.held").exists()


def test_what_somebody_else_holds_stays_held(made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]) -> None:
    pool.held = True
    assert made.hints(*two) is None
    assert pool.held
    assert made.hints(*two) is None
    assert pool.held


def test_another_run_of_ours_is_not_disturbed(made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]) -> None:
    made.hints(*two)
    pool.held = True
    with locks.exclusive(made.scratch / "vg-pool.lock", "thin_delta"):
        (made.scratch / "vg-pool.held").touch()
        assert made.hints(*two) is None
    assert pool.held


def test_whatever_ends_it_the_pool_is_told(made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]) -> None:
    pool.dies = True
    with pytest.raises(KeyboardInterrupt):
        made.hints(*two)
    assert not pool.held


def test_a_copy_is_closed_though_its_snapshot_went_before_it(
    made: LvmSnapshots, pool: Pool, two: tuple[Snapshot, Snapshot]
) -> None:
    made.open_copy("one", "mount")
    made.remove("one")
    made.close_copy("one", "mount")
    assert set(pool.lvm.lvs) == {"pool", "tools", "two"}
