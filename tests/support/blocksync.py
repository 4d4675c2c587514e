"""Two ends of a block sync in one process, with pipes between them that a test can meddle with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labstore.blocksync.channel import Channel
from labstore.blocksync.devices import Device
from labstore.blocksync.digests import block_hasher
from labstore.blocksync.index import IndexFolder, source_caches, target_index
from labstore.blocksync.messages import Hello, Welcome, limits_text, options_text
from labstore.blocksync.meter import Meter
from labstore.blocksync.serve import Jail, serve
from labstore.blocksync.source import SourceEnd, SourceSpec
from labstore.blocksync.target import TargetEnd, TargetSpec
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import VERSION
from labstore.model.block_sync import DEFAULTS, UNLIMITED, Limits, Options, Role
from labstore.reports.blocksync import SyncFailed
from labstore.reports.report import Report

Meddle = Callable[[int, bytes], tuple[bytes, bool]]
"""Given the offset in the stream and what passes there: what shall arrive instead, and whether it goes on after."""


@dataclass
class Way:
    """One direction: a pipe, or two pipes with somebody in between."""

    meddle: Meddle | None = None
    reading: int = field(init=False)
    writing: int = field(init=False)

    def __post_init__(self) -> None:
        if self.meddle is None:
            self.reading, self.writing = os.pipe()
            return
        inner, self.writing = os.pipe()
        self.reading, outer = os.pipe()
        threading.Thread(target=self._pass_on, args=(inner, outer), daemon=True).start()

    def _pass_on(self, inner: int, outer: int) -> None:
        assert self.meddle is not None
        passed = 0
        try:
            while chunk := os.read(inner, 8192):
                arrives, goes_on = self.meddle(passed, chunk)
                while arrives:
                    arrives = arrives[os.write(outer, arrives) :]
                if not goes_on:
                    return
                passed += len(chunk)
        except OSError:
            pass
        finally:
            os.close(inner)
            os.close(outer)


@dataclass
class Ended:
    """How both ends ended. `report` is what the caller failed with, `said` what the called end failed with."""

    report: Report | None
    said: Report | None
    caller: SourceEnd | TargetEnd
    sent: int
    received: int

    @property
    def good(self) -> bool:
        return self.report is None

    @property
    def target(self) -> TargetEnd:
        assert isinstance(self.caller, TargetEnd)
        return self.caller


def run(
    source: Path,
    target: Path,
    state: Path,
    options: Options = DEFAULTS,
    *,
    push: bool = False,
    to_called: Meddle | None = None,
    to_caller: Meddle | None = None,
    jail: Jail | None = None,
    patience: float = 20.0,
    limits: Limits = UNLIMITED,
    token: str | None = None,
    working: Callable[[SourceEnd | TargetEnd], None] = lambda _end: None,
) -> Ended:
    """One session. `push`: the caller is the source; otherwise the target."""
    there, back = Way(to_called), Way(to_caller)
    said: list[Report | None] = [None]

    def called() -> None:
        try:
            serve(there.reading, back.writing, state, jail, patience)
        except SyncFailed as failure:
            said[0] = failure.report

    thread = threading.Thread(target=called, daemon=True)
    thread.start()
    channel = Channel(back.reading, there.writing, patience)
    role, path = (Role.TARGET, target) if push else (Role.SOURCE, source)
    report: Report | None = None
    end: SourceEnd | TargetEnd
    throttle, meter = Throttle(limits), Meter()
    if push:
        spec = SourceSpec(str(source), options, source_caches(state), "", token)
        end = SourceEnd(channel, spec, throttle, meter)
    else:
        end = TargetEnd(channel, TargetSpec(str(target), options, target_index(state, str(target))), throttle, meter)
    try:
        nonce = os.urandom(16).hex()
        channel.say(Hello(VERSION, nonce, role, str(path), options_text(options), limits_text(limits), ""))
        welcome = channel.hear(Welcome)
        channel.open_session(nonce, welcome.nonce, are_caller=True)
        working(end)
        end.run()
    except SyncFailed as failure:
        report = failure.report
    finally:
        sent, received = channel.sent, channel.received
        channel.close()
    thread.join(60)
    assert not thread.is_alive(), "the called end hangs"
    return Ended(report, said[0], end, sent, received)


def honest(source: Path, target: Path, state: Path) -> None:
    """What the index of a target says is true, whatever happened before: the digests that the next run would believe
    are those of the target's bytes, and a target that is called good is the source."""
    folder = IndexFolder(target_index(state, str(target)))
    kept = folder.load()
    if kept is None or not kept.closed or not target.exists():
        return
    device = Device(str(target))
    try:
        if kept.witness != device.witness():
            return
    finally:
        device.close()
    content = target.read_bytes()
    hasher = block_hasher(kept.algorithm, bytes.fromhex(kept.key), kept.block_size)
    store = folder.digests(kept, fresh=False)
    try:
        for block in range(kept.known):
            piece = memoryview(content)[block * kept.block_size : (block + 1) * kept.block_size]
            assert store.get(block, 1) == hasher([piece]), f"the index lies about block {block}"
        if kept.root is not None:
            assert kept.known == kept.blocks
            assert store.root().hex() == kept.root
    finally:
        store.close()
    if kept.root is not None:
        device = Device(str(source))
        try:
            if kept.token == device.witness():
                assert content == source.read_bytes(), "a target is called good that is not"
        finally:
            device.close()
