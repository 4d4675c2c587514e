"""Progress: said only to a person who waits, with rate and remaining time."""

from __future__ import annotations

import io
import time
from datetime import datetime, timedelta, timezone

import pytest

from labstore.cli import output
from labstore.cli.output import progress_line, waiting
from labstore.reports.render import moment
from tests.support.cli_world import in_utc


class TerminalText(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "expected", "calls", "line"),
    [
        (3, None, None, "asking ... 3 s"),
        (4, 10.0, None, "asking ... 4 s, about 6 s left"),
        (12, 10.0, None, "asking ... 12 s, longer than last time"),
        (4, 10.0, 80, "asking ... 4 s, 80 calls, 20/s, about 6 s left"),
    ],
)
def test_the_line_of_progress(seconds: float, expected: float | None, calls: int | None, line: str) -> None:
    assert progress_line("asking", seconds, expected, (lambda: calls) if calls else None) == line


def test_a_person_who_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TerminalText()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(output, "PATIENCE", 0.01)
    with waiting("asking the inventory", 9.0):
        time.sleep(0.15)
    assert "asking the inventory ... 0 s, about 9 s left" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K"), "and the line is gone afterwards"


def test_nobody_is_told_who_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, patience in ((io.StringIO(), 0.0), (TerminalText(), 2.0)):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(output, "PATIENCE", patience)
        with waiting("asking"):
            time.sleep(0.02)
        assert stream.getvalue() == ""


def test_moments_have_one_form() -> None:
    with in_utc():
        assert moment(datetime(2026, 5, 29, 12, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-05-29 10:00"
