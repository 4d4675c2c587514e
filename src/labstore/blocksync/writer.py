"""Writing to the target: nothing before its digest was checked, nothing believed before it was read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labstore.blocksync.channel import broken
from labstore.blocksync.crew import Crew
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import SIZE, BlockHasher
from labstore.blocksync.messages import Data, Geometry, Range
from labstore.blocksync.settling import Batch, Settler, Settling, rows

SETTLE_AT = 32 << 20
"""Bytes written after which they are settled in any case,"""
SETTLE_SOON = 8 << 20
"""and after which they are if nothing else is being settled."""
_ZEROS_AT = 8 << 30
"""Zeroed bytes after which the same is done."""


class Writer:
    """Takes blocks in any order, each once; a thread of the crew settles them meanwhile (see settling.Settler).
    `allow` is asked before anything is written: see ports.block_engine.Order.

    Raises SyncFailed.
    """

    def __init__(
        self,
        crew: Crew,
        target: Target,
        settler: Settler,
        geometry: Geometry,
        digests: BlockHasher,
        allow: Callable[[int], int] | None = None,
    ) -> None:
        self._target, self._geometry, self._digests = target, geometry, digests
        self._allow, self._allowed = allow, 0
        self._batch = Batch()
        self.blocks = 0
        """How many were written, or made zeros."""
        self._settling = Settling(crew, settler)

    def data(self, data: Data) -> None:
        """Write these blocks."""
        blocks = _cut(memoryview(data.content), self._geometry.block_size)
        if self._digests(blocks) != data.digests:
            raise broken("data whose digests do not fit")
        self._ask(len(data.content))
        for first, last in rows(data.blocks):
            self._target.write(blocks[first:last], data.blocks[first] * self._geometry.block_size)
        self._batch.written += [
            (block, data.digests[at * SIZE : at * SIZE + SIZE]) for at, block in enumerate(data.blocks)
        ]
        self.blocks += len(data.blocks)
        written = len(self._batch.written) * self._geometry.block_size
        if written >= SETTLE_AT or (written >= SETTLE_SOON and self._settling.idle):
            self.hand_over()

    def zeros(self, ranges: Sequence[Range]) -> None:
        """Make these blocks zeros."""
        size = self._geometry.block_size
        for start, count in self._pieces_of(ranges):
            self._ask(count * size)
            self._target.zero(start * size, min(count * size, self._geometry.size - start * size))
            self._batch.zeroed.append((start, count))
            self.blocks += count
        if sum(count for _, count in self._batch.zeroed) * size >= _ZEROS_AT:
            self.hand_over()

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

    def hand_over(self) -> None:
        """Let what was written be settled. Waits only where that is too slow for what comes in."""
        if self._batch:
            batch, self._batch = self._batch, Batch()
            self._settling.put(batch)

    def settle(self) -> None:
        """All that was written is settled when this returns."""
        self.hand_over()
        self._settling.wait()

    def settle_alone(self) -> None:
        """The same when the crew has ended."""
        self._settling.rest(self._batch)
        self._batch = Batch()


def _cut(content: memoryview, size: int) -> list[memoryview]:
    return [content[at : at + size] for at in range(0, len(content), size)]
