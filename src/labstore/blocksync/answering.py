"""The target's own reading: telling the source what digests it has, and looking whether it still is what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labstore.blocksync.buffers import Piece, Readers, whole_blocks
from labstore.blocksync.channel import Channel
from labstore.blocksync.crew import Crew
from labstore.blocksync.devices import Device
from labstore.blocksync.digests import SIZE, BlockHasher, Bytes
from labstore.blocksync.messages import Geometry, Range, pack_digests, pack_ranges
from labstore.blocksync.store import DigestStore
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import Kind

_SENT_AT_ONCE = 4096
"""Digests in one frame, from the index."""
_READ_AT_ONCE = 1024
"""Digests in one frame, from reading: fewer, so that the source need not wait long."""


@dataclass(frozen=True)
class Looking:
    """What looks at a target needs."""

    crew: Crew
    channel: Channel
    throttle: Throttle
    device: Device
    store: DigestStore
    geometry: Geometry
    digests: BlockHasher

    def read(self, view: memoryview, length: int, offset: int, at_hand: bool) -> None:
        self.throttle.reading(length)
        self.device.read(view, length, offset, at_hand)

    def read_device(self, view: memoryview, length: int, offset: int, _at_hand: bool) -> None:
        self.throttle.reading(length)
        self.device.read_device(view, length, offset)

    def send(self, kind: Kind, *parts: Bytes) -> None:
        self.throttle.sending(sum(map(len, parts)))
        self.channel.send(kind, *parts)


class Telling:
    """Sends the digests of all blocks in order: of the first `known` from the store, of the rest from reading them,
    which enters them into the store. `known` grows as it goes."""

    def __init__(self, looking: Looking, known: int) -> None:
        self._looking, self.known = looking, known
        self._gathered: list[bytes] = []
        self._start = known

    def run(self) -> None:
        for start in range(0, self.known, _SENT_AT_ONCE):
            self._stored(start, min(_SENT_AT_ONCE, self.known - start))
        looking, begin = self._looking, self.known * self._looking.geometry.block_size
        pieces = whole_blocks(looking.device.extents(begin, looking.geometry.size), looking.geometry)
        at_hand = looking.device.at_hand
        for piece, blocks in Readers(looking.crew, "target-reader", pieces, looking.geometry, looking.read, at_hand):
            if blocks is None:
                self._empty(piece)
            else:
                self._read(piece, looking.digests(blocks))
        self._flush()

    def _stored(self, start: int, count: int) -> None:
        digests = self._looking.store.get(start, count)
        if digests.strip(b"\0"):
            self._looking.send(Kind.DIGESTS, *pack_digests(start, digests))
        else:
            self._looking.send(Kind.NOTHING, pack_ranges([(start, count)]))

    def _empty(self, piece: Piece) -> None:
        self._flush()
        self._looking.store.put_zeros(piece.start, piece.count)
        self._looking.send(Kind.NOTHING, pack_ranges([(piece.start, piece.count)]))
        self.known = self._start = piece.start + piece.count

    def _read(self, piece: Piece, digests: bytes) -> None:
        self._looking.store.put(piece.start, digests)
        self._gathered.append(digests)
        self.known = piece.start + piece.count
        if self.known - self._start >= _READ_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._looking.send(Kind.DIGESTS, *pack_digests(self._start, b"".join(self._gathered)))
            self._gathered = []
        self._start = self.known


@dataclass(frozen=True)
class Suspect:
    """Blocks that were not what the store said when they were scrubbed. They may have been written just then."""

    piece: Piece


@dataclass(frozen=True)
class Scrubbed:
    """A scrub is over: bytes read, and the block at which the next one goes on."""

    bytes: int
    next: int


class Scrub:
    """Reads `count` blocks from `start` on (and from the beginning after the end) from the device, and tells of those
    that are not what the store says."""

    def __init__(self, looking: Looking, start: int, count: int, tell: Callable[[Suspect | Scrubbed], None]) -> None:
        self._looking, self._tell = looking, tell
        blocks = looking.geometry.blocks
        start = start % blocks
        first = min(count, blocks - start)
        self._ranges: tuple[Range, ...] = ((start, first), (0, count - first))
        self._next = (start + count) % blocks

    def run(self) -> None:
        looking, read = self._looking, 0
        readers = Readers(looking.crew, "scrub", self._pieces(), looking.geometry, looking.read_device, count=1)
        for piece, blocks in readers:
            found = bytes(piece.count * SIZE) if blocks is None else looking.digests(blocks)
            read += piece.count * looking.geometry.block_size
            if found != looking.store.get(piece.start, piece.count):
                self._tell(Suspect(piece))
        self._tell(Scrubbed(read, self._next))

    def _pieces(self) -> Iterator[Piece]:
        size = self._looking.geometry.block_size
        for start, count in self._ranges:
            end = min((start + count) * size, self._looking.geometry.size)
            yield from whole_blocks(self._looking.device.extents(start * size, end), self._looking.geometry)
