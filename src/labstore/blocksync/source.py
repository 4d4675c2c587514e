"""The end that reads: everything once, in order, or what the hints say; what differs goes to the other end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from labstore.blocksync.base import Base, Run, StoreBase, WireBase
from labstore.blocksync.buffers import Buffer, Piece, Readers, cut, whole_blocks
from labstore.blocksync.cache import Copy, copy_of
from labstore.blocksync.channel import Channel, Frame, broken
from labstore.blocksync.crew import Lane
from labstore.blocksync.devices import Device
from labstore.blocksync.digests import SIZE, ZERO, BlockHasher, block_hasher, differences
from labstore.blocksync.ends import End
from labstore.blocksync.messages import (
    Committed,
    Complete,
    Geometry,
    LimitsNow,
    Offer,
    Plan,
    Scan,
    Stored,
    unpack_digests,
    unpack_ranges,
)
from labstore.blocksync.meter import Meter
from labstore.blocksync.outbox import Outbox
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import BadFrame, Kind
from labstore.formats.change_hints import parse
from labstore.model.block_sync import Options
from labstore.model.change_hints import Hints
from labstore.ports.block_source import Provided, Provider
from labstore.reports.blocksync import HintLied, SyncFailed, TooMuchChanged

CHECK = 5.0
"""Seconds between looks at whether what is read can still be trusted."""
SAMPLE = 256
"""Blocks beside the hints that are read to see whether the hints left something out."""
_RUNS = 64
"""Frames of digests that may wait."""


@dataclass(frozen=True)
class SourceSpec:
    """What a source end works with. `caches` is where copies of targets' indexes are kept (None: nowhere), under
    `label`, which names the volume and not the snapshot of it that `path` may be. `token` names the moment that the
    source stands for, where somebody knows that better than the device. `provide` prepares what is read, and says all
    of that about it."""

    path: str
    options: Options
    caches: Path | None = None
    label: str = ""
    token: str | None = None
    provide: Provider | None = None


class SourceEnd(End):
    """See ends.End. After `run`, `committed` is what the target said and `complete` what we said."""

    committed: Committed
    complete: Complete

    def __init__(self, channel: Channel, spec: SourceSpec, throttle: Throttle, meter: Meter) -> None:
        super().__init__(channel, throttle, meter)
        self._spec = spec
        self._notes: list[str] = []
        self._check: Callable[[], None] = lambda: None
        self._watched = False
        """Whether our own look tells if the source was written while it was read."""

    def _work(self) -> None:
        given = self._provided()
        self._device = Device(given.path, self._spec.options.read)
        self.held.callback(self._device.close)
        self._hints = given.hints or self._read_hints()
        size = self._device.size
        token = given.token or self._device.witness()
        self._watched = given.token is None and token is not None
        self.channel.say(self._offer(size, token))
        plan = self.channel.hear(Plan)
        geometry = Geometry(size, plan.block_size)
        if plan.start > geometry.blocks:
            raise broken("a start outside of the device")
        self.meter.size = self.meter.total = size
        self.meter.phase = "comparing"
        caches = self._spec.caches if self._spec.options.cache else None
        with copy_of(caches, self._spec.label or self._spec.path, size, plan) as copy:
            hints = self._believed(plan, copy.valid, token)
            self.channel.say(Scan(cached=copy.valid, hinted=hints is not None))
            self.other_listens()
            answers: Lane[Committed] = self.crew.lane(1)
            runs: Lane[Run] = self.crew.lane(_RUNS)
            self.crew.start("receiver", lambda: self._receive(geometry, runs, answers))
            outbox = Outbox(self.crew, self.channel, self.throttle, geometry, self.meter)
            base = StoreBase(copy.store) if copy.valid else WireBase(runs)
            comparison = _Comparison(self.meter, plan, geometry, copy, base, outbox, self._spec.path)
            if hints is not None:
                self.meter.total = min(hints.bytes, size)
                pieces = _hinted(hints, geometry)
            else:
                comparison.adopt(plan.start)
                pieces = whole_blocks(self._device.extents(plan.start * plan.block_size, size), geometry)
            readers = Readers(self.crew, "reader", pieces, geometry, self._read, self._device.at_hand)
            comparison.run(readers, hints is not None)
            self._finish(copy, comparison, outbox, token, answers)

    def _provided(self) -> Provided:
        if self._spec.provide is None:
            return Provided(self._spec.path, self._spec.token)
        given = self.held.enter_context(self._spec.provide())
        self._check = given.check
        self.crew.start("checking", self._keep_checking)
        return given

    def _keep_checking(self) -> None:
        while True:
            self.crew.pause(CHECK)
            self._check()

    def _read_hints(self) -> Hints | None:
        """The hints, if there are any that can be believed as far as they can be read."""
        if self._spec.options.hints is None:
            return None
        try:
            with Path(self._spec.options.hints).open(encoding="utf-8", errors="strict") as file:
                return parse(file)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self._notes.append(f"the change hints in {self._spec.options.hints} are not believed: {why}"[:400])
            return None

    def _offer(self, size: int, token: str | None) -> Offer:
        content = self._device.content()
        return Offer(
            path=self._spec.path,
            size=size,
            head=blake3(self._device.head()).hexdigest(),
            content=str(content) if content else None,
            token=token,
            hints_from=self._hints.since if self._hints else None,
        )

    def _believed(self, plan: Plan, index_here: bool, token: str | None) -> Hints | None:
        """The hints, if there are any and they are about what the target has and the moment that is read. Else it is
        noted why not."""
        if self._hints is None:
            return None
        if not plan.believe_hints:
            why = plan.why
        elif not index_here:
            why = "no copy of the target's index is kept here"
        elif self._hints.until != token:
            why = "they end at another moment than the source is of"
        else:
            return self._hints
        self._notes.append(f"the change hints are left aside: {why}"[:400])
        return None

    def _read(self, view: memoryview, length: int, offset: int, at_hand: bool) -> None:
        self.throttle.reading(length)
        try:
            self._device.read(view, length, offset, at_hand)
        except SyncFailed:
            self._check()  # of a snapshot that overflowed, who made it knows better why
            raise
        self.meter.read += length

    def _finish(
        self, copy: Copy, done: _Comparison, outbox: Outbox, token: str | None, answers: Lane[Committed]
    ) -> None:
        root = copy.store.root().hex()
        samples = self._samples(done.geometry)
        self._check()
        torn = self._watched and self._device.witness() != token
        if torn:
            self._notes.append("the source was written while it was read: the copy is of no one moment")
        self.complete = Complete(
            root,
            token,
            torn,
            self.meter.read,
            self.meter.changed,
            done.zeroed,
            samples,
            tuple(map(_printable, self._notes)),
        )
        self.meter.phase = "waiting for the target"
        outbox.say(self.complete)
        self.committed = answers.get()
        if self.committed.root != root:
            raise broken("it committed another root")
        outbox.say(Stored(copy.keep(root, self.committed.generation)))
        outbox.drain()

    def _samples(self, geometry: Geometry) -> tuple[str, ...]:
        """Whole blocks chosen by chance, read once more from the device, by a digest that owes nothing to ours. A short
        one at the end is left out: the target may go on behind it."""
        if not self._spec.options.samples:
            return ()
        import hashlib  # noqa: PLC0415 - of all that runs only the backups' ask for samples

        buffer, found = Buffer(geometry.block_size), list[str]()
        for block in _by_chance(geometry.size // geometry.block_size, self._spec.options.samples):
            self._device.read_device(buffer.view, geometry.block_size, block * geometry.block_size)
            found.append(f"{block} {hashlib.sha256(buffer.view[: geometry.block_size]).hexdigest()}")
        return tuple(found)

    def _receive(self, geometry: Geometry, runs: Lane[Run], answers: Lane[Committed]) -> None:
        while True:
            frame = self.channel.receive(Kind.DIGESTS, Kind.NOTHING, Kind.POSITION, Kind.LIMITS, Kind.COMMITTED)
            if frame.kind is Kind.COMMITTED:
                answers.put(self.channel.parsed(Committed, frame))
                return
            if frame.kind is Kind.LIMITS:
                self.told_limits(self.channel.parsed(LimitsNow, frame))
            elif frame.kind is not Kind.POSITION:
                runs.put(_run(frame, geometry))


def _run(frame: Frame, geometry: Geometry) -> Run:
    try:
        if frame.kind is Kind.NOTHING:
            ((start, count),) = unpack_ranges(frame.payload, geometry.blocks)
            return start, count, None
        start, digests = unpack_digests(frame.payload, geometry.blocks)
        return start, len(digests) // SIZE, digests
    except BadFrame as error:
        raise broken(str(error)) from None


class _Comparison:
    """Goes over the source and tells the outbox what differs; the copy becomes what the target is going to be."""

    def __init__(
        self, meter: Meter, plan: Plan, geometry: Geometry, copy: Copy, base: Base, outbox: Outbox, path: str
    ) -> None:
        self._meter, self._plan, self.geometry, self._copy = meter, plan, geometry, copy
        self._base, self._outbox, self._path = base, outbox, path
        self._digests: BlockHasher = block_hasher(plan.algorithm, bytes.fromhex(plan.key), plan.block_size)
        self.zeroed = self._found = 0

    def adopt(self, start: int) -> None:
        """Blocks before `start` were brought to this very moment by a run that was interrupted."""
        for piece in cut(0, start, data=False):
            digests = self._base.take(piece.start, piece.count)
            if digests is not None:
                self._copy.store.put(piece.start, digests)

    def run(self, readers: Readers, hinted: bool) -> None:
        for piece, blocks in readers:
            if blocks is None:
                self._empty(piece)
            else:
                self._compare(piece, blocks)
            end = piece.start + piece.count
            self._meter.position = self._meter.read if hinted else min(end * self._plan.block_size, self._meter.total)
            self._outbox.position(end)
        self._outbox.position(self.geometry.blocks, now=True)

    def _empty(self, piece: Piece) -> None:
        """These blocks are zeros."""
        before = self._base.take(piece.start, piece.count)
        if before is not None:
            gone = sum(1 for at in range(0, len(before), SIZE) if before[at : at + SIZE] != ZERO)
            self._changed(gone)
            self.zeroed += gone
            self._copy.dirty()
            self._copy.store.put_zeros(piece.start, piece.count)
            self._outbox.zeros(piece.start, piece.count)

    def _compare(self, piece: Piece, blocks: list[memoryview]) -> None:
        before = self._base.take(piece.start, piece.count) or bytes(piece.count * SIZE)
        now = self._digests(blocks)
        if now != before:
            self._differs(piece, blocks, before, now)
        elif not self._copy.valid and now.strip(b"\0"):
            self._copy.store.put(piece.start, now)

    def _differs(self, piece: Piece, blocks: list[memoryview], before: bytes, now: bytes) -> None:
        self._copy.dirty()
        for number in differences(now, before):
            digest = now[number * SIZE : (number + 1) * SIZE]
            self._changed(1)
            if piece.sample:
                raise SyncFailed(HintLied(self._path, piece.start * self._plan.block_size))
            if digest == ZERO:
                self.zeroed += 1
                self._outbox.zeros(piece.start + number, 1)
            else:
                self._outbox.data(piece.start + number, digest, blocks[number])
        self._copy.store.put(piece.start, now)

    def _changed(self, count: int) -> None:
        """What attempts before this one wrote the target has taken off the limit; the meter counts all of them."""
        self._meter.changed += count
        self._found += count
        if self._plan.max_changed < self.geometry.blocks and self._found > self._plan.max_changed:
            raise SyncFailed(TooMuchChanged(self._path, self._found, self._plan.max_changed))


def _hinted(hints: Hints, geometry: Geometry) -> Iterator[Piece]:
    """What the hints say, and a sample of the rest."""
    samples = (Piece(block, 1, sample=True) for block in _by_chance(geometry.blocks, SAMPLE))
    done = 0
    for piece in heapq.merge(_told(hints, geometry), samples, key=lambda each: each.start):
        if piece.start >= done:
            yield piece
            done = piece.start + piece.count


def _by_chance(blocks: int, count: int) -> list[int]:
    """So many of the blocks, or all of them, in rising order."""
    import random  # noqa: PLC0415 - most runs look at everything or at nothing

    return sorted(random.SystemRandom().sample(range(blocks), min(count, blocks)))


def _told(hints: Hints, geometry: Geometry) -> Iterator[Piece]:
    """The hints as pieces; what lies beyond the end of the device is left out."""
    done = 0
    for start, end in hints.ranges():
        first = max(start // geometry.block_size, done)
        upto = min(-(-end // geometry.block_size), geometry.blocks)
        if first < upto:
            yield from cut(first, upto - first, data=True)
            done = upto


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
