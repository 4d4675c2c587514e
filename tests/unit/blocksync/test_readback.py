"""Many places are read at once, by the kernel where it does that for us and one after the other where it does not;
what is found is the same."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.aio import Queue, Request
from labstore.blocksync.buffers import Piece, cut
from labstore.blocksync.devices import PAGE, Target
from labstore.blocksync.digests import FAN, block_hasher
from labstore.blocksync.messages import Geometry
from labstore.blocksync.readback import Expected, ReadBack
from labstore.model.block_sync import Algorithm
from labstore.reports.blocksync import ReadFailed, SyncFailed
from labstore.reports.blocksync_target import ReadBackDiffers

BLOCK = 16384
GEOMETRY = Geometry(1000 * BLOCK + 700, BLOCK)
DIGESTS = block_hasher(Algorithm.BLAKE3, bytes(32), BLOCK)


@pytest.fixture
def content() -> bytes:
    return random.Random(1).randbytes(GEOMETRY.size)


@pytest.fixture
def target(tmp_path: Path, content: bytes) -> Iterator[Target]:
    path = tmp_path / "target"
    path.write_bytes(content)
    made = Target(str(path))
    made.sync()
    if not made.direct:
        pytest.skip("this file system cannot be read around the page cache")
    yield made
    made.close()


@pytest.fixture(params=["by the kernel", "one after the other"])
def reading(request: pytest.FixtureRequest, target: Target) -> Iterator[ReadBack]:
    made = ReadBack(target, GEOMETRY, DIGESTS)
    assert made._queue is not None
    if request.param == "one after the other":
        made.close()
    yield made
    made.close()


def expected(content: bytes, pieces: list[Piece]) -> list[Expected]:
    def of(block: int) -> memoryview:
        return memoryview(content)[block * BLOCK : (block + 1) * BLOCK]

    return [(piece, DIGESTS([of(piece.start + at) for at in range(piece.count)])) for piece in pieces]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_there_is_found_whatever_its_pieces(reading: ReadBack, content: bytes, seed: int) -> None:
    chance, pieces, at = random.Random(seed), list[Piece](), 0
    while at < GEOMETRY.blocks:
        count = min(chance.choice((1, 1, 1, 2, 7, 64, 200)), GEOMETRY.blocks - at)
        pieces += cut(at, count, data=True)
        at += count + chance.choice((0, 1, 30))
    reading.check(expected(content, pieces))
    reading.check(expected(content, pieces[::-1]))
    assert reading.on_device(Piece(1000, 1)) == expected(content, [Piece(1000, 1)])[0][1]


@pytest.mark.parametrize("bad", [0, 63, 64, 129, 999, 1000])
def test_one_block_that_is_another_is_found(reading: ReadBack, content: bytes, target: Target, bad: int) -> None:
    wanted = expected(content, [Piece(block, 1) for block in range(GEOMETRY.blocks)])
    target.write([memoryview(b"x")], bad * BLOCK + 5)
    target.sync()
    for _ in range(2):  # and nothing is left under way by the first
        with pytest.raises(SyncFailed) as failed:
            reading.check(wanted)
        assert failed.value.report == ReadBackDiffers(target.path, bad * BLOCK)
    reading.check([each for each in wanted if each[0].start != bad])


def test_what_cannot_be_read_is_said(reading: ReadBack, content: bytes, target: Target) -> None:
    target.resize(500 * BLOCK)
    with pytest.raises(SyncFailed) as failed:
        reading.check(expected(content, [Piece(block, 1) for block in range(GEOMETRY.blocks)]))
    assert isinstance(failed.value.report, ReadFailed)
    assert failed.value.report.offset == 500 * BLOCK
    reading.check(expected(content, [Piece(3, 64), Piece(70, 2)]))


def test_a_kernel_that_never_says_what_came_is_not_needed(reading: ReadBack, content: bytes) -> None:
    """A filter of system calls may let reads begin and forbid to ask for them."""
    if reading._queue is not None:
        reading._queue._calls = {**reading._queue._calls, "getevents": 1 << 20}
    for _ in range(2):
        reading.check(expected(content, [Piece(block, 1) for block in range(GEOMETRY.blocks)]))


# --- the queue itself -------------------------------------------------------------------------------------------------


def test_requests_are_answered_by_their_numbers(target: Target, content: bytes) -> None:
    memory, file = mmap.mmap(-1, FAN * PAGE), target.direct_file
    assert file is not None
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offsets = random.Random(2).sample(range(0, GEOMETRY.size - PAGE, PAGE), FAN)
    queue = Queue(FAN)
    try:
        queue.begin(file, [Request(address + n * PAGE, PAGE, offset) for n, offset in enumerate(offsets)])
        assert queue.wait() == dict.fromkeys(range(FAN), PAGE)
        assert bytes(memory) == b"".join(content[offset : offset + PAGE] for offset in offsets)
        assert queue.wait() == {}, "nothing is under way"
        end = GEOMETRY.size // PAGE * PAGE
        queue.begin(file, [Request(address, PAGE, end), Request(address + PAGE, PAGE, end + PAGE)])
        assert queue.wait() == {0: GEOMETRY.size - end, 1: 0}, "a file ends where it ends"
        queue.begin(file, [Request(address, PAGE, 0), Request(address + 1, PAGE, 0), Request(address, PAGE, PAGE)])
        came = queue.wait()
        assert {0, 2} <= came.keys(), "what is asked wrongly costs nothing that was asked besides"
        assert set(came.values()) == {PAGE}, "and has read nothing"
    finally:
        queue.close()
        queue.close()


def test_a_file_that_is_not_open_answers_nothing() -> None:
    memory = mmap.mmap(-1, PAGE)
    closed = os.dup(0)
    os.close(closed)
    queue = Queue(4)
    try:
        queue.begin(closed, [Request(ctypes.addressof(ctypes.c_char.from_buffer(memory)), PAGE, 0)])
        assert queue.wait() == {}
    finally:
        queue.close()


def test_a_queue_that_the_kernel_does_not_give_is_an_error() -> None:
    with pytest.raises(OSError, match=r"Invalid argument|unavailable|allocate memory"):
        Queue(1 << 28)
