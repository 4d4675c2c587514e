"""A clock that goes only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 5, 29, 11, 54, tzinfo=UTC)


class FakeClock:
    """See ports.clock.Clock. `sleep` advances the time at once."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def wake(self) -> None:
        pass

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
