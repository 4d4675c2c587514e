"""Writing to the target: nothing before its digest was checked, nothing believed before it was read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labstore.blocksync.buffers import Buffer, Piece, cut, whole_blocks
from labstore.blocksync.channel import broken
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import SIZE, BlockHasher, differences
from labstore.blocksync.messages import Data, Geometry, Range
from labstore.blocksync.store import DigestStore
from labstore.reports.blocksync import SyncFailed
from labstore.reports.blocksync_target import ReadBackDiffers

SETTLE_AT = 32 << 20
"""Bytes written after which they are brought to the device and read back."""
_ZEROS_AT = 8 << 30
"""Zeroed bytes after which the same is done."""


class Writer:
    """Takes blocks in any order. `settled` blocks are on stable storage, were read back, and stand in the store.
    `allow` is asked before anything is written: see ports.block_engine.Order.

    Raises SyncFailed.
    """

    def __init__(
        self,
        target: Target,
        store: DigestStore,
        geometry: Geometry,
        digests: BlockHasher,
        allow: Callable[[int], int] | None = None,
    ) -> None:
        self._target, self._store, self._geometry, self._digests = target, store, geometry, digests
        self._allow, self._allowed = allow, 0
        self._written: list[tuple[int, bytes]] = []
        self._zeroed: list[Range] = []
        self._buffer = Buffer(geometry.block_size)
        self.written = self.zeroed = 0
        """Blocks, over the whole run."""

    def data(self, data: Data) -> None:
        """Write these blocks."""
        blocks = _cut(memoryview(data.content), self._geometry.block_size)
        if self._digests(blocks) != data.digests:
            raise broken("data whose digests do not fit")
        self._ask(len(data.content))
        for first, last in _rows(data.blocks):
            self._target.write(blocks[first:last], data.blocks[first] * self._geometry.block_size)
        self._written += [(block, data.digests[at * SIZE : at * SIZE + SIZE]) for at, block in enumerate(data.blocks)]
        self.written += len(blocks)
        if len(self._written) * self._geometry.block_size >= SETTLE_AT:
            self.settle()

    def zeros(self, ranges: Sequence[Range]) -> None:
        """Make these blocks zeros."""
        size = self._geometry.block_size
        for start, count in self._pieces_of(ranges):
            self._ask(count * size)
            self._target.zero(start * size, min(count * size, self._geometry.size - start * size))
            self._zeroed.append((start, count))
            self.zeroed += count
        if sum(count for _, count in self._zeroed) * size >= _ZEROS_AT:
            self.settle()

    def _pieces_of(self, ranges: Sequence[Range]) -> Iterator[Range]:
        """Where somebody has to be asked, no more at a time than is written between two settlings."""
        most = SETTLE_AT // self._geometry.block_size if self._allow else self._geometry.blocks
        for start, count in ranges:
            for at in range(start, start + count, most):
                yield at, min(most, start + count - at)

    def _ask(self, size: int) -> None:
        """What is asked looks at what is on the device, so that has to be all."""
        if self._allow is not None and self._allowed < size:
            self.settle()
            self._allowed = self._allow(size)
        self._allowed -= size

    def settle(self) -> None:
        """Bring what was written to the device, read it back from there, and enter its digests."""
        if not self._written and not self._zeroed:
            return
        self._target.sync()
        self._written.sort()
        for piece, digests in self._pieces():
            self._check(piece, digests)
            self._store.put(piece.start, digests)
        for start, count in self._zeroed:
            self._check_zeros(start, count)
            self._store.put_zeros(start, count)
        self._written, self._zeroed = [], []

    def _pieces(self) -> Iterator[tuple[Piece, bytes]]:
        numbers = [block for block, _ in self._written]
        for first, last in _rows(numbers):
            for piece in cut(numbers[first], last - first, data=True):
                at = first + piece.start - numbers[first]
                yield piece, b"".join(digest for _, digest in self._written[at : at + piece.count])

    def _check(self, piece: Piece, digests: bytes) -> None:
        found = self.on_device(piece)
        if found != digests:
            offset = (piece.start + next(differences(found, digests))) * self._geometry.block_size
            raise SyncFailed(ReadBackDiffers(self._target.path, offset))
        start = piece.start * self._geometry.block_size
        self._target.let_go(start, piece.count * self._geometry.block_size)

    def _check_zeros(self, start: int, count: int) -> None:
        size = self._geometry.block_size
        end = min((start + count) * size, self._geometry.size)
        for piece in whole_blocks(self._target.extents(start * size, end), self._geometry):
            if piece.data:
                self._check(piece, bytes(piece.count * SIZE))

    def on_device(self, piece: Piece) -> bytes:
        """The digests of what the device has there now."""
        start = piece.start * self._geometry.block_size
        end = min(start + piece.count * self._geometry.block_size, self._geometry.size)
        self._target.read_device(self._buffer.view, end - start, start)
        return self._digests(self._buffer.blocks(piece, self._geometry))


def _cut(content: memoryview, size: int) -> list[memoryview]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def _rows(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The stretches of consecutive numbers: first index and the one after the last."""
    first = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            yield first, at
            first = at
