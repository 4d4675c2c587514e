"""From what NFS-Ganesha serves to what it shall serve: nobody is let in before everybody who goes is out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from labstore.exports.backends.ganesha_changes import batches, changes, differing
from labstore.formats.ganesha_conf import Numbered
from labstore.formats.ganesha_dbus import WORLD, LiveClient, LiveExport, Terms
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ExportPath
from tests.unit.exports.tables import PLACES, tables

IDS = {ExportPath(place): number for number, place in enumerate(PLACES, 1)}
Live = dict[ExportPath, LiveExport]


def live_export(export: Export, number: int = 0) -> LiveExport:
    names = (WORLD,) if export.world else tuple(export.clients)
    terms = Terms.of(export.options)
    path = export.path
    return LiveExport(number or IDS[path], path, path, tuple(LiveClient(name, terms) for name in names))


def live(table: ExportTable) -> Live:
    return {export.path: live_export(export) for export in table}


def granted(state: Mapping[ExportPath, LiveExport]) -> set[tuple[str, str, Terms | None]]:
    return {(path, client.name, client.terms) for path, export in state.items() for client in export.clients}


def put(state: Live, exports: Iterable[Numbered]) -> Live:
    return state | {each.export.path: live_export(each.export, each.id) for each in exports}


def anywhere(path: ExportPath) -> bool:
    return True


@given(tables(), tables())
def test_the_end_is_what_was_wanted(before: ExportTable, after: ExportTable) -> None:
    todo = changes(live(before), after, IDS, anywhere)
    state = {path: export for path, export in live(before).items() if export.id not in todo.remove}
    state = put(put(put(state, todo.narrow), todo.widen), todo.add)
    assert differing(state, after, anywhere) == ()
    assert not changes(state, after, IDS, anywhere)


@given(tables(), tables())
def test_takings_away_come_first_and_add_nothing(before: ExportTable, after: ExportTable) -> None:
    todo = changes(live(before), after, IDS, anywhere)
    state = {path: export for path, export in live(before).items() if export.id not in todo.remove}
    taken = granted(put(state, todo.narrow))
    assert taken <= granted(live(after))
    people_before = {(path, name) for path, name, _ in granted(live(before))}
    assert {(path, name) for path, name, _ in taken} <= people_before


@given(tables(), tables())
def test_who_stays_on_the_same_terms_is_never_without(before: ExportTable, after: ExportTable) -> None:
    todo = changes(live(before), after, IDS, anywhere)
    state = {path: export for path, export in live(before).items() if export.id not in todo.remove}
    assert granted(live(before)) & granted(live(after)) <= granted(put(state, todo.narrow))


@given(tables())
def test_nothing_to_do_is_nothing(table: ExportTable) -> None:
    assert not changes(live(table), table, IDS, anywhere)


def test_the_deepest_goes_first() -> None:
    table = ExportTable((Export.of("a", "/srv/b", ["10.0.0.1"]), Export.of("a", "/srv/b/in", ["10.0.0.1"])))
    assert changes(live(table), ExportTable(), IDS, anywhere).remove == (
        IDS[ExportPath("/srv/b/in")],
        IDS[ExportPath("/srv/b")],
    )


def test_what_lies_below_a_renumbered_export_goes_and_comes_with_it() -> None:
    table = ExportTable((Export.of("a", "/srv/b", ["10.0.0.1"]), Export.of("a", "/srv/b/in", ["10.0.0.1"])))
    todo = changes(live(table), table, IDS | {ExportPath("/srv/b"): 99}, anywhere)
    assert len(todo.remove) == 2
    assert [(each.id, each.export.path) for each in todo.add] == [(99, "/srv/b"), (3, "/srv/b/in")]


def test_a_moved_pseudo_path_is_put_right_by_removing_and_adding() -> None:
    """UpdateExport would say yes and leave the old path mounted (4.3)."""
    export = Export.of("a", "/srv/a", ["10.0.0.1"])
    moved = LiveExport(1, "/srv/a", "/elsewhere", live_export(export).clients)
    todo = changes({export.path: moved}, ExportTable((export,)), IDS, anywhere)
    assert (todo.remove, [each.id for each in todo.add]) == ((1,), [1])


def test_what_is_not_there_yet_is_left_for_later() -> None:
    table = ExportTable((Export.of("a", "/srv/a", ["10.0.0.1"]),))
    assert not changes({}, table, IDS, lambda path: False)
    assert differing({}, table, lambda path: False) == ()
    assert differing({}, table, anywhere) == ("/srv/a",)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_batches_hold_everything_in_order_and_are_small(sizes: list[int]) -> None:
    every = [
        Numbered(number, Export.of("a", f"/srv/{number}", [f"10.0.{number}.{k}" for k in range(size)]))
        for number, size in enumerate(sizes, 1)
    ]
    found = list(batches(every, 7, 40))
    assert [each for batch in found for each in batch] == every
    assert all(len(batch) <= 7 for batch in found)
    assert all(sum(len(each.export.clients) for each in batch) <= 40 for batch in found if len(batch) > 1)
