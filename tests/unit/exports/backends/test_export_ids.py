"""Export ids: the same path, the same id, for ever and on every node."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.exports.backends.export_ids import ExportIds, NoIdLeft, assign
from labstore.formats.ganesha_conf import HIGHEST_ID
from labstore.model.names import ExportPath

A, B, C = ExportPath("/srv/a"), ExportPath("/srv/b"), ExportPath("/srv/c")


@pytest.fixture
def ids(tmp_path: Path) -> ExportIds:
    return ExportIds(tmp_path / "store" / "export-ids")


def test_two_nodes_give_a_path_the_same_id(tmp_path: Path) -> None:
    one, two = ExportIds(tmp_path / "one"), ExportIds(tmp_path / "two")
    assert one.give([A, B], {}, ()).keys() <= two.give([B, A, C], {}, ()).keys()
    assert one.give([A, B, C], {}, ()) == two.give([A, B, C], {}, ())


def test_an_id_is_on_file_before_it_is_used_and_never_forgotten(ids: ExportIds, tmp_path: Path) -> None:
    given = ids.give([A, B], {}, ())
    again = ExportIds(tmp_path / "store" / "export-ids")
    assert again.known() == given
    again.give([C], {}, ())
    assert again.known().items() >= given.items()
    assert again.give([A], {}, ())[A] == given[A]


def test_nothing_is_written_when_nothing_is_new(ids: ExportIds, tmp_path: Path) -> None:
    ids.give([A, B], {}, ())
    before = (tmp_path / "store" / "export-ids").stat()
    ids.give([B], {}, ())
    after = (tmp_path / "store" / "export-ids").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_paths_of_equal_wishes_get_different_ids() -> None:
    ids: dict[ExportPath, int] = {}
    assign(ids, [A], ())
    wish = ids[A]
    assign(other := {B: wish}, [A], ())
    assert other[A] == wish % HIGHEST_ID + 1


def test_ids_of_foreign_exports_are_left_to_them(ids: ExportIds, tmp_path: Path) -> None:
    wish = ids.give([A], {}, ())[A]
    assert ExportIds(tmp_path / "new").give([A], {}, {wish})[A] != wish


def test_what_is_in_force_counts_more_than_a_lost_or_stale_file(ids: ExportIds) -> None:
    ids.give([A, B], {}, ())
    in_force = {A: 4711, C: ids.known()[B]}
    assert ids.give([A, B, C], in_force, ()).items() >= in_force.items()
    assert len(set(ids.known().values())) == 3


def test_an_old_id_is_given_away_only_when_there_is_no_other() -> None:
    ids = {ExportPath(f"/srv/{number}"): number for number in range(1, HIGHEST_ID + 1)}
    kept = [ExportPath("/srv/1"), ExportPath("/srv/3")]
    assign(ids, [*kept, A], ())
    assert ids[A] == 2
    assert ExportPath("/srv/2") not in ids
    assert len(ids) == HIGHEST_ID


def test_more_exports_than_ids_is_said() -> None:
    paths = [ExportPath(f"/srv/{number}") for number in range(HIGHEST_ID + 1)]
    with pytest.raises(NoIdLeft):
        assign({}, paths, ())
