"""Logs: only what changed, in the reader's form, without secrets, and forgery-proof."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from labstore.reconcile.record import Record, State
from labstore.reports.exports import MassRemoval, NotServed
from labstore.system.log import Logger
from labstore.telemetry import logs
from labstore.telemetry.logs import CycleLog
from tests.support.logs_kept import logs_kept

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)


class TerminalText(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with logs_kept():
        yield


def said(stream: io.StringIO, level: str = "debug", **words: Any) -> str:
    logs.configure(level, stream)
    Logger().warning("something", **words)
    return stream.getvalue()


def test_json_where_a_program_reads() -> None:
    line = json.loads(said(io.StringIO(), cluster="primary", clients=3))
    assert (line["event"], line["level"], line["cluster"], line["clients"]) == ("something", "warning", "primary", 3)


def test_words_where_a_person_reads() -> None:
    assert said(TerminalText(), cluster="primary", why="two words").endswith(
        ' warning something  cluster=primary why="two words"\n'
    )


def test_the_journal_gets_priorities_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert said(io.StringIO(), clients=3) == "<4>something  clients=3\n"


@pytest.mark.parametrize(
    "words",
    [
        {"password": "sesame99"},
        {"OS_PASSWORD": "sesame99"},
        {"auth": {"token": "sesame99"}},
        {"command": "login --password=sesame99 -v"},
        {"line": "X-Auth-Token: sesame99"},
        {"line": "Authorization: Bearer sesame99"},
        {"rows": [{"secret": "sesame99"}]},
    ],
)
def test_secrets_are_masked(words: dict[str, Any]) -> None:
    text = said(io.StringIO(), **words)
    assert "sesame99" not in text
    assert logs.MASK in text


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    logs.mask("open-sesame-1")
    assert "open-sesame-1" not in said(io.StringIO(), url="http://x/?q=open-sesame-1")


@pytest.mark.parametrize("stream", [io.StringIO, TerminalText])
def test_nobody_can_forge_a_line(stream: type[io.StringIO]) -> None:
    text = said(stream(), name="evil\n<1>all is lost\x1b[2J")
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_libraries_speak_in_our_form() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    logging.getLogger("keystoneauth").warning("password=%s is wrong", "hunter22")
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["event"]) == ("keystoneauth", "password=*** is wrong")


def test_tracebacks_are_kept() -> None:
    stream = io.StringIO()
    logs.configure("info", stream)
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        Logger().error("a defect", exc_info=error)
    assert "RuntimeError: boom" in json.loads(stream.getvalue())["exception"]


# --- cycles ----------------------------------------------------------------------------------------------------------


class Heard:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **_: self.lines.append((level, event))

    def take(self) -> list[tuple[str, str]]:
        taken, self.lines = self.lines, []
        return taken


def cycle(state: State = State.CONVERGED, **more: Any) -> Record:
    return Record("exports", 1, NOW, NOW, state, **more)


def test_a_cycle_that_changed_nothing_is_worth_a_debug_line() -> None:
    """upstream #59"""
    heard = Heard()
    log = CycleLog(heard)
    log.seen(cycle())
    assert heard.take() == [("info", "cycle")]
    log.seen(cycle())
    log.seen(cycle())
    assert heard.take() == [("debug", "cycle"), ("debug", "cycle")]


def test_a_report_is_news_once_and_its_end_is_too() -> None:
    heard = Heard()
    log = CycleLog(heard)
    log.seen(cycle())
    heard.take()
    log.seen(cycle(State.HOLDING, reports=(NotServed("knfsd"),)))
    assert [level for level, _ in heard.take()] == ["warning", "info"]
    log.seen(cycle(State.HOLDING, reports=(NotServed("knfsd"),)))
    assert [level for level, _ in heard.take()] == ["debug"]
    log.seen(cycle())
    assert heard.take() == [("info", "no longer so"), ("info", "cycle")]


def test_a_number_that_moves_is_no_news() -> None:
    heard = Heard()
    log = CycleLog(heard)
    for removed in (40, 41, 42):
        log.seen(cycle(State.REFUSED, reports=(MassRemoval("all", removed, 128, "gone"),)))
    assert [level for level, _ in heard.take()] == ["error", "info", "debug", "debug"]


def test_many_reports_at_once_are_cut_short() -> None:
    heard = Heard()
    CycleLog(heard).seen(
        cycle(State.HOLDING, reports=tuple(NotServed(f"server-{chr(97 + n % 26)}{'x' * n}") for n in range(90)))
    )
    assert len(heard.take()) == logs.MOST + 2


def test_every_step_is_told() -> None:
    heard = Heard()
    CycleLog(heard).seen(cycle(steps=({"key": "/srv/a admit", "verb": "add", "why": "seen", "adds": ["10.0.0.1"]},)))
    assert ("info", "step") in heard.take()
