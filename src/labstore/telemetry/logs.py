"""Logs: key=value where a person or the journal reads, JSON elsewhere; secrets masked; a line only where something
changed (upstream #59)."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

from labstore.reconcile.record import Record, State
from labstore.reports.report import Report, Severity
from labstore.system.log import Logger, setup
from labstore.telemetry.words import safe

MASK = "***"
_SECRET_KEY = re.compile(r"pass(?:word|wd)?$|secret|token|credential|authorization", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"((?:pass(?:word|wd)?|secret|token|authorization)[\"']?\s*[=:]\s*[\"']?)((?:bearer |basic )?[^\s\"',;&]+)",
    re.IGNORECASE,
)
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,*#-]+")
_known: set[str] = set()

Event = MutableMapping[str, Any]
_Sameness = tuple[str, str, str]
_T = TypeVar("_T")
MOST = 50
"""Lines of one kind that one cycle may say."""


def mask(secret: str) -> None:
    """Never let this text into a log again, wherever it stands."""
    if len(secret) >= 4:
        _known.add(secret)


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send what is logged at `level` and above, by us and by libraries, to `stream` (standard error) in the form that
    suits its reader."""
    target = stream or sys.stderr
    render = _renderer(target)
    number: int = logging.getLevelName(level.upper())

    def prepare() -> None:
        import structlog  # noqa: PLC0415 - see system.log

        structlog.configure(
            processors=[structlog.processors.add_log_level, _traceback, masked, render],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.PrintLoggerFactory(target),
            cache_logger_on_first_use=False,
        )

    setup.level, setup.prepare = number, prepare
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries()]
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)


def masked(_logger: object, _method: str, event: Event) -> Event:
    """A structlog processor: secrets go, by the name of their key, by their look, and those that were made known."""
    for key, value in event.items():
        event[key] = MASK if _SECRET_KEY.search(key) else _masked(value)
    return event


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: MASK if _SECRET_KEY.search(str(key)) else _masked(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    if not isinstance(value, str):
        return value
    for secret in _known:
        value = value.replace(secret, MASK)
    return _SECRET_TEXT.sub(rf"\1{MASK}", value)


def _traceback(_logger: object, _method: str, event: Event) -> Event:
    if not event.get("exc_info"):
        return event
    from structlog.processors import format_exc_info  # noqa: PLC0415 - see system.log

    return format_exc_info(_logger, _method, event)


def _renderer(stream: TextIO) -> Any:
    if stream.isatty():
        return _for_people
    return _for_the_journal if os.environ.get("JOURNAL_STREAM") else _as_json


def _for_people(_logger: object, _method: str, event: Event) -> str:
    return f"{datetime.now().astimezone():%H:%M:%S} {event.pop('level'):7} {_words(event)}"


def _for_the_journal(_logger: object, _method: str, event: Event) -> str:
    """The journal has the time already, and takes the priority from the brackets (sd-daemon(3)), line by line."""
    priority = f"<{_PRIORITY.get(event.pop('level'), 6)}>"
    return "\n".join(priority + line for line in _words(event).split("\n"))


def _as_json(_logger: object, _method: str, event: Event) -> str:
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": event.pop("level"), **event}
    return json.dumps(line, default=str)


def _words(event: Event) -> str:
    said, trace = str(event.pop("event")), event.pop("exception", None)
    pairs = " ".join(f"{key}={_value(value)}" for key, value in event.items())
    first = safe(said) + (f"  {pairs}" if pairs else "")
    return first + ("\n" + "\n".join(safe(line) for line in str(trace).splitlines()) if trace else "")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if _PLAIN.fullmatch(text) else json.dumps(text) if isinstance(value, str) else text


class _FromLibraries(logging.Handler):
    """What libraries say through the standard library's logging, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = Logger()
            level = "critical" if record.levelno >= logging.CRITICAL else record.levelname.lower()
            getattr(said, level, said.info)(record.getMessage(), logger=record.name)
        except Exception:  # noqa: BLE001 - a log line that cannot be made must not end what it is about
            self.handleError(record)


# --- cycles ----------------------------------------------------------------------------------------------------------


@dataclass
class CycleLog:
    """Says what a cycle changed. One that changed nothing and found everything as before is worth a debug line.

    A report is news once; that a number in its words moves does not make it news again.
    """

    logger: Any = field(default_factory=Logger)
    _state: State | None = field(default=None, init=False)
    _said: dict[_Sameness, Report] = field(default_factory=dict, init=False)

    def seen(self, record: Record, wait: float = 0.0) -> None:
        now = {_sameness(report): report for report in record.reports}
        news = [report for key, report in now.items() if key not in self._said]
        over = [report for key, report in self._said.items() if key not in now]
        self._each(news, self._say)
        self._each(over, lambda report: self.logger.info("no longer so", was=report.message(), code=report.code))
        self._each(record.steps, lambda step: self.logger.info("step", **_short(step)))
        changed = record.state is not self._state or news or over or record.steps
        (self.logger.info if changed else self.logger.debug)(
            "cycle",
            state=record.state.value,
            number=record.number,
            seconds=round(record.seconds, 3),
            steps=len(record.steps),
            generation=record.facts.get("generation"),
            clients=record.facts.get("served_clients"),
            next_in=round(wait, 1),
        )
        self._state, self._said = record.state, now

    def _each(self, things: Sequence[_T], say: Callable[[_T], None]) -> None:
        for thing in things[:MOST]:
            say(thing)
        if len(things) > MOST:
            self.logger.info("and more of them, in the record", count=len(things) - MOST)

    def _say(self, report: Report) -> None:
        say = {
            Severity.NOTICE: self.logger.info,
            Severity.WARNING: self.logger.warning,
            Severity.ERROR: self.logger.error,
        }[report.severity]
        say(report.message(), code=report.code, remedy=report.remedy())


def _sameness(report: Report) -> _Sameness:
    return report.code, report.subject, re.sub("[0-9]+", "#", report.message())


def _short(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step as a log line: long lists of clients are cut, the record has them whole."""
    words: dict[str, Any] = {key: step[key] for key in ("key", "verb", "why") if key in step}
    for key in ("adds", "removes"):
        names = list(step.get(key) or ())
        if names:
            words[key] = " ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return words
