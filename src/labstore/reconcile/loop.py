"""The loop around a cycle: regular with jitter, slower after failures, ended by a flag."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from labstore.ports.clock import Clock
from labstore.reconcile.record import Record, State


@dataclass(frozen=True)
class Pace:
    """When the next cycle is due, in seconds.

    `jitter` is the part of the interval by which a wait may be longer, so that many nodes do not ask at once.
    After `n` failed cycles in a row the wait doubles `n` times, at most to `slowest`.
    """

    interval: float
    slowest: float
    jitter: float = 0.1

    def wait(self, failures: int, chance: float) -> float:
        """The wait after `failures` failed cycles in a row; `chance` is in [0, 1)."""
        due = min(self.interval * float(1 << min(failures, 20)), max(self.slowest, self.interval))
        return due * (1 + self.jitter * chance)


@dataclass
class Loop:
    """Runs `cycle` until `stop()` is called (a signal handler may). `seen` is told of each record and the next wait."""

    cycle: Callable[[], Record]
    pace: Pace
    clock: Clock
    seen: Callable[[Record, float], None] = lambda _record, _wait: None
    chance: Callable[[], float] = random.random
    stopping: bool = field(default=False, init=False)

    def stop(self) -> None:
        self.stopping = True
        self.clock.wake()

    def run(self) -> None:
        failures = 0
        while not self.stopping:
            record = self.cycle()
            failures = failures + 1 if record.state is State.FAILED else 0
            wait = self.pace.wait(failures, self.chance())
            self.seen(record, wait)
            if not self.stopping:
                self.clock.sleep(wait)
