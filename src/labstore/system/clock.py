"""The machine's clock."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class SystemClock:
    """See ports.clock.Clock."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()
