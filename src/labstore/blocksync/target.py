"""The end that writes: it says what it has, takes what differs, reads every written block back from the device, and
calls the result good only when both ends have come to the same root."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from blake3 import blake3

from labstore.blocksync.answering import Looking, Scrub, Scrubbed, Suspect, Telling
from labstore.blocksync.buffers import cut
from labstore.blocksync.channel import Channel, Frame, broken
from labstore.blocksync.crew import Lane
from labstore.blocksync.decide import Decision, Found, decide, refusal
from labstore.blocksync.devices import Target
from labstore.blocksync.digests import block_hasher, differences
from labstore.blocksync.ends import End
from labstore.blocksync.index import IndexFolder, IndexState, Unreadable
from labstore.blocksync.messages import (
    Committed,
    Complete,
    Geometry,
    LimitsNow,
    Offer,
    Plan,
    Scan,
    Stored,
    unpack_data,
    unpack_position,
    unpack_ranges,
)
from labstore.blocksync.meter import Meter
from labstore.blocksync.settling import Settler
from labstore.blocksync.store import DigestStore
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import BadFrame, Kind
from labstore.blocksync.writer import Writer
from labstore.model.block_sync import Options, Pass, Permit
from labstore.reports.blocksync import AlreadyRunning, HintLied, IndexFailed, SyncFailed, WriteFailed
from labstore.reports.blocksync_target import ReadBackDiffers, RootsDiffer, SourceChanged, TargetChanged, TargetGone
from labstore.system import locks

_INBOX = 4
"""Frames of up to 1 MiB that may wait to be written."""
_HINTED_SCRUB = 64 << 20
"""Bytes scrubbed at most in a run that follows hints, which shall not cost more for a larger device."""


@dataclass(frozen=True)
class TargetSpec:
    """What a target end works with. `index` is the folder of its digest index. A file that is not there is made, and
    a file grows with its source, unless `fixed`: then nothing but its bytes may change. `allow` is asked before
    anything is written: see ports.block_engine.Order."""

    path: str
    options: Options
    index: Path
    fixed: bool = False
    allow: Callable[[int], int] | None = None


class TargetEnd(End):
    """See ends.End. After `run`, `committed`, `complete` and `state` say how it went."""

    committed: Committed
    complete: Complete
    state: IndexState

    def __init__(self, channel: Channel, spec: TargetSpec, throttle: Throttle, meter: Meter) -> None:
        super().__init__(channel, throttle, meter)
        self._spec = spec
        self._folder = IndexFolder(spec.index)
        self._work_on: _Bringing | None = None

    def _work(self) -> None:
        try:
            self._folder.make()
            self.held.enter_context(locks.exclusive(self._folder.lock, f"block sync of {self._spec.path}"))
            self._sync()
        except locks.Locked as held:
            raise SyncFailed(AlreadyRunning(self._spec.path, held.holder)) from None
        except OSError as error:
            raise SyncFailed(IndexFailed(str(self._folder.path), error.strerror or str(error))) from error

    def _run(self) -> BaseException | None:
        error = super()._run()
        if isinstance(error, OSError):  # of a thread; the index is what threads write besides the device
            return SyncFailed(IndexFailed(str(self._folder.path), error.strerror or str(error)))
        return error

    def _sync(self) -> None:
        device = Target(self._spec.path, self._spec.options.read, create=not self._spec.fixed)
        self.held.callback(device.close)
        offer = self.channel.hear(Offer)
        decision = self._decided(device, offer)
        self.meter.size = self.meter.total = offer.size
        self.meter.phase = "comparing"
        work = self._work_on = _Bringing(self, self._spec, device, self._folder, decision, offer)
        self.held.callback(work.close)
        self.channel.say(_plan(decision))
        self.other_listens()
        work.run(self.channel.hear(Scan))
        self.committed, self.complete, self.state = work.committed, work.complete, work.state
        with contextlib.suppress(SyncFailed):  # the source's copy of the index is its own affair; ours is safe
            self.channel.hear(Stored)

    def _decided(self, device: Target, offer: Offer) -> Decision:
        damage = None
        try:
            state = self._folder.load()
        except Unreadable as error:
            state, damage = None, str(error)
        found = replace(_found(device), fixed=self._spec.fixed)
        report = refusal(state, found, offer, self._spec.options.permits)
        if report is not None:
            device.undo_creation()
            raise SyncFailed(report)
        decision = decide(state, found, offer, self._spec.options, time.time())
        return replace(decision, why=f"the index is damaged: {damage}") if damage else decision

    def _salvage(self, error: BaseException) -> None:
        if self._work_on is not None:
            self._work_on.salvage(error)


def _found(device: Target) -> Found:
    head, content = device.head(), device.content()
    return Found(
        path=device.path,
        size=device.size,
        block=device.block,
        identity=device.identity(),
        witness=device.witness(),
        content=str(content) if content else None,
        head=blake3(head).hexdigest() if head.strip(b"\0") else None,
    )


def _plan(decision: Decision) -> Plan:
    state = decision.state
    return Plan(
        volume=state.volume,
        key=state.key,
        algorithm=state.algorithm,
        block_size=state.block_size,
        generation=state.generation,
        root=state.root,
        start=decision.start,
        believe_hints=decision.believe_hints,
        max_changed=decision.max_changed,
        why=decision.why,
    )


class _Bringing:
    """Bringing one target to what its source is."""

    committed: Committed
    complete: Complete

    def __init__(
        self, end: TargetEnd, spec: TargetSpec, device: Target, folder: IndexFolder, decision: Decision, offer: Offer
    ) -> None:
        self._end, self._spec, self._device, self._folder = end, spec, device, folder
        self._decision, self._offer = decision, offer
        self.state = decision.state
        self._header_open = False
        self._geometry = Geometry(offer.size, self.state.block_size)
        if decision.resize is not None or self.state.root is None or self.state.known < self.state.blocks:
            self._open_header()
        if decision.resize is not None:
            device.resize(decision.resize)
        self.store: DigestStore = folder.digests(self.state, fresh=not self.state.known)
        digests = block_hasher(self.state.algorithm, bytes.fromhex(self.state.key), self.state.block_size)
        self._settler = Settler(device, self.store, self._geometry, digests)
        self._writer = Writer(end.crew, device, self._settler, self._geometry, digests, spec.allow)
        self._looking = Looking(end.crew, end.channel, end.throttle, device, self.store, self._geometry, digests)
        self._telling = Telling(self._looking, self.state.known)
        self._inbox: Lane[Frame | Suspect | Scrubbed] = end.crew.lane(_INBOX)
        self._position = self._settled = decision.start
        self._passed = Pass.BOTH

    def close(self) -> None:
        self._settler.close()
        self.store.close()

    @property
    def _changed(self) -> int:
        """Blocks written since the last root."""
        return self.state.changed + self._writer.blocks

    def run(self, scan: Scan) -> None:
        may_hint = scan.cached and self._decision.believe_hints
        if (scan.hinted and not may_hint) or (scan.cached and self.state.root is None):
            raise broken("a scan that was not offered")
        self._passed = _passed(scan, self.state)
        scrubbing = self._scrub(scan)
        if not scan.cached:
            self._end.crew.start("telling", self._telling.run)
        if scrubbing is not None:
            self._end.crew.start("scrubbing", scrubbing.run)
        self._end.crew.start("receiver", self._receive)
        scrubbed = self._take(Scrubbed(0, self.state.scrub_at) if scrubbing is None else None)
        self._commit(scrubbed, scan)

    def _scrub(self, scan: Scan) -> Scrub | None:
        """A part of what is believed is looked at; where all of it is read anyway there is nothing to look at."""
        blocks = self._geometry.blocks
        if self.state.known < blocks or not self._spec.options.scrub:
            return None
        count = ceil(self._spec.options.scrub * blocks)
        if scan.hinted:
            count = min(count, _HINTED_SCRUB // self._geometry.block_size)
        return Scrub(self._looking, self.state.scrub_at, count, self._inbox.put)

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Hand frames on until the source says that this was all."""
        while True:
            frame = self._end.channel.receive(Kind.DATA, Kind.ZEROS, Kind.POSITION, Kind.LIMITS, Kind.COMPLETE)
            if frame.kind is Kind.LIMITS:
                self._end.told_limits(self._end.channel.parsed(LimitsNow, frame))
                continue
            self._inbox.put(frame)
            if frame.kind is Kind.COMPLETE:
                return

    def _take(self, scrubbed: Scrubbed | None) -> Scrubbed:
        """Write what comes, until all has come and the scrub is over."""
        complete: Complete | None = None
        while complete is None or scrubbed is None:
            item = self._inbox.get()
            if isinstance(item, Scrubbed):
                scrubbed = item
            elif isinstance(item, Suspect):
                self._look_again(item)
            elif item.kind is Kind.COMPLETE:
                complete = self._end.channel.parsed(Complete, item)
                if max(complete.sampled, default=-1) >= self._geometry.size // self._geometry.block_size:
                    raise broken("a sample from outside of the device")
            else:
                self._frame(item)
        self.complete = complete
        return scrubbed

    def _frame(self, frame: Frame) -> None:
        try:
            if frame.kind is Kind.POSITION:
                self._at(*unpack_position(frame.payload))
                return
            self._open_header()
            if frame.kind is Kind.DATA:
                self._writer.data(unpack_data(frame.payload, self._geometry))
            else:
                self._writer.zeros(unpack_ranges(frame.payload, self._geometry.blocks))
        except BadFrame as error:
            raise broken(str(error)) from None

    def _at(self, position: int, read: int, changed: int) -> None:
        if not self._position <= position <= self._geometry.blocks:
            raise BadFrame("a position that goes back, or outside of the device")
        self._position = position
        meter = self._end.meter
        meter.read, meter.changed = read, changed
        meter.position = min(position * self._geometry.block_size, meter.total)
        if position == self._geometry.blocks:
            self._writer.hand_over()  # while the source makes the last root

    def _look_again(self, suspect: Suspect) -> None:
        """Now that nothing is being written: is the device really not what the index says?"""
        self._writer.settle()
        for piece in cut(suspect.piece.start, suspect.piece.count, data=True):
            found, said = self._settler.on_device(piece), self.store.get(piece.start, piece.count)
            if found != said:
                offset = (piece.start + next(differences(found, said))) * self._geometry.block_size
                raise SyncFailed(TargetChanged(self._spec.path, offset))

    # --- the header -------------------------------------------------------------------------------------------------

    def _open_header(self) -> None:
        """Before anything changes the index says that it is not to be believed until we say so again."""
        if not self._header_open:
            self._folder.save(replace(self.state, closed=False))
            self._header_open = True

    def _commit(self, scrubbed: Scrubbed, scan: Scan) -> None:
        self._end.meter.phase = "settling"
        self._writer.settle()
        self._settler.close()  # now, since it takes as long as all that follows
        root = self.store.root().hex()
        if root != self.complete.root:
            raise SyncFailed(RootsDiffer(self._spec.path))
        if self.complete.torn and Permit.LIVE_SOURCE not in self._spec.options.permits:
            raise SyncFailed(SourceChanged(self._offer.path))
        self._device.sync()
        if not self._device.in_place():
            raise SyncFailed(TargetGone(self._spec.path))
        self.store.sync()
        now = time.time()
        self.state = replace(
            self.state,
            closed=True,
            known=self._geometry.blocks,
            generation=self.state.generation + (root != self.state.root),
            root=root,
            content=self._offer.content,
            token=None if self.complete.torn else self._offer.token,
            position=0,
            changed=0,
            witness=self._device.witness(),
            synced=now,
            read_whole=self.state.read_whole if scan.hinted else now,
            compared_both=now if self._passed is Pass.BOTH else self.state.compared_both,
            scrub_at=scrubbed.next,
        )
        self._folder.save(self.state)
        self.committed = Committed(
            generation=self.state.generation,
            root=root,
            passed=self._passed,
            why=self._decision.why,
            scrubbed=scrubbed.bytes,
            read_back="direct" if self._device.direct else "cache",
        )
        self._end.channel.say(self.committed)

    def salvage(self, error: BaseException) -> None:
        """After a failure: keep what is known, if it is known to be true."""
        report = error.report if isinstance(error, SyncFailed) else None
        if isinstance(report, TargetChanged | RootsDiffer | ReadBackDiffers | WriteFailed):
            with contextlib.suppress(OSError):
                lost = replace(self.state, closed=True, known=0, root=None, token=None, position=0)
                self._folder.save(replace(lost, changed=self._changed))
        elif self._header_open and report is not None:
            with contextlib.suppress(OSError, SyncFailed):
                self._keep(of_a_moment=not isinstance(report, SourceChanged | HintLied))

    def _keep(self, of_a_moment: bool) -> None:
        self._writer.settle_alone()
        self.store.root()
        self.store.sync()
        resumable = of_a_moment and self._passed is not Pass.HINTED
        self._folder.save(
            replace(
                self.state,
                closed=True,
                known=self._telling.known,
                root=None,
                token=self._offer.token if resumable else None,
                position=min(self._position, self._telling.known) if resumable else 0,
                changed=self._changed,
                witness=self._device.witness(),
            )
        )


def _passed(scan: Scan, state: IndexState) -> Pass:
    if scan.hinted:
        return Pass.HINTED
    if scan.cached:
        return Pass.CACHED
    return Pass.INDEX if state.known == state.blocks else Pass.BOTH
