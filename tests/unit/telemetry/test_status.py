"""One judgement for every view."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.system.locks import exclusive
from labstore.telemetry.records import Kept, Said, write
from labstore.telemetry.status import GRACE, Health, Limits, judged, look, worst
from labstore.telemetry.words import ago, plural, safe

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)
DUE = NOW + timedelta(seconds=10)
WARNED = Said("project-gone", Severity.WARNING, "maps", "project maps is gone", "take it out", None)
DOWN = Said("not-served", Severity.WARNING, "knfsd", "the kernel's NFS server is not running", "start it", None)
NOTE = Said("project-disabled", Severity.NOTICE, "cvn", "cvn is disabled", None, None)


def a_record(state: State = State.CONVERGED, *said: Said, **facts: object) -> Kept:
    figures: dict[str, object] = {"served_exports": 4, "served_clients": 1, "listing_every": 300.0, **facts}
    return Kept("exports", "primary", "n1", "w", 1, NOW, NOW, NOW, DUE, state, figures, reports=said)


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (State.CONVERGED, Health.OK),
        (State.STANDBY, Health.OK),
        (State.HOLDING, Health.WARNING),
        (State.REFUSED, Health.WARNING),
        (State.FAILED, Health.CRITICAL),
    ],
)
def test_health_follows_the_state(state: State, health: Health) -> None:
    assert judged(a_record(state), NOW).health is health


def test_what_waits_for_a_person_is_a_warning_and_a_notice_is_not() -> None:
    room = judged(a_record(State.CONVERGED, NOTE, WARNED), NOW)
    assert (room.health, room.waiting, room.notices) == (Health.WARNING, (WARNED,), (NOTE,))
    assert room.next == ("take it out",)
    assert judged(a_record(State.CONVERGED, NOTE), NOW).health is Health.OK


def test_a_server_that_does_not_run_is_critical_and_is_the_headline() -> None:
    room = judged(a_record(State.CONVERGED, DOWN), NOW)
    assert (room.health, room.headline) == (Health.CRITICAL, DOWN.message)


def test_a_daemon_that_died_is_known_at_once() -> None:
    room = judged(a_record(), NOW, alive=False)
    assert room.health is Health.CRITICAL
    assert "does not run" in room.headline
    assert "journalctl" in room.next[0]


@pytest.mark.parametrize(("alive", "words"), [(True, "hangs"), (None, "does not run, or hangs")])
def test_a_daemon_that_is_silent_for_too_long_is_told(alive: bool | None, words: str) -> None:
    """upstream #60: a stuck process was unseen until an alert on its last run."""
    late = DUE + GRACE
    assert judged(a_record(), late, alive).health is Health.OK
    assert words in judged(a_record(), late + timedelta(seconds=1), alive).headline


def test_a_record_after_which_none_is_to_come_is_never_late() -> None:
    assert judged(replace(a_record(), due=None), NOW + timedelta(days=9), alive=False).health is Health.OK


@pytest.mark.parametrize(("age", "health"), [(899, Health.OK), (901, Health.WARNING), (3601, Health.CRITICAL)])
def test_listings_that_fail_for_long_are_told(age: float, health: Health) -> None:
    listed = (NOW - timedelta(seconds=age)).isoformat()
    assert judged(a_record(complete=listed), NOW, True).health is health
    assert judged(a_record(State.STANDBY, complete=listed), NOW, True).health is Health.OK


def test_limits_can_be_given() -> None:
    listed = (NOW - timedelta(seconds=50)).isoformat()
    assert judged(a_record(complete=listed), NOW, True, Limits(10, 40)).health is Health.CRITICAL


def test_the_headline_counts() -> None:
    held = judged(a_record(State.HOLDING, missing_count=1, held_clients=3), NOW)
    assert held.headline == "holding: 4 exports, 1 client as they were; 1 answer missing, 3 clients in doubt"


def test_looking_finds_out_whether_the_daemon_lives(tmp_path: Path) -> None:
    write(tmp_path, a_record())
    with exclusive(tmp_path / "exports/primary.daemon", "daemon"):
        rooms, _ = look(tmp_path, NOW)
        assert worst(rooms) is Health.OK
    rooms, _ = look(tmp_path, NOW)
    assert worst(rooms) is Health.CRITICAL


def test_nothing_to_judge_is_unknown() -> None:
    assert worst(()) is Health.UNKNOWN


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (300, "5 min"), (11100, "3 h 5 min"), (7200, "2 h"), (187200, "2 d 4 h"), (-5, "0 s")],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_words_about_numbers() -> None:
    assert (plural(1, "client"), plural(0, "client")) == ("1 client", "0 clients")


def test_harmless_text() -> None:
    assert safe("a\n\x1b[31mb\u202ec\x00 d") == "a\\n\\x1b[31mb\\u202ec\\x00 d"
    assert safe("Zürich 東京") == "Zürich 東京"
