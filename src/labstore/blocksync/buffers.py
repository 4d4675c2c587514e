"""Buffers that are made once and used again, each at the start of a page and cut into blocks once and for all; and
the readers that fill them."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from labstore.blocksync.crew import Crew, Lane
from labstore.blocksync.devices import Extent
from labstore.blocksync.digests import FAN
from labstore.blocksync.messages import Geometry

AHEAD = 4
"""Buffers per reader: what may be read before it is needed."""
MOST = 4 * AHEAD
"""Pieces that may wait behind one that is being read."""


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


Read = Callable[[memoryview, int, int, bool], None]
"""Fills the first so many bytes of a buffer from an offset on, which were found at hand or were not."""


@dataclass(slots=True)
class _Slot:
    """Pieces that are read together, into a buffer. `far`: by a thread, since they have to come from the device."""

    pieces: list[Piece]
    far: bool
    buffer: Buffer
    full: bool = False
    error: BaseException | None = None

    def places(self) -> Iterator[tuple[Piece, int]]:
        """Each piece with data, and at which block of the buffer it lies; -1 for one without."""
        at = 0
        for piece in self.pieces:
            yield piece, at if piece.data else -1
            at += piece.count if piece.data else 0


class Readers:
    """Reads pieces. Iterate over it: each piece in order with its blocks (None where it has no data), which are good
    until the next piece is asked for.

    What is `at_hand` is read when its turn comes, by whoever iterates: to copy memory in another thread would cost
    more than it saves. The rest is read ahead by `count` threads.
    """

    def __init__(
        self,
        crew: Crew,
        name: str,
        pieces: Iterable[Piece],
        geometry: Geometry,
        read: Read,
        at_hand: Callable[[int, int], bool] = lambda _offset, _length: False,
        count: int = 2,
    ) -> None:
        self._pieces, self._geometry, self._read, self._at_hand = pieces, geometry, read, at_hand
        self._near = Buffer(geometry.block_size)
        self._free = [Buffer(geometry.block_size) for _ in range(AHEAD)]
        self._asked: Lane[_Slot] = crew.lane(AHEAD)
        self._filled: Lane[_Slot] = crew.lane(AHEAD)
        for number in range(count):
            crew.start(f"{name}-{number}", self._work)

    def _work(self) -> None:
        while True:
            slot = self._asked.get()
            try:
                self._fill(slot)
            except BaseException as error:  # noqa: BLE001 - raised again where the piece is waited for
                slot.error = error
            self._filled.put(slot)

    def _fill(self, slot: _Slot) -> None:
        for piece, at in slot.places():
            if piece.data:
                offset, length = self._bytes(piece)
                self._read(slot.buffer.view[at * self._geometry.block_size :], length, offset, not slot.far)

    def _bytes(self, piece: Piece) -> tuple[int, int]:
        """From where on, and how many."""
        size = self._geometry.block_size
        return piece.start * size, min(piece.count * size, self._geometry.size - piece.start * size)

    def __iter__(self) -> Iterator[tuple[Piece, list[memoryview] | None]]:
        ahead = deque[_Slot]()
        for pieces, far in self._gathered():
            while far and not self._free:
                yield from self._out(ahead.popleft())
            slot = _Slot(pieces, far, self._free.pop() if far else self._near)
            if far:
                self._asked.put(slot)
            ahead.append(slot)
            while ahead and (len(ahead) > MOST or not ahead[0].far):
                yield from self._out(ahead.popleft())
        for slot in ahead:
            yield from self._out(slot)

    def _gathered(self) -> Iterator[tuple[list[Piece], bool]]:
        """Pieces that are far as many at a time as one buffer holds, since threads hand over a buffer at a time and
        not single blocks; one that is near alone."""
        far, room = list[Piece](), FAN
        for piece in self._pieces:
            near = not piece.data or self._at_hand(*self._bytes(piece))
            if far and (len(far) == FAN or (piece.data and (near or piece.count > room))):
                yield far, True
                far, room = [], FAN
            if near and not far:
                yield [piece], False
            else:
                far.append(piece)
                room -= piece.count if piece.data else 0
        if far:
            yield far, True

    def _out(self, slot: _Slot) -> Iterator[tuple[Piece, list[memoryview] | None]]:
        if not slot.far:
            self._fill(slot)
        while slot.far and not slot.full:
            self._filled.get().full = True
        if slot.error is not None:
            raise slot.error
        for piece, at in slot.places():
            yield piece, slot.buffer.blocks(piece, self._geometry, at) if piece.data else None
        if slot.far:
            self._free.append(slot.buffer)


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
