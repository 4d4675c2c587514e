"""Limits: they hold, they can change, and a wrong control file changes nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from labstore.blocksync.crew import Crew, Stopped
from labstore.blocksync.throttle import ControlFile, Throttle, amount, limits_of
from labstore.model.block_sync import UNLIMITED, Limits


def seconds_for(throttle: Throttle, rounds: int, size: int) -> float:
    started = time.monotonic()
    for _ in range(rounds):
        throttle.sending(size)
    return time.monotonic() - started


def never(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s without a limit")


def test_what_is_sent_keeps_to_the_limit() -> None:
    assert seconds_for(Throttle(Limits(send=1_000_000)), 50, 10_000) > 0.25
    seconds_for(Throttle(UNLIMITED, never), 1000, 1 << 20)


def test_reads_keep_to_bytes_and_to_numbers() -> None:
    throttle = Throttle(Limits(reads=100))
    started = time.monotonic()
    for _ in range(50):
        throttle.reading(1)
    assert time.monotonic() - started > 0.2


def test_a_pause_waits_until_it_is_taken_back() -> None:
    throttle = Throttle(Limits(paused=True))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            throttle.set(UNLIMITED)

    throttle.pause = nap
    throttle.sending(1)
    assert len(naps) == 3


def test_a_wait_ends_with_the_run() -> None:
    crew = Crew()
    crew.stop()
    throttle = Throttle(Limits(send=1), crew.pause)
    with pytest.raises(Stopped):
        throttle.sending(1000)


def test_a_control_file_is_read_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "control"
    control = ControlFile(path, Limits(send=5))
    assert control.changed() is None
    path.write_text("send 20M\nreads 500 # for the night\npause\n")
    assert control.changed() == Limits(send=20 << 20, reads=500, paused=True)
    assert control.changed() is None
    path.write_text("send fast")
    assert control.changed() is None
    assert control.problem is not None
    path.unlink()
    path.mkdir()
    assert control.changed() is None
    assert control.problem == "it cannot be read: Is a directory"
    path.rmdir()
    assert control.changed() == Limits(send=5)
    assert control.changed() is None


def test_what_a_control_file_leaves_out_stays() -> None:
    assert limits_of("send none\n", Limits(send=1, read=2, reads=3)) == Limits(None, 2, 3)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "20T", "M", "9" * 30, "none5"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        amount(text)


def test_amounts() -> None:
    assert [amount(text) for text in ("512", "512K", "20m", "1G", "none")] == [512, 512 << 10, 20 << 20, 1 << 30, None]
