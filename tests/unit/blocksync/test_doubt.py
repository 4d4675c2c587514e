"""What went wrong in the middle is not believed afterwards: neither by the index nor out of the page cache."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.blocksync import target as target_end
from labstore.blocksync.channel import Channel
from labstore.blocksync.devices import Device, Target
from labstore.blocksync.index import IndexFolder, IndexState, target_index
from labstore.blocksync.store import DigestStore
from labstore.blocksync.wire import Kind
from labstore.model.block_sync import Limits, Options, Pass, Permit
from labstore.reports.blocksync import IndexFailed, PeerLost, SyncFailed, TooMuchChanged, WriteFailed
from labstore.reports.blocksync_target import TargetChanged
from tests.support.blocksync import honest, run
from tests.support.hang import HANGS

BLOCK = 16384
BLOCKS = 256
NO_SCRUB = Options(scrub=0.0)


@pytest.fixture
def source(memory: Path) -> Path:
    path = memory / "source"
    path.write_bytes(os.urandom(BLOCKS * BLOCK))
    return path


@pytest.fixture
def target(memory: Path, source: Path) -> Path:
    path = memory / "target"
    assert run(source, path, memory).good
    return path


def change(path: Path, *blocks: int) -> None:
    with path.open("r+b") as file:
        for block in blocks:
            os.pwrite(file.fileno(), os.urandom(BLOCK), block * BLOCK)


def header(memory: Path, target: Path) -> IndexState:
    state = IndexFolder(target_index(memory, str(target))).load()
    assert state is not None
    return state


def test_a_block_that_was_written_before_another_could_not_be(
    source: Path, target: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full between two blocks of one frame; then the source goes back to what it was."""
    before, write, calls = source.read_bytes(), Target.write, list[int]()

    def full_at_the_second(self: Target, blocks: Sequence[memoryview], offset: int) -> None:
        calls.append(offset)
        if len(calls) == 2:
            raise SyncFailed(WriteFailed(self.path, offset, "No space left on device"))
        write(self, blocks, offset)

    change(source, 10, 200)
    monkeypatch.setattr(Target, "write", full_at_the_second)
    assert isinstance(run(source, target, memory).report, WriteFailed)
    monkeypatch.undo()
    assert target.read_bytes() != before, "the first was written"
    source.write_bytes(before)
    assert run(source, target, memory, NO_SCRUB).good
    honest(source, target, memory)


def test_what_could_not_be_brought_to_the_disk_is_not_left_in_the_page_cache(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed writeback the kernel calls those pages clean (fsync(2), EIO): they must not be read as equal."""
    device, let_go = Target(str(target)), list[tuple[int, int]]()

    def fails(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(Target, "let_go", lambda _self, *what: let_go.append(what))
    try:
        with pytest.raises(SyncFailed):
            device.sync()
    finally:
        device.close()
    assert let_go == [(0, 0)], "all of it: posix_fadvise(2), a length of 0"


def test_a_hole_that_is_longer_than_a_buffer_is_found_and_named(source: Path, target: Path, memory: Path) -> None:
    """Somebody punched a hole behind our back and nothing can tell but the scrub."""
    with target.open("r+b") as file:
        file.truncate(0)
        file.truncate(BLOCKS * BLOCK)
    folder = IndexFolder(target_index(memory, str(target)))
    device = Device(str(target))
    folder.save(replace(header(memory, target), witness=device.witness()))
    device.close()
    report = run(source, target, memory, Options(scrub=1.0)).report
    assert isinstance(report, TargetChanged)
    assert header(memory, target).known == 0
    assert run(source, target, memory, NO_SCRUB).good
    honest(source, target, memory)


def test_digests_are_cut_off_only_once_the_header_says_so(
    source: Path, target: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block device keeps its size when its source shrinks, and the line may be cut right then; the source grows
    again, by zeros."""
    found, work = target_end._found, target_end._Bringing.run
    monkeypatch.setattr(target_end, "_found", lambda device: replace(found(device), block=True))

    def cut(_self: object, _scan: object) -> None:
        raise SyncFailed(PeerLost("the line was cut"))

    whole = source.read_bytes()
    source.write_bytes(whole[: BLOCKS // 2 * BLOCK])
    monkeypatch.setattr(target_end._Bringing, "run", cut)
    assert not run(source, target, memory, Options(permits=frozenset({Permit.SHRINK}))).good
    monkeypatch.setattr(target_end._Bringing, "run", work)
    source.write_bytes(whole[: BLOCKS // 2 * BLOCK] + bytes(BLOCKS // 2 * BLOCK))
    assert run(source, target, memory, NO_SCRUB).good
    assert target.read_bytes() == source.read_bytes()


def test_an_index_that_cannot_be_written_is_a_failure_of_this_run_and_no_defect(
    source: Path, target: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DigestStore.put

    def full(self: DigestStore, start: int, digests: bytes) -> None:
        if threading.current_thread().name == "settling":
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, start, digests)

    change(source, 3)
    monkeypatch.setattr(DigestStore, "put", full)
    report = run(source, target, memory).report
    assert isinstance(report, IndexFailed)
    monkeypatch.undo()
    ended = run(source, target, memory)
    assert ended.good
    assert ended.target.committed.passed is not Pass.CACHED
    honest(source, target, memory)


@pytest.mark.parametrize("push", [False, True])
def test_running_again_does_not_wear_the_brake_down(memory: Path, push: bool) -> None:
    """What a run that was refused had written by then counts against the next."""
    source, target = memory / "source", memory / "target"
    source.write_bytes(os.urandom(24 << 20))
    run(source, target, memory, NO_SCRUB, push=push)
    source.write_bytes(os.urandom(24 << 20))
    braked = replace(NO_SCRUB, max_change=0.25)
    for _ in range(8):
        assert isinstance(run(source, target, memory, braked, push=push).report, TooMuchChanged)
    permitted = replace(braked, permits=frozenset({Permit.MASS_CHANGE}))
    assert run(source, target, memory, permitted, push=push).good
    change(source, 1)
    assert run(source, target, memory, braked, push=push).good, "and it is whole again"


def test_limits_come_too_late_for_an_end_that_has_ended(source: Path, memory: Path) -> None:
    """Between two attempts: whoever watches the control file goes on watching."""
    run(source, memory / "other", memory).caller.set_limits(Limits(paused=True), tell=True)


def test_who_is_told_to_pause_takes_nothing_for_longer_than_the_patience() -> None:
    reading, writing = os.pipe()
    back, _ = os.pipe()
    channel = Channel(back, writing, patience=0.05)
    received = list[bytes]()

    def take() -> None:
        time.sleep(0.3)
        while len(received) < 64:
            received.append(os.read(reading, 1 << 16))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    for _ in range(4):
        channel.send(Kind.DATA, bytes(1 << 20))
    assert channel.blocked > 0.1
    thread.join(HANGS)
    channel.close()
    os.close(reading)
