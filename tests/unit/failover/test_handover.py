"""What is handed to the other node of a client's state: never an older one, never one that stops a move."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.failover.handover import Handover, Handovers
from labstore.failover.steps import Met, met
from labstore.model.nfsd import NfsClient
from labstore.ports.storage_node import Do, HandoverFound, Order
from tests.support.fake_cluster import Killed, Written
from tests.unit.failover.test_crash import PLAIN, mover, served_by_alpha
from tests.unit.failover.worlds import ALPHA, BETA, pair, serving

OLD = Handover("alpha", "2026-05-29T11:54:00+00:00", "r1", (NfsClient("1", "c1", "10.77.0.10"),))
NEW = Handover("beta", "2026-05-29T12:54:00+00:00", "r2", (NfsClient("2", "c2", "10.77.0.11"),))


@pytest.fixture
def files(tmp_path: Path) -> Handovers:
    return Handovers(tmp_path / "volume/handover.json", tmp_path / "run/main.handover.json")


def test_what_was_used_is_compared_and_not_handed_on(files: Handovers) -> None:
    files.write(OLD)
    assert files.fresh() and files.waiting() and files.handed_over() == OLD and files.used() is None
    files.use()
    assert not files.fresh() and files.waiting() and files.handed_over() is None and files.used() == OLD
    files.write(NEW)
    assert files.fresh() and files.handed_over() == NEW
    files.use()
    assert files.used() == NEW
    files.forget()
    assert not files.waiting() and files.used() is None


@pytest.mark.parametrize("later", [NEW, replace(NEW, at="2026-05-28T00:00:00+00:00")], ids=["later", "a slow clock"])
def test_what_was_never_compared_is_not_taken_for_what_comes_now(
    files: Handovers, tmp_path: Path, later: Handover
) -> None:
    """The volume takes nothing, so what clients hold lies on the other node: here there is but the old one."""
    files.write(OLD)
    files.use()
    other = Handovers(tmp_path / "no volume/handover.json", tmp_path / "other/main.handover.json")
    (tmp_path / "no volume").write_text("")
    other.write(later)
    assert files.handed_over() is None
    files.use()
    assert files.used() is None, "the names that nfsdcld has recorded say more"
    files.write(OLD)
    files.use()
    files.write(later)
    assert files.handed_over() == later
    files.use()
    assert files.used() == later


def test_where_nobody_came_in_it_counts_again(files: Handovers) -> None:
    assert not files.take_back()
    files.write(OLD)
    files.use()
    assert files.take_back() and files.fresh() and files.handed_over() == OLD


def test_it_counts_again_where_the_volume_takes_nothing(files: Handovers, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(OLD)
    files.use()

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        assert files.take_back()
    assert files.handed_over() == OLD


@pytest.mark.parametrize("bad", [b"", b"{", b"\xff\xfe", b'{"node": 1}', b"[" * 100_000])
def test_one_that_cannot_be_read_is_written_again_and_cleared_away(files: Handovers, bad: bytes) -> None:
    files.write(OLD)
    files.volume.write_bytes(bad)
    assert not files.fresh() and files.waiting() and files.handed_over() is None
    files.write(NEW)
    assert files.fresh() and files.handed_over() == NEW
    files.volume.write_bytes(bad)
    files.use()
    assert files.used() is None and files.waiting() and not files.take_back()
    files.forget()
    assert not files.waiting()


def test_a_state_volume_that_cannot_take_it(files: Handovers, tmp_path: Path) -> None:
    """Made a file where its directory should be; nobody is root's match."""
    (tmp_path / "volume").write_text("")
    assert "volume" in files.write(OLD)
    assert files.handed_over() == OLD and files.fresh()


def test_the_copy_of_this_node_is_gone_once_the_volume_takes_it(files: Handovers) -> None:
    files.here.parent.mkdir()
    Handovers(files.here, files.here).write(OLD)
    files.write(NEW)
    assert not files.here.exists() and files.handed_over() == NEW


def test_a_move_after_one_that_was_never_compared_writes_down_its_own() -> None:
    """Killed before it compared, the first move leaves what alpha's clients held: not what beta's hold by now."""
    twin, world = served_by_alpha(PLAIN), served_by_alpha(PLAIN)
    moments = twin.log_of(lambda: mover(twin).switchover())
    world.kill_at = world.ticks + moments.index("beta: act certify")
    with pytest.raises(Killed):
        mover(world).switchover()
    assert world.handover == Written(ALPHA, used=True)
    world.kill_at = None
    assert mover(world, BETA).down().done
    assert world.handover == Written(BETA)


@pytest.mark.parametrize("found", [HandoverFound(), HandoverFound(False, True)])
def test_what_waits_to_be_compared_does_not_stand_for_what_is_held_now(found: HandoverFound) -> None:
    assert met(Order(Do.RECORD), serving(handover=found), pair()) is Met.NO
    assert met(Order(Do.CERTIFY), serving(handover=found), pair()) is Met.of(not found.waiting)
