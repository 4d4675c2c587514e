"""What was written is settled while more is written, when it is waited for, or alone when all else has ended; and a
disk that does not keep what it was given is found out each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labstore.blocksync.crew import Crew, Stopped
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import SIZE, block_hasher
from labstore.blocksync.messages import Data, Geometry
from labstore.blocksync.settling import Settler
from labstore.blocksync.store import DigestStore
from labstore.blocksync.writer import SETTLE_SOON, Writer
from labstore.model.block_sync import Algorithm
from labstore.reports.blocksync import SyncFailed
from labstore.reports.blocksync_target import ReadBackDiffers
from tests.support.hang import HANGS

KEY = bytes(range(32))
BLOCK = 16384
BLOCKS = 3 * SETTLE_SOON // BLOCK
GEOMETRY = Geometry(BLOCKS * BLOCK, BLOCK)
DIGESTS = block_hasher(Algorithm.BLAKE3, KEY, BLOCK)
NEW = b"new!" * (BLOCK // 4)
OF_NEW = DIGESTS([memoryview(NEW)])


class Forgetful(Target):
    """A disk that loses a block on the way."""

    def __init__(self, path: Path, lost: int) -> None:
        super().__init__(str(path))
        self._lost = lost

    def sync(self) -> None:
        self.write([memoryview(bytes(BLOCK))], self._lost * BLOCK)
        super().sync()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(b"old!" * (GEOMETRY.size // 4))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DigestStore]:
    (tmp_path / "index").mkdir()
    store = DigestStore(tmp_path / "index", Algorithm.BLAKE3, KEY, BLOCK, GEOMETRY.size, fresh=True)
    yield store
    store.close()


@pytest.fixture
def onto(crew: Crew, store: DigestStore) -> Iterator[Callable[[Target], Writer]]:
    made = list[Settler]()

    def onto(target: Target) -> Writer:
        made.append(Settler(target, store, GEOMETRY, DIGESTS))
        return Writer(crew, target, made[-1], GEOMETRY, DIGESTS)

    yield onto
    crew.stop()
    crew.wait()
    for each in made:
        each.close()


@pytest.fixture
def good(path: Path) -> Iterator[Target]:
    target = Target(str(path))
    yield target
    target.close()


def write(writer: Writer, *blocks: int) -> None:
    writer.data(Data(blocks, OF_NEW * len(blocks), NEW * len(blocks)))


def some(first: int, nbytes: int) -> range:
    return range(first, first + nbytes // BLOCK)


def test_enough_of_it_is_settled_while_more_is_written(
    onto: Callable[[Target], Writer], good: Target, store: DigestStore
) -> None:
    blocks = some(0, SETTLE_SOON)
    write(onto(good), *blocks)
    until = time.monotonic() + HANGS
    while store.get(0, len(blocks)) != OF_NEW * len(blocks):
        assert time.monotonic() < until, "nobody settles it"
        time.sleep(0.01)


def test_all_of_it_is_settled_where_it_is_waited_for(
    onto: Callable[[Target], Writer], good: Target, store: DigestStore
) -> None:
    writer = onto(good)
    store.put(BLOCKS - 9, OF_NEW * 4)
    write(writer, *some(0, SETTLE_SOON))
    write(writer, *some(BLOCKS // 2, SETTLE_SOON))
    writer.zeros([(BLOCKS - 8, 3)])
    write(writer, BLOCKS - 1)
    writer.settle()
    known = {block for block in range(BLOCKS) if store.get(block, 1) == OF_NEW}
    assert known == {*some(0, SETTLE_SOON), *some(BLOCKS // 2, SETTLE_SOON), BLOCKS - 9, BLOCKS - 1}


def test_what_nobody_settled_is_settled_when_the_crew_has_ended(
    onto: Callable[[Target], Writer], good: Target, store: DigestStore, crew: Crew
) -> None:
    writer = onto(good)
    crew.stop()
    crew.wait()
    with pytest.raises(Stopped):
        write(writer, *some(0, SETTLE_SOON))
    write(writer, BLOCKS - 1)
    assert not store.get(0, BLOCKS).strip(b"\0"), "nobody is there"
    writer.settle_alone()
    assert store.get(0, SETTLE_SOON // BLOCK) == OF_NEW * (SETTLE_SOON // BLOCK)
    assert store.get(BLOCKS - 1, 1) == OF_NEW


def test_a_disk_that_loses_something_ends_the_crew(
    onto: Callable[[Target], Writer], path: Path, store: DigestStore, crew: Crew
) -> None:
    target = Forgetful(path, 17)
    try:
        writer = onto(target)
        write(writer, *some(0, SETTLE_SOON))
        with pytest.raises(Stopped):
            writer.settle()
        crew.wait()
        assert isinstance(crew.error, SyncFailed)
        assert crew.error.report == ReadBackDiffers(str(path), 17 * BLOCK)
        assert store.get(17, 1) == bytes(SIZE), "what is not there is not believed"
        with pytest.raises(SyncFailed):
            writer.settle_alone()
    finally:
        target.close()
