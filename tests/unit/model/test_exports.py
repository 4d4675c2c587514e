"""Exports and their table."""

from __future__ import annotations

import pytest

from labstore.model.exports import Export, ExportOptions, ExportTable, Fsid, Squash
from labstore.model.names import ExportPath

PATH = ExportPath("/srv/misc/shared/tools")


def test_the_default_options_are_the_safe_ones() -> None:
    options = ExportOptions()
    assert options.squash is Squash.ROOT  # upstream #15
    assert options.sync
    assert not options.insecure


def test_an_fsid_depends_on_site_cluster_and_path_alone() -> None:
    assert Fsid.of_path("site/primary", PATH) == Fsid.of_path("site/primary", PATH)  # upstream #32
    assert Fsid.of_path("site/primary", PATH) != Fsid.of_path("site/secondary", PATH)


def test_the_originals_fsid_has_the_gid_in_the_middle() -> None:
    assert Fsid.of_gid(50380).replace("-", "") == "00000000000000000503800000000000"
    with pytest.raises(ValueError, match="five digits"):
        Fsid.of_gid(999)


@pytest.mark.parametrize("text", ["0", "-1", "4294967296", "root", "", "1 2", "x" * 32])
def test_other_fsids_do_not_exist(text: str) -> None:
    with pytest.raises(ValueError, match="is not an fsid"):
        Fsid(text)


def test_no_clients_means_nobody_and_such_an_export_is_not_in_a_table() -> None:
    export = Export.of("tools", PATH)
    assert export.nobody
    assert len(ExportTable().replacing({PATH: export})) == 0


def test_a_path_is_exported_once() -> None:
    with pytest.raises(ValueError, match="exported twice"):
        ExportTable((Export.of("tools", PATH, ["10.0.0.1"]), Export.of("maps", PATH, ["10.0.0.2"])))


def test_equal_tables_have_equal_digests_whatever_their_order() -> None:
    one, two = Export.of("tools", PATH, ["10.0.0.2", "10.0.0.1"]), Export.of("maps", "/srv/maps", ["10.0.0.3"])
    assert ExportTable((one, two)).digest == ExportTable((two, one)).digest
    assert ExportTable((one,)).digest != ExportTable((two,)).digest


def test_nobody_written_out_is_nobody_left_out() -> None:
    assert ExportOptions(anonuid=65534) == ExportOptions()


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_ids_are_numeric_ids(number: int) -> None:
    with pytest.raises(ValueError, match="is not a numeric id"):
        ExportOptions(anonuid=number)
