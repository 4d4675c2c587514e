"""What the source sends: changed blocks gathered into frames, packed where that is worth it, within the limits."""

from __future__ import annotations

import time
from collections.abc import Callable

from labstore.blocksync.channel import Channel
from labstore.blocksync.crew import Crew, Lane
from labstore.blocksync.digests import Bytes
from labstore.blocksync.messages import Geometry, Message, Range, pack_data, pack_position, pack_ranges
from labstore.blocksync.meter import Meter
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import CONTENT_LIMIT, Kind

_RANGES = 4096
_EVERY = 0.25
"""Seconds between words about the position."""
_QUEUE = 6
"""Frames of up to 1 MiB that may wait to be sent."""


class Outbox:
    """Takes what differs, in rising order; a thread of its own sends it."""

    def __init__(self, crew: Crew, channel: Channel, throttle: Throttle, geometry: Geometry, meter: Meter) -> None:
        self._channel, self._throttle, self._meter = channel, throttle, meter
        self._lane: Lane[tuple[Kind, list[Bytes] | _Blocks | Lane[None]]] = crew.lane(_QUEUE)
        self._drained: Lane[None] = crew.lane(1)
        self._most = CONTENT_LIMIT // geometry.block_size
        self._blocks, self._zeros = _Blocks(), list[Range]()
        self._said, self._full = time.monotonic(), False
        self._packer = _Packer(channel)
        crew.start("sender", self._send)

    def data(self, block: int, digest: bytes, content: memoryview) -> None:
        """This block differs; its content is copied."""
        self._blocks.add(block, digest, bytes(content))
        if len(self._blocks.numbers) >= self._most:
            self._flush_data()
            self._full = True

    def zeros(self, start: int, count: int) -> None:
        """These blocks are zeros now and were not."""
        if self._zeros and sum(self._zeros[-1]) == start:
            self._zeros[-1] = (self._zeros[-1][0], self._zeros[-1][1] + count)
        else:
            self._zeros.append((start, count))
        if len(self._zeros) >= _RANGES:
            self._flush_zeros()

    def position(self, position: int, now: bool = False) -> None:
        """Everything before this block was sent; said after every full frame, and now and then."""
        at = time.monotonic()
        if now or self._full or at - self._said >= _EVERY:
            self._said, self._full = at, False
            self._flush_data()
            self._flush_zeros()
            self._lane.put((Kind.POSITION, [pack_position(position, self._meter.read, self._meter.changed)]))

    def say(self, message: Message) -> None:
        """After everything that was given before."""
        self._lane.put((message.kind, [message.pack()]))

    def drain(self) -> None:
        """Wait until everything was handed to the channel."""
        self._lane.put((Kind.PING, self._drained))
        self._drained.get()

    def _flush_data(self) -> None:
        if self._blocks.numbers:
            self._lane.put((Kind.DATA, self._blocks))
            self._blocks = _Blocks()

    def _flush_zeros(self) -> None:
        if self._zeros:
            self._lane.put((Kind.ZEROS, [pack_ranges(self._zeros)]))
            self._zeros = []

    def _send(self) -> None:
        while True:
            kind, what = self._lane.get()
            if isinstance(what, Lane):
                what.put(None)
                continue
            parts = self._packer.packed(what) if isinstance(what, _Blocks) else what
            self._throttle.sending(sum(map(len, parts)))
            started = time.monotonic()
            self._channel.send(kind, *parts)
            if isinstance(what, _Blocks):
                self._packer.sent(sum(map(len, parts)), time.monotonic() - started)


class _Blocks:
    """Blocks on their way."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.digests: list[bytes] = []
        self.content: list[Bytes] = []

    def add(self, number: int, digest: bytes, content: bytes) -> None:
        self.numbers.append(number)
        self.digests.append(digest)
        self.content.append(content)


class _Packer:
    """Decides frame by frame whether packing pays: it does when the time to pack is less than the time that the bytes
    it saves would need on the way. Both are measured as it goes; now and then the other choice is tried."""

    PROBE = 32

    def __init__(self, channel: Channel) -> None:
        self._pack: Callable[[bytes], bytes] | None = None
        self._channel = channel
        self._number = 0
        self._pack_time = self._saved = 0.0
        self._send_time: float | None = None

    def packed(self, blocks: _Blocks) -> list[Bytes]:
        self._number += 1
        pack = self._worth_it or self._number % self.PROBE == 1
        whole = sum(map(len, blocks.content))
        started = time.monotonic()
        if pack and self._pack is None:
            from labstore.blocksync.packing import packer  # noqa: PLC0415 - see there

            self._pack = packer()
        parts = pack_data(blocks.numbers, b"".join(blocks.digests), blocks.content, self._pack if pack else None)
        if pack:
            self._pack_time = _towards(self._pack_time, (time.monotonic() - started) / whole)
            self._saved = _towards(self._saved, max(0.0, 1 - sum(map(len, parts)) / whole))
        return parts

    @property
    def _worth_it(self) -> bool:
        return self._send_time is not None and self._send_time * self._saved > self._pack_time

    def sent(self, length: int, seconds: float) -> None:
        """How long a frame took to hand over: seconds per byte, the inverse of what the way takes."""
        each = seconds / length
        self._send_time = each if self._send_time is None else _towards(self._send_time, each)


def _towards(old: float, new: float) -> float:
    return new if not old else 0.75 * old + 0.25 * new
