"""The machine's clock."""

from __future__ import annotations

import os
import select
import time
from datetime import UTC, datetime


class SystemClock:
    """See ports.clock.Clock. What wakes it is an eventfd: a lock could be held by the very thread that a signal
    interrupts."""

    def __init__(self) -> None:
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._poll.poll(max(0.0, seconds) * 1000):
            os.eventfd_read(self._woken)

    def wake(self) -> None:
        os.eventfd_write(self._woken, 1)

    def __del__(self) -> None:
        os.close(self._woken)
