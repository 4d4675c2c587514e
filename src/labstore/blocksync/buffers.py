"""Buffers that are made once and used again, each at the start of a page and cut into blocks once and for all; and
the readers that fill them ahead of whoever needs them."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from labstore.blocksync.crew import Crew, Lane
from labstore.blocksync.devices import Extent
from labstore.blocksync.digests import FAN
from labstore.blocksync.messages import Geometry

AHEAD = 6
"""Buffers per reader: what may be read before it is needed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some blocks in a row, at most 64. `data` False: they are zeros, nobody need read them; such a piece may be
    longer. `sample`: it is looked at only to see whether nothing changed there."""

    start: int
    count: int
    data: bool = True
    sample: bool = False


class Buffer:
    """Room for the blocks of one piece."""

    def __init__(self, block_size: int) -> None:
        self.view = memoryview(mmap.mmap(-1, FAN * block_size))
        self._blocks = [self.view[at : at + block_size] for at in range(0, len(self.view), block_size)]

    def blocks(self, piece: Piece, geometry: Geometry) -> list[memoryview]:
        """The blocks of a piece that lies in this buffer."""
        last = piece.start + piece.count - 1
        short = geometry.length(last)
        if short == geometry.block_size:
            return self._blocks if piece.count == FAN else self._blocks[: piece.count]
        return [*self._blocks[: piece.count - 1], self._blocks[piece.count - 1][:short]]


@dataclass(slots=True)
class _Slot:
    piece: Piece
    buffer: Buffer | None
    done: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None


class Readers:
    """Reads pieces ahead, in order, with `count` threads. Iterate over it: each piece with the buffer that holds it
    (None where it has no data); the buffer is taken back when the next piece is asked for."""

    def __init__(
        self,
        crew: Crew,
        name: str,
        pieces: Iterable[Piece],
        geometry: Geometry,
        read: Callable[[memoryview, int, int], None],
        count: int = 2,
    ) -> None:
        self._geometry, self._read, self._pieces = geometry, read, iter(pieces)
        self._turn = threading.Lock()
        self._free: Lane[Buffer] = crew.lane(AHEAD)
        self._ready: Lane[_Slot | None] = crew.lane(4 * AHEAD)
        for _ in range(AHEAD):
            self._free.put(Buffer(geometry.block_size))
        self._left = count
        for number in range(count):
            crew.start(f"{name}-{number}", self._work)

    def _work(self) -> None:
        while (slot := self._next()) is not None:
            try:
                if slot.buffer is not None:
                    start = slot.piece.start * self._geometry.block_size
                    end = min(start + slot.piece.count * self._geometry.block_size, self._geometry.size)
                    self._read(slot.buffer.view, end - start, start)
            except BaseException as error:  # noqa: BLE001 - raised again where the piece is waited for
                slot.error = error
            finally:
                slot.done.release()

    def _next(self) -> _Slot | None:
        """The next piece with a buffer for it, entered in order; None at the end."""
        with self._turn:
            try:
                piece = next(self._pieces, None)
            except BaseException as error:  # noqa: BLE001 - as above
                slot = _Slot(Piece(0, 0), None, error=error)
                self._ready.put(slot)
                return None
            if piece is None:
                self._left -= 1
                if not self._left:
                    self._ready.put(None)
                return None
            slot = _Slot(piece, self._free.get() if piece.data else None)
            slot.done.acquire()
            self._ready.put(slot)
            return slot

    def __iter__(self) -> Iterator[tuple[Piece, Buffer | None]]:
        while (slot := self._ready.get()) is not None:
            with slot.done:
                pass
            if slot.error is not None:
                raise slot.error
            yield slot.piece, slot.buffer
            if slot.buffer is not None:
                self._free.put(slot.buffer)


def whole_blocks(extents: Iterable[Extent], geometry: Geometry) -> Iterator[Piece]:
    """Extents in bytes as pieces in blocks: a block with any data in it is data."""
    size, done = geometry.block_size, 0
    for first, end, data in extents:
        if data:
            start, upto = first // size, -(-end // size)
        else:
            start, upto = -(-first // size), geometry.blocks if end >= geometry.size else end // size
        start = max(start, done)
        if start < upto:
            yield from cut(start, upto - start, data)
            done = upto


def cut(start: int, count: int, data: bool, most_empty: int = 4096) -> Iterator[Piece]:
    """Blocks in a row as pieces: data within groups of 64, emptiness within groups of 4096."""
    group = FAN if data else most_empty
    end = start + count
    while start < end:
        upto = min((start // group + 1) * group, end)
        yield Piece(start, upto - start, data)
        start = upto
