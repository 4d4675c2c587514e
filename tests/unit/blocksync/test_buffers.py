"""Pieces come in order with what is there, whether they are near or far, and what goes wrong is heard of."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from labstore.blocksync.buffers import Piece, Readers, cut
from labstore.blocksync.crew import Crew, Stopped
from labstore.blocksync.digests import FAN
from labstore.blocksync.messages import Geometry
from tests.support.hang import HANGS

SIZE = 4096
GEOMETRY = Geometry(5000 * SIZE - 100, SIZE)


@pytest.fixture
def crew(crew: Crew) -> Iterator[Crew]:
    """In which nothing goes wrong."""
    yield crew
    crew.stop()
    crew.wait()
    assert crew.error is None


def read(view: memoryview, length: int, offset: int, _near: bool) -> None:
    """A device whose every block is full of its own number."""
    for at in range(0, length, SIZE):
        view[at : min(at + SIZE, length)] = content((offset + at) // SIZE)


def content(block: int) -> bytes:
    return (block.to_bytes(4) * (SIZE // 4))[: GEOMETRY.length(block)]


def near(offset: int, _length: int) -> bool:
    """Some stretches are in memory, others not, many of either with holes among them."""
    return offset // (90 * SIZE) % 3 == 0


def pieces(chance: random.Random) -> Iterator[Piece]:
    at = 0
    while at < GEOMETRY.blocks:
        count = min(chance.choice((1, 1, 2, 3, 40, 200)), GEOMETRY.blocks - at)
        yield from cut(at, count, chance.random() < 0.7, most_empty=100)
        at += count


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("threads", [1, 2])
def test_all_pieces_come_in_order_with_their_blocks(crew: Crew, seed: int, threads: int) -> None:
    given = list(pieces(random.Random(seed)))
    came = []
    for piece, blocks in Readers(crew, "test", given, GEOMETRY, read, near, threads):
        came.append(piece)
        assert (blocks is not None) == piece.data
        if blocks is not None:
            assert [bytes(each) for each in blocks] == [content(piece.start + at) for at in range(piece.count)]
    assert came == given


def test_what_is_at_hand_is_read_by_whoever_iterates_and_the_rest_is_not(crew: Crew) -> None:
    readers: dict[int, set[int]] = {True: set(), False: set()}

    def noted(view: memoryview, length: int, offset: int, at_hand: bool) -> None:
        assert at_hand == near(offset, length)
        readers[at_hand].add(threading.get_ident())
        read(view, length, offset, at_hand)

    given = [each for start in range(0, 4500, 90) for each in cut(start, 90, data=True)]
    assert [piece for piece, _ in Readers(crew, "test", given, GEOMETRY, noted, near)] == given
    assert readers[True] == {threading.get_ident()}
    assert readers[False]
    assert threading.get_ident() not in readers[False]


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_read_that_fails_is_raised_where_its_piece_is_due(crew: Crew, at_hand: bool) -> None:
    bad = 9 * FAN * SIZE

    def broken(view: memoryview, length: int, offset: int, at_hand: bool) -> None:
        if offset <= bad < offset + length:
            raise OSError(5, "bad")
        read(view, length, offset, at_hand)

    readers, came = Readers(crew, "test", cut(0, 4000, data=True), GEOMETRY, broken, lambda *_: at_hand), []
    with pytest.raises(OSError, match="bad"):
        for piece, _ in readers:
            came.append(piece.start)
    assert came == list(range(0, 9 * FAN, FAN))


def test_whoever_waits_for_a_piece_is_woken_when_the_crew_stops(crew: Crew) -> None:
    begun, end = threading.Event(), threading.Event()

    def stuck(_view: memoryview, _length: int, _offset: int, _at_hand: bool) -> None:
        begun.set()
        assert end.wait(HANGS)

    def stop() -> None:
        begun.wait(HANGS)
        crew.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped):
        list(Readers(crew, "test", cut(0, 4000, data=True), GEOMETRY, stuck))
    end.set()
    stopper.join(HANGS)


def test_readers_of_a_crew_that_has_stopped_end_too(crew: Crew) -> None:
    crew.stop()
    with pytest.raises(Stopped):
        list(Readers(crew, "test", cut(0, 4000, data=True), GEOMETRY, read))
