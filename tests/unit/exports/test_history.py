"""The history of generations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from labstore.exports.grants import Doubt, Grant, GrantTable
from labstore.exports.history import ABANDONED_KEPT, GenerationState, History, Pin
from labstore.model.address import Client
from labstore.model.exports import Export
from labstore.model.names import ExportPath
from tests.support.fake_clock import START

TOOLS, MAPS = ExportPath("/srv/tools"), ExportPath("/srv/maps")


def table(**clients: tuple[str, ...]) -> GrantTable:
    paths = {ExportPath(f"/srv/{name}"): addresses for name, addresses in clients.items() if addresses}
    return GrantTable(
        {path: Export.of(path.rpartition("/")[2], path) for path in paths},
        {path: {Client(a): grant(path, a) for a in addresses} for path, addresses in paths.items()},
    )


def grant(path: ExportPath, address: str) -> Grant:
    return Grant(path, Client(address), "instance", START, "p", f"id-{address}", f"name-{address}", "r")


def apply(history: History, new: GrantTable, minutes: int = 0) -> int:
    number = history.begin(new, START + timedelta(minutes=minutes), "op@host", "test", {"n": 1}, [{"key": "k"}])
    history.commit(number)
    return number


def flat(found: GrantTable) -> Mapping[str, list[str]]:
    return {str(path): sorted(grants) for path, grants in found.grants.items() if grants}


clients = st.sets(st.integers(1, 6).map(lambda n: f"10.0.0.{n}"), max_size=5).map(lambda s: tuple(sorted(s)))
tables = st.builds(lambda tools, maps: table(tools=tools, maps=maps), clients, clients)


@given(st.lists(st.tuples(tables, st.booleans()), max_size=8))
def test_every_generation_reads_back_whole(changes: list[tuple[GrantTable, bool]]) -> None:
    history = History(Path(":memory:"))
    kept: dict[int, GrantTable] = {}
    for new, comes_to_be in changes:
        number = history.begin(new, START, "op", "test", {}, [])
        if comes_to_be:
            history.commit(number)
            kept[number] = new
        else:
            history.abandon(number)
    for number, expected in kept.items():
        history._latest = None
        assert flat(history.table(number)) == flat(expected)
        assert history.table(number).exports == expected.exports


def test_a_change_of_one_client_costs_one_row(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    many = tuple(f"10.0.{n >> 8}.{n & 255}" for n in range(1, 1000))
    apply(history, table(tools=many))
    apply(history, table(tools=(*many, "10.9.9.9")))
    assert history._db.execute("SELECT count(*) FROM granted").fetchone()[0] == len(many) + 1


def test_a_restart_finds_a_pending_generation_and_asks_the_files(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    first = apply(history, table(tools=("10.0.0.1",)))
    second = history.begin(table(tools=("10.0.0.2",)), START, "op", "test", {}, [])
    History(tmp_path / "h").settle(first)
    assert flat(History(tmp_path / "h").table(first)) == {"/srv/tools": ["10.0.0.1"]}
    history = History(tmp_path / "h")
    assert history.newest() == first
    third = history.begin(table(tools=("10.0.0.3",)), START, "op", "test", {}, [])
    assert third > second, "a number is never used twice"
    History(tmp_path / "h").settle(third)
    assert History(tmp_path / "h").newest() == third


def test_difference_of_two_generations(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    a = apply(history, table(tools=("10.0.0.1", "10.0.0.2")))
    b = apply(history, table(tools=("10.0.0.2",), maps=("10.0.0.3",)))
    difference = history.diff(a, b)
    assert [g.client for g in difference.added] == ["10.0.0.3"]
    assert [g.client for g in difference.removed] == ["10.0.0.1"]
    assert [e.path for e in difference.exports_added] == [MAPS]


def test_who_may_mount_this_and_since_when(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    first = apply(history, table(tools=("10.0.0.1",), maps=("10.0.0.0/24",)))
    second = apply(history, table(maps=("10.0.0.0/24",)))
    now, before = history.why(Client("10.0.0.1"))[0], history.why(Client("10.0.0.1"), ExportPath("/srv/tools/sub"))[0]
    assert (now.grant.path, now.first, now.last) == (MAPS, first, None)
    assert (before.grant.path, before.first, before.last) == (TOOLS, first, second - 1)
    assert history.why(Client("10.0.1.1")) == ()


def test_the_generation_of_a_moment(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    numbers = [apply(history, table(tools=(f"10.0.0.{n}",)), minutes=n) for n in (1, 2, 3)]
    found = history.at_time(START + timedelta(minutes=2, seconds=30))
    assert found is not None
    assert found.number == numbers[1]
    assert history.at_time(START) is None


def test_pruning_keeps_what_still_holds(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    for n in range(1, 11):
        apply(history, table(tools=("10.9.9.9", f"10.0.0.{n}")))
    assert history.prune(3) == 7
    assert [g.number for g in history.generations()] == [10, 9, 8]
    assert flat(History(tmp_path / "h").table(10)) == {"/srv/tools": ["10.0.0.10", "10.9.9.9"]}


def test_pruning_keeps_the_pinned_generation(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    for n in range(1, 11):
        apply(history, table(tools=("10.9.9.9", f"10.0.0.{n}")))
    history.set_pin(Pin(3, START, "op", "why"))
    history.prune(2)
    assert flat(History(tmp_path / "h").table(3)) == {"/srv/tools": ["10.0.0.3", "10.9.9.9"]}


def test_what_never_came_to_be_takes_no_place_of_what_was_served(tmp_path: Path) -> None:
    """A server that refuses for a night makes a thousand generations that were never in force."""
    history = History(tmp_path / "h")
    for n in range(1, 6):
        apply(history, table(tools=(f"10.0.0.{n}",)))
    for _ in range(ABANDONED_KEPT + 20):
        history.abandon(history.begin(table(tools=("10.0.0.9",)), START, "op", "why", {}, []))
    assert history.prune(3) == 2 + 20
    kept = [each.number for each in history.generations(1000) if each.state is GenerationState.APPLIED]
    assert kept == [5, 4, 3]
    assert apply(history, table(tools=("10.0.0.7",))) > 5 + ABANDONED_KEPT, "no number is given twice"


def test_whose_a_path_was_is_remembered_when_all_its_grants_are_gone(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    apply(history, table(tools=("10.0.0.1",), maps=("10.0.0.2",)))
    for n in range(3, 9):
        apply(history, table(maps=(f"10.0.0.{n}",)))
    history.prune(2)
    assert History(tmp_path / "h").identities() == {TOOLS: "p", MAPS: "p"}


def test_what_was_shown_of_a_generation_is_kept(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    number = apply(history, table(tools=("10.0.0.1",)))
    kept = History(tmp_path / "h").generation(number)
    assert kept is not None
    assert (kept.who, kept.why, kept.facts, kept.steps) == ("op@host", "test", {"n": 1}, ({"key": "k"},))
    assert kept.state is GenerationState.APPLIED


def test_doubts_and_pin_survive(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    doubt = Doubt(TOOLS, Client("10.0.0.1"), "r", 4, START)
    history.keep_doubts({(TOOLS, Client("10.0.0.1")): doubt})
    history.set_pin(Pin(3, START, "op", "why"))
    again = History(tmp_path / "h")
    assert again.doubts() == {(TOOLS, Client("10.0.0.1")): doubt}
    assert again.pin() == Pin(3, START, "op", "why")
    again.set_pin(None)
    assert history.pin() is None
