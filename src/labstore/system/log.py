"""The way to the log. structlog is loaded with the first line that is said: loading it takes a fifth of the time in
which a command starts, and most commands say nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Setup:
    """`prepare` makes structlog ready to say something at `level` (a number of logging's) and above; it is called
    once."""

    level: int = logging.WARNING
    prepare: Callable[[], None] | None = None


setup = Setup()
"""Of this process; telemetry.logs sets it."""
_preparing = threading.RLock()
"""Taken again by a signal handler that says something while its own thread does."""


class Logger:
    """Says an event with named values. What lies below the level of the process costs nothing."""

    def debug(self, event: str, **values: Any) -> None:
        _say("debug", logging.DEBUG, event, values)

    def info(self, event: str, **values: Any) -> None:
        _say("info", logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        _say("warning", logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        _say("error", logging.ERROR, event, values)

    def critical(self, event: str, **values: Any) -> None:
        _say("critical", logging.CRITICAL, event, values)

    def exception(self, event: str, **values: Any) -> None:
        """An error, with the traceback of what is being handled."""
        self.error(event, **{"exc_info": True, **values})


def _say(name: str, level: int, event: str, values: dict[str, Any]) -> None:
    if level < setup.level:
        return
    import structlog  # noqa: PLC0415 - see above

    with _preparing:
        prepare, setup.prepare = setup.prepare, None
        if prepare is not None:
            prepare()
    getattr(structlog.get_logger(), name)(event, **values)
