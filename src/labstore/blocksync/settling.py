"""Settling: what was written is brought to the device, read back from there, and only then believed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from labstore.blocksync.buffers import Piece, cut, whole_blocks
from labstore.blocksync.crew import Crew, Lane
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import SIZE, BlockHasher
from labstore.blocksync.messages import Geometry, Range
from labstore.blocksync.readback import Expected, ReadBack
from labstore.blocksync.store import DigestStore


@dataclass
class Batch:
    """Blocks that were written, with their digests, and ranges that were made zeros."""

    written: list[tuple[int, bytes]] = field(default_factory=list)
    zeroed: list[Range] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.written or self.zeroed)


class Settler:
    """Settles one batch at a time. Raises SyncFailed."""

    def __init__(self, target: Target, store: DigestStore, geometry: Geometry, digests: BlockHasher) -> None:
        self._target, self._store, self._geometry = target, store, geometry
        self._read_back = ReadBack(target, geometry, digests)

    def settle(self, batch: Batch) -> None:
        """What is in it is on stable storage, was read back, and stands in the store."""
        self._target.sync()
        written = list(_pieces(sorted(batch.written)))
        self._read_back.check(written)
        for piece, digests in written:
            self._store.put(piece.start, digests)
        for start, count in batch.zeroed:
            self._read_back.check(list(self._zeros(start, count)))
            self._store.put_zeros(start, count)

    def _zeros(self, start: int, count: int) -> Iterator[Expected]:
        """What has to be read of these; a hole need not."""
        size = self._geometry.block_size
        end = min((start + count) * size, self._geometry.size)
        for piece in whole_blocks(self._target.extents(start * size, end), self._geometry):
            if piece.data:
                yield piece, bytes(piece.count * SIZE)

    def on_device(self, piece: Piece) -> bytes:
        """The digests of what the device has there now. Not while a batch is being settled."""
        return self._read_back.on_device(piece)

    def close(self) -> None:
        """All is settled, or will not be; what may still come takes longer."""
        self._read_back.close()


class Settling:
    """A thread of a crew that settles while more is being written. What it has not settled when the crew ends is kept
    for `rest`."""

    def __init__(self, crew: Crew, settler: Settler) -> None:
        self._settler = settler
        self._unsettled = deque[Batch]()
        self._batches: Lane[Batch | None] = crew.lane(1)
        self._nothing_left: Lane[None] = crew.lane(1)
        crew.start("settling", self._work)

    @property
    def idle(self) -> bool:
        return not self._unsettled

    def put(self, batch: Batch) -> None:
        """Settle this some time. Waits where that is too slow for what comes in."""
        self._unsettled.append(batch)
        self._batches.put(batch)

    def wait(self) -> None:
        """Until all of it is settled."""
        if not self.idle:
            self._batches.put(None)
            self._nothing_left.get()

    def rest(self, more: Batch) -> None:
        """Settle here what is left, and this, now that the crew has ended."""
        if more:
            self._unsettled.append(more)
        while self._unsettled:
            self._settler.settle(self._unsettled[0])
            self._unsettled.popleft()

    def _work(self) -> None:
        while True:
            batch = self._batches.get()
            if batch is None:
                self._nothing_left.put(None)
            else:
                self._settler.settle(batch)
                self._unsettled.popleft()


def _pieces(written: Sequence[tuple[int, bytes]]) -> Iterator[Expected]:
    """Blocks in rising order as pieces, with their digests."""
    numbers = [block for block, _ in written]
    for first, last in rows(numbers):
        for piece in cut(numbers[first], last - first, data=True):
            at = first + piece.start - numbers[first]
            yield piece, b"".join(digest for _, digest in written[at : at + piece.count])


def rows(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The stretches of consecutive numbers: first index and the one after the last."""
    first = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            yield first, at
            first = at
