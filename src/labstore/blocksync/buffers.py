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

AHEAD = 4
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
        self.view = memoryview(mmap.mmap(-1, FAN * block_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._blocks = [self.view[at : at + block_size] for at in range(0, len(self.view), block_size)]

    def blocks(self, piece: Piece, geometry: Geometry, at: int = 0) -> list[memoryview]:
        """The blocks of a piece that lies in this buffer, `at` blocks from its beginning."""
        end = at + piece.count
        short = geometry.length(piece.start + piece.count - 1)
        if short == geometry.block_size:
            return self._blocks if piece.count == FAN else self._blocks[at:end]
        return [*self._blocks[at : end - 1], self._blocks[end - 1][:short]]


@dataclass(slots=True)
class _Slot:
    """Pieces that are read together, as many as one buffer holds."""

    pieces: list[Piece]
    buffer: Buffer | None
    done: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None

    def places(self) -> Iterator[tuple[Piece, int]]:
        """Each piece with data, and at which block of the buffer it lies; -1 for one without."""
        at = 0
        for piece in self.pieces:
            yield piece, at if piece.data else -1
            at += piece.count if piece.data else 0


class Readers:
    """Reads pieces ahead, in order, with `count` threads. Iterate over it: each piece with its blocks (None where it
    has no data), which are good until the next piece is asked for."""

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
        self._held: Piece | None = None
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
                    self._fill(slot, slot.buffer)
            except BaseException as error:  # noqa: BLE001 - raised again where the piece is waited for
                slot.error = error
            finally:
                slot.done.release()

    def _fill(self, slot: _Slot, buffer: Buffer) -> None:
        size = self._geometry.block_size
        for piece, at in slot.places():
            if piece.data:
                start = piece.start * size
                end = min(start + piece.count * size, self._geometry.size)
                self._read(buffer.view[at * size :], end - start, start)

    def _next(self) -> _Slot | None:
        """The next pieces with a buffer for them, entered in order; None at the end."""
        with self._turn:
            try:
                pieces = self._some()
            except BaseException as error:  # noqa: BLE001 - as above
                slot = _Slot([], None, error=error)
                self._ready.put(slot)
                return None
            if not pieces:
                self._left -= 1
                if not self._left:
                    self._ready.put(None)
                return None
            slot = _Slot(pieces, self._free.get() if any(piece.data for piece in pieces) else None)
            slot.done.acquire()
            self._ready.put(slot)
            return slot

    def _some(self) -> list[Piece]:
        """Pieces that fit one buffer: threads hand over a buffer at a time, not single blocks."""
        taken, room = list[Piece](), FAN
        while room and len(taken) < FAN:
            piece, self._held = self._held or next(self._pieces, None), None
            if piece is None:
                break
            needed = piece.count if piece.data else 0
            if needed > room:
                self._held = piece
                break
            taken.append(piece)
            room -= needed
        return taken

    def __iter__(self) -> Iterator[tuple[Piece, list[memoryview] | None]]:
        while (slot := self._ready.get()) is not None:
            with slot.done:
                pass
            if slot.error is not None:
                raise slot.error
            for piece, at in slot.places():
                yield piece, slot.buffer.blocks(piece, self._geometry, at) if slot.buffer and piece.data else None
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
