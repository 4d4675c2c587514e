"""States of a whole lab that tests start from: built once, restored in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.lab import Lab


@dataclass(frozen=True)
class Stage:
    """A state by name, and how it is made out of the one `before` it (machines that have just started, if none)."""

    name: str
    build: Callable[[Lab], None]
    before: Stage | None = None


class Stages:
    """The stages of one lab. All machines must be running at the end of a stage's `build`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.seconds: dict[str, float] = {}
        """How long each stage took to build."""
        self.restored: list[float] = []
        self._here: str | None = None
        self._make(Stage("started", lambda lab: lab.start()))

    def at(self, stage: Stage) -> Lab:
        """The lab on this stage, untouched by other tests. The caller may do with it what it likes."""
        self._go(stage)
        self._here = None
        return self.lab

    def _go(self, stage: Stage) -> None:
        if stage.name not in self.seconds:
            if stage.before is None:
                self._restore("started")
            else:
                self._go(stage.before)
            self._make(stage)
        self._restore(stage.name)

    def _make(self, stage: Stage) -> None:
        started = time.monotonic()
        self._here = None
        stage.build(self.lab)
        self.lab.save(stage.name)
        self.seconds[stage.name] = time.monotonic() - started
        self._here = stage.name

    def _restore(self, name: str) -> None:
        if self._here != name:
            started = time.monotonic()
            self.lab.restore(name)
            self.restored.append(time.monotonic() - started)
            self._here = name
