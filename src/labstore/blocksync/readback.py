"""Reading back: what was written is read from the device, many places at once, and compared."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from labstore.blocksync.aio import Queue, Request
from labstore.blocksync.buffers import Buffer, Piece
from labstore.blocksync.devices import PAGE, Target
from labstore.blocksync.digests import FAN, BlockHasher, differences
from labstore.blocksync.messages import Geometry
from labstore.reports.blocksync import SyncFailed
from labstore.reports.blocksync_target import ReadBackDiffers

Expected = tuple[Piece, bytes]
"""Blocks, and the digests that they have to have."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """Blocks that are read into a buffer, `at` blocks from its beginning."""

    piece: Piece
    digests: bytes
    at: int


@dataclass(frozen=True, slots=True)
class _Room:
    """A buffer, and where it lies in memory."""

    buffer: Buffer
    address: int


class ReadBack:
    """Compares what is on the device. Raises SyncFailed. For one thread at a time."""

    def __init__(self, target: Target, geometry: Geometry, digests: BlockHasher) -> None:
        self._target, self._geometry, self._digests = target, geometry, digests
        self._rooms = [_room(geometry) for _ in range(2)]
        self._queue = _queue() if target.direct else None

    def close(self) -> None:
        """Little will be read any more, and that one place after the other. Nobody waits here for the kernel, which
        takes a grace period (tens of milliseconds) to put a queue away."""
        queue, self._queue = self._queue, None
        if queue is not None:
            threading.Thread(target=queue.close, name="queue", daemon=True).start()

    def check(self, expected: Sequence[Expected]) -> None:
        """Read all of these back; the first that is not what it has to be is raised."""
        for lot, room in self._filled(expected):
            for each in lot:
                self._compare(each, room)

    def on_device(self, piece: Piece) -> bytes:
        """The digests of what the device has there now."""
        placed, room = _Placed(piece, b"", 0), self._rooms[0]
        self._read(placed, room)
        return self._digests(room.buffer.blocks(piece, self._geometry))

    def _compare(self, placed: _Placed, room: _Room) -> None:
        piece = placed.piece
        found = self._digests(room.buffer.blocks(piece, self._geometry, placed.at))
        if found != placed.digests:
            offset = (piece.start + next(differences(found, placed.digests))) * self._geometry.block_size
            raise SyncFailed(ReadBackDiffers(self._target.path, offset))
        self._target.let_go(*self._bytes(piece))

    def _filled(self, expected: Sequence[Expected]) -> Iterator[tuple[list[_Placed], _Room]]:
        """As many of them at a time as a buffer holds, with that buffer. The next ones are read meanwhile."""
        lots = zip(_lots(expected), cycle(self._rooms), strict=False)
        lot = self._begun(next(lots, None))
        try:
            while lot is not None:
                self._ended(*lot)
                following = self._begun(next(lots, None))
                yield lot
                lot = following
        finally:
            if self._queue is not None:
                self._queue.wait()

    def _begun(self, lot: tuple[list[_Placed], _Room] | None) -> tuple[list[_Placed], _Room] | None:
        file = self._target.direct_file
        if lot is not None and self._queue is not None and file is not None:
            placed, room = lot
            self._queue.begin(file, [self._request(each, room) for each in placed])
        return lot

    def _ended(self, lot: list[_Placed], room: _Room) -> None:
        """Wait for them. What the kernel did not read at once is read here, which also says what is wrong with it."""
        came = self._queue.wait() if self._queue is not None else {}
        for number, each in enumerate(lot):
            if came.get(number, -1) < self._bytes(each.piece)[1]:
                self._read(each, room)

    def _request(self, placed: _Placed, room: _Room) -> Request:
        offset, length = self._bytes(placed.piece)
        return Request(room.address + placed.at * self._geometry.block_size, -(-length // PAGE) * PAGE, offset)

    def _read(self, placed: _Placed, room: _Room) -> None:
        offset, length = self._bytes(placed.piece)
        self._target.read_device(room.buffer.view[placed.at * self._geometry.block_size :], length, offset)

    def _bytes(self, piece: Piece) -> tuple[int, int]:
        """From where on, and how many."""
        offset = piece.start * self._geometry.block_size
        return offset, min(piece.count * self._geometry.block_size, self._geometry.size - offset)


def _room(geometry: Geometry) -> _Room:
    buffer = Buffer(geometry.block_size)
    return _Room(buffer, ctypes.addressof(ctypes.c_char.from_buffer(buffer.view)))


def _queue() -> Queue | None:
    """None where the kernel has none for us: then one place is read after the other."""
    try:
        return Queue(FAN)
    except OSError:
        return None


def _lots(expected: Sequence[Expected]) -> Iterator[list[_Placed]]:
    """As many at a time as a buffer holds."""
    lot, at = list[_Placed](), 0
    for piece, digests in expected:
        if at + piece.count > FAN:
            yield lot
            lot, at = [], 0
        lot.append(_Placed(piece, digests, at))
        at += piece.count
    if lot:
        yield lot
