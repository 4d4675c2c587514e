"""Connections that break, lie, repeat and stall: nothing is called good that is not, and the next run recovers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.blocksync.messages import Complete
from labstore.blocksync.source import SourceEnd
from labstore.model.block_sync import LARGEST_DEVICE, Options
from labstore.reports.blocksync import BrokenProtocol, PeerLost
from tests.support.blocksync import Meddle, honest, run

BLOCK = 4096
BLOCKS = 300
OPTIONS = Options(block_size=BLOCK, scrub=0.1, cache=False)


class Disk:
    """A source and a target that differ, as they were before each attempt."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.source, self.target, self.state = folder / "source", folder / "target", folder / "state"
        self.source.write_bytes(self.random.randbytes(BLOCKS * BLOCK - 1234))
        assert run(self.source, self.target, self.state, OPTIONS).good

    def change(self) -> None:
        with self.source.open("r+b") as file:
            for block in self.random.sample(range(BLOCKS), 60):
                file.seek(block * BLOCK)
                file.write(self.random.choice((bytes(BLOCK), self.random.randbytes(BLOCK)))[: BLOCK - 1300])

    def recovers(self) -> None:
        honest(self.source, self.target, self.state)
        assert run(self.source, self.target, self.state, OPTIONS).good
        assert self.target.read_bytes() == self.source.read_bytes()


@pytest.fixture
def disk(memory: Path) -> Disk:
    return Disk(memory, 1)


def cut(at: int) -> Meddle:
    return lambda passed, chunk: (chunk[: max(0, at - passed)], passed + len(chunk) < at)


def stall(at: int) -> Meddle:
    return lambda passed, chunk: (chunk[: max(0, at - passed)], True)


def changed(at: int, change: Callable[[bytes, int], bytes]) -> Meddle:
    return lambda passed, chunk: (change(chunk, at - passed) if 0 <= at - passed < len(chunk) else chunk, True)


def flip(at: int) -> Meddle:
    return changed(at, lambda chunk, where: chunk[:where] + bytes([chunk[where] ^ 0x10]) + chunk[where + 1 :])


def twice(at: int) -> Meddle:
    return changed(at, lambda chunk, _: chunk + chunk)


def without(at: int) -> Meddle:
    return changed(at, lambda _chunk, _: b"")


@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_a_connection_cut_at_a_hundred_random_places(disk: Disk, push: bool) -> None:
    places = random.Random(7 + push)
    for attempt in range(50):
        disk.change()
        at = places.randrange(200, 180_000)
        to_target = bool(attempt % 2)
        meddle = cut(at if to_target else at // 40)
        ways = {"to_caller" if to_target is not push else "to_called": meddle}
        done = run(disk.source, disk.target, disk.state, OPTIONS, push=push, **ways)  # type: ignore[arg-type]
        if done.good:
            assert disk.target.read_bytes() == disk.source.read_bytes()
        else:
            assert isinstance(done.report, PeerLost | BrokenProtocol), done.report
        disk.recovers()


@pytest.mark.parametrize("harm", [flip, twice, without, stall])
def test_a_stream_that_is_harmed_on_its_way(disk: Disk, harm: Callable[[int], Meddle]) -> None:
    places = random.Random(3)
    for attempt in range(10):
        disk.change()
        at = places.randrange(100, 150_000) if attempt % 2 else places.randrange(100, 6_000)
        ways = {"to_caller" if attempt % 2 else "to_called": harm(at)}
        done = run(disk.source, disk.target, disk.state, OPTIONS, patience=0.3, **ways)  # type: ignore[arg-type]
        if done.good:
            assert disk.target.read_bytes() == disk.source.read_bytes()
        else:
            assert isinstance(done.report, PeerLost | BrokenProtocol), done.report
        disk.recovers()


@pytest.mark.parametrize("block", [BLOCKS - 1, BLOCKS, 9999999999999999])
def test_samples_are_of_whole_blocks_of_the_device(disk: Disk, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """What is proven with them later must end, whatever a source says."""
    monkeypatch.setattr(SourceEnd, "_samples", lambda *_: (f"{block} {'a' * 64}",))
    ended = run(disk.source, disk.target, disk.state, OPTIONS)
    assert isinstance(ended.report, BrokenProtocol)
    assert "a sample from outside of the device" in ended.report.message()
    monkeypatch.undo()
    disk.recovers()


def test_numbers_that_no_device_has_are_no_message() -> None:
    whole = Complete("a" * 64, None, False, 1, 1, 1, (), ())
    for field in ("read", "changed", "zeroed"):
        with pytest.raises(ValueError, match="out of its range"):
            replace(whole, **{field: LARGEST_DEVICE + 1})
