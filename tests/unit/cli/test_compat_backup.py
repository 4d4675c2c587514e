"""`snapshot-manager` and `block_sync` with the original's arguments (upstream 1.9, #37-#41)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from labstore.blocksync.bdsync import Bdsync
from labstore.blocksync.engine import OurEngine
from labstore.cli.compat_backup import block_sync, snapshot_manager
from labstore.cli.old_backup import BDSYNC, Far, Here, OldCopy, _engine
from labstore.model.backup_settings import LogicalVolume
from labstore.model.block_sync import Limits, Pass, SyncResult
from labstore.ports.block_engine import Order
from labstore.ports.host import Command, CommandFailed, Completed
from labstore.reconcile.runner import StepFailed
from labstore.reports.blocksync import PeerLost, SyncFailed
from tests.support.fake_snapshots import FakeSnapshots

SOURCE = Far("labstore1005", "root", "tools", "tools-project", "tools-snap")
TARGET = Here("backup", "tools-project", "before", "2T")


@dataclass
class World:
    """What was done, in order; `wrong` is what fails."""

    snapshots: FakeSnapshots
    done: list[str] = field(default_factory=list)
    wrong: str = ""
    root: str | None = "ab"
    orders: list[Order] = field(default_factory=list)

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        self.done.append(command.argv[-1])
        if self.wrong and self.wrong in command.argv[-1]:
            raise CommandFailed(command, "ended with status 5", 5, "no space")
        return Completed(command, 0, "", "")

    def sync(self, order: Order) -> SyncResult:
        self.done.append("sync")
        self.orders.append(order)
        self.root = None
        if self.wrong == "sync":
            raise SyncFailed(PeerLost("it ended"))
        self.root = "cd"
        return SyncResult(1, "cd", Pass.BOTH, "", 6, 6, 1, 0, 0, 0, 0, 1.0, "t", "direct")

    def complete(self, target: str) -> str | None:
        return self.root

    def set_limits(self, limits: Limits) -> None:
        pass

    def copy(self) -> None:
        far, here = LogicalVolume.parse("tools/tools-project"), LogicalVolume.parse("backup/tools-project")
        OldCopy(SOURCE, TARGET, far, here, self.snapshots, self, self, lambda: ("ssh",)).run()


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "volume").write_bytes(b"before")
    return World(FakeSnapshots(tmp_path / "volume"))


def test_snapshots_on_both_sides_then_the_copy_then_what_is_left_is_tidied(world: World) -> None:
    """upstream #41: the original's snapshots lingered all week."""
    world.copy()
    assert world.done == [
        "snapshot-manager create tools-snap tools/tools-project --force --size 1T",
        "sync",
        "snapshot-manager remove tools-snap tools/tools-project",
    ]
    (order,) = world.orders
    assert str(order.source) == "root@labstore1005:/dev/tools/tools-snap"
    assert order.target.path == "/dev/backup/tools-project"
    assert order.remote[-1].endswith("labstore blocksync serve --source /dev/tools/tools-snap --label tools-project")
    assert list(world.snapshots.there) == ["before"]


def test_a_target_in_use_is_refused_before_anything_is_snapshotted(world: World) -> None:
    """upstream #39."""
    world.snapshots.holder = "mounted at /mnt"
    with pytest.raises(StepFailed, match="mounted at /mnt"):
        world.copy()
    assert (world.done, world.snapshots.there) == ([], {})


@pytest.mark.parametrize("wrong", ["create", "sync", "remove"])
def test_whatever_fails_is_a_failure(world: World, wrong: str) -> None:
    """upstream #37: the original's status was that of the last stage alone."""
    world.wrong = wrong
    with pytest.raises(StepFailed):
        world.copy()


def test_a_half_written_target_never_takes_the_place_of_a_good_generation(world: World) -> None:
    world.copy()
    world.snapshots.path.write_bytes(b"good")
    world.wrong = "sync"
    for left in (b"half of it", b"more of it"):
        with pytest.raises(StepFailed):
            world.copy()
        world.snapshots.path.write_bytes(left)
        assert Path(world.snapshots.there["before"].path).read_bytes() == b"good"


def test_what_makes_no_sense_is_said() -> None:
    for words in (["create", "snap", "vg"], ["create", "snap", "/lv"], ["status", "snap", "vg/"]):
        assert CliRunner().invoke(snapshot_manager, words).exit_code == 2, words
    odd = ["host", "vg", "", "snap", "vg", "lv", "snap", "2T"]
    assert CliRunner().invoke(block_sync, odd).exit_code == 2


def test_the_old_names_are_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["snapshot-manager"] == "labstore.cli.compat_backup:snapshot_manager"
    assert project["scripts"]["block_sync"] == "labstore.cli.compat_backup:block_sync"


def test_a_source_without_labstore_is_copied_by_bdsync(world: World) -> None:
    far, here = LogicalVolume.parse("tools/tools-project"), LogicalVolume.parse("backup/tools-project")
    OldCopy(SOURCE, TARGET, far, here, world.snapshots, world, world, lambda: ("ssh",), BDSYNC).run()
    assert world.orders[0].remote == ("ssh", "--", "{host}", "nice -n 10 bdsync --server")


def test_the_engine_is_chosen_by_a_word() -> None:
    assert isinstance(_engine("bdsync")[0], Bdsync)
    assert isinstance(_engine("labstore")[0], OurEngine)
