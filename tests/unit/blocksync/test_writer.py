"""Who must be asked before a target is written is asked: never less is settled than they were told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.crew import Crew
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import block_hasher
from labstore.blocksync.messages import Data, Geometry
from labstore.blocksync.settling import Settler
from labstore.blocksync.store import DigestStore
from labstore.blocksync.writer import SETTLE_AT, Writer
from labstore.model.block_sync import Algorithm
from labstore.reports.backup import NoRoomToWrite
from labstore.reports.blocksync import SyncFailed

KEY = bytes(range(32))
BLOCK = 4096
SIZE = 3 * SETTLE_AT
DIGESTS = block_hasher(Algorithm.BLAKE3, KEY, BLOCK)


class Asked:
    """Allows so many bytes each time; notes how much had been written by then."""

    def __init__(self, path: Path, at_most: int) -> None:
        self._path, self.left, self.sizes = path, at_most, list[int]()
        self.seen: list[int] = []

    def __call__(self, size: int) -> int:
        if self.left < size:
            raise SyncFailed(NoRoomToWrite("tools", "a generation", 1))
        self.left -= size
        self.sizes.append(size)
        self.seen.append(self._path.read_bytes().count(b"new!"))
        return size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(b"old" * (SIZE // 3))
    return path


@pytest.fixture
def asked(path: Path) -> Asked:
    return Asked(path, SIZE)


@pytest.fixture
def target(path: Path) -> Iterator[Target]:
    target = Target(str(path))
    yield target
    target.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DigestStore]:
    (tmp_path / "index").mkdir()
    store = DigestStore(tmp_path / "index", Algorithm.BLAKE3, KEY, BLOCK, SIZE, fresh=True)
    yield store
    store.close()


@pytest.fixture
def writer(crew: Crew, target: Target, store: DigestStore, asked: Asked) -> Writer:
    geometry = Geometry(SIZE, BLOCK)
    return Writer(crew, target, Settler(target, store, geometry, DIGESTS), geometry, DIGESTS, asked)


def data(*blocks: int) -> Data:
    content = [b"new!" + bytes(BLOCK - 4) for _ in blocks]
    return Data(blocks, DIGESTS([memoryview(each) for each in content]), b"".join(content))


def test_nothing_is_written_before_it_is_allowed(writer: Writer, asked: Asked, path: Path) -> None:
    writer.data(data(0, 1))
    writer.data(data(7))
    writer.settle()
    assert asked.sizes == [2 * BLOCK, BLOCK]
    assert asked.seen == [0, 2], "what was allowed before is on the device when it is asked again"
    assert path.read_bytes().count(b"new!") == 3


def test_what_is_not_allowed_is_not_written(writer: Writer, asked: Asked, path: Path) -> None:
    asked.left = BLOCK
    writer.data(data(0))
    with pytest.raises(SyncFailed):
        writer.data(data(1))
    assert path.read_bytes().count(b"new!") == 1


def test_zeros_are_asked_for_in_pieces(writer: Writer, asked: Asked, path: Path) -> None:
    asked.left = 2 * SETTLE_AT
    with pytest.raises(SyncFailed):
        writer.zeros([(0, SIZE // BLOCK)])
    assert asked.sizes == [SETTLE_AT, SETTLE_AT]
    content = path.read_bytes()
    assert not content[: 2 * SETTLE_AT].strip(b"\0")
    assert content[2 * SETTLE_AT :].startswith((b"old", b"ldo", b"dol"))
