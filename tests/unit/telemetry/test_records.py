"""The newest record as a file: whole, readable by another version's words, bounded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.reconcile.record import Outcome, Record, Result, State
from labstore.reports.exports import MassRemoval, NotServed
from labstore.telemetry.records import MOST, BadRecord, kept, place, read, read_all, write

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)
HELD = MassRemoval("project tools", 40, 128, "missing")


def record(state: State = State.REFUSED, number: int = 7, hours: float = 0, **more: object) -> Record:
    started = NOW + timedelta(hours=hours)
    words: dict[str, object] = {
        "facts": {"generation": 3, "served_clients": 12},
        "untouched": {"/srv/misc": "2 kept"},
        "results": (Result("/srv/misc gone", Outcome.REFUSED, HELD), Result("/srv/x gone", Outcome.REFUSED, HELD)),
        "reports": (HELD, NotServed("knfsd")),
    }
    ended = started + timedelta(seconds=1)
    return Record("exports", number, started, ended, state, **{**words, **more})  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    before = kept(record(), "primary", "labstore1", "labstore-exportd@labstore1", NOW + timedelta(seconds=9))
    write(tmp_path, before)
    assert read(place(tmp_path, "exports", "primary")) == before
    assert read_all(tmp_path) == ((before,), ())


def test_a_refusal_of_many_keys_is_told_once() -> None:
    refused = kept(record(), "primary", "n", "w").refused
    assert [(said.code, said.override) for said in refused] == [("mass-removal", "allow-mass-removal")]


def test_the_state_is_since_its_first_record() -> None:
    first = kept(record(State.HOLDING, 1), "p", "n", "w")
    second = kept(record(State.HOLDING, 2, hours=1), "p", "n", "w", before=first)
    third = kept(record(State.CONVERGED, 3, hours=2), "p", "n", "w", before=second)
    assert (second.since, third.since) == (NOW, NOW + timedelta(hours=2))


def test_an_outage_of_everything_does_not_cost_megabytes() -> None:
    huge = kept(record(untouched={f"/srv/{n}": "kept" for n in range(9000)}), "p", "n", "w")
    assert len(huge.untouched) == MOST
    assert huge.facts["untouched_count"] == 9000


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"version": 99}', b'{"version": 1}', b"\xff\xfe", b'{"version":1,"room":3}'],
)
def test_what_is_no_record_is_told_and_stops_nothing(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, kept(record(), "good", "n", "w"))
    (tmp_path / "exports/bad.json").write_bytes(content)
    found, wrong = read_all(tmp_path)
    assert [each.name for each in found] == ["good"]
    assert len(wrong) == 1
    with pytest.raises(BadRecord):
        read(tmp_path / "exports/bad.json")


def test_nothing_written_yet_is_nothing(tmp_path: Path) -> None:
    assert read_all(tmp_path) == ((), ())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_record_or_told(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("r") / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(BadRecord):
        read(path)
