"""The machine's clock: a sleep ends early when it is woken, also by a signal handler."""

from __future__ import annotations

import signal
import threading
import time

from labstore.system.clock import SystemClock
from tests.support.hang import HANGS


def test_a_sleep_ends_by_itself() -> None:
    clock, started = SystemClock(), time.monotonic()
    clock.sleep(0.02)
    assert 0.015 <= time.monotonic() - started < HANGS


def test_another_thread_wakes() -> None:
    clock, started = SystemClock(), time.monotonic()
    threading.Timer(0.02, clock.wake).start()
    clock.sleep(30)
    assert time.monotonic() - started < HANGS


def test_a_signal_handler_wakes() -> None:
    clock, started = SystemClock(), time.monotonic()
    before = signal.signal(signal.SIGALRM, lambda *_: clock.wake())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        clock.sleep(30)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < HANGS


def test_waking_before_the_sleep_ends_the_next_one_and_no_other() -> None:
    clock, started = SystemClock(), time.monotonic()
    clock.wake()
    clock.wake()
    clock.sleep(30)
    assert time.monotonic() - started < HANGS
    clock.sleep(0.02)
    assert time.monotonic() - started >= 0.015


def test_time_has_its_zone() -> None:
    offset = SystemClock().now().utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0
