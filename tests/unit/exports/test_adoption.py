"""What may be taken over of another program's files, and what follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from labstore.exports.adoption import Adoption, adoption, option_change
from labstore.exports.grants import Grant, GrantTable
from labstore.formats.exports5 import read
from labstore.model.address import Client
from labstore.model.exports import Export, ExportTable, Owner
from labstore.model.names import ExportPath
from tests.support.small_site import project, site

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)
SITE = site([project("tools", 50380), project("maps", 50196)])
ORIGINAL = "/srv/misc/shared/{} -rw,nohide,fsid={}{}{},no_subtree_check,async,no_root_squash {}"


def original(name: str, gid: int, *clients: str) -> tuple[Export, ...]:
    """What the original wrote, to the byte: no line end, its own fsid (upstream 1.2)."""
    text = ORIGINAL.format(name, "0" * 17, gid, "0" * 10, " ".join(clients))
    return read(text, Owner(name))


def adopted(
    files: dict[str, tuple[Export, ...] | str], stored: ExportTable | None = None, granted: GrantTable | None = None
) -> Adoption:
    return adoption(files, stored or ExportTable(), granted or GrantTable(), SITE.wanted("primary"), NOW)


def test_the_originals_files_are_taken_with_every_client() -> None:
    found = adopted({"tools.exports": original("tools", 50380, "10.0.0.1", "10.0.0.2")})
    assert set(found.taken) == {"tools"}
    assert (found.clients, found.left) == (2, {})
    assert found.table.by_path[ExportPath("/srv/misc/shared/tools")].clients == ("10.0.0.1", "10.0.0.2")
    grants = found.grants.grants[ExportPath("/srv/misc/shared/tools")]
    assert {(grant.client, grant.source, grant.since) for grant in grants.values()} == {
        ("10.0.0.1", "adopted", NOW),
        ("10.0.0.2", "adopted", NOW),
    }


def test_what_the_site_wants_otherwise_is_told_before() -> None:
    notes = adopted({"tools.exports": original("tools", 50380, "10.0.0.1")}).notes
    assert "loses nohide" in notes[0]
    assert "gains" in notes[0]
    assert "stale file handles; `fsid: gid` keeps the original's" in notes[1]


def test_a_path_that_is_declared_nowhere_is_told() -> None:
    extra = replace(original("tools", 50380, "10.0.0.1")[0], path=ExportPath("/srv/misc/old"))
    notes = adopted({"tools.exports": (extra,)}).notes
    assert notes == ("/srv/misc/old is declared nowhere: the next plan will want to remove it, with all its clients",)


@pytest.mark.parametrize(
    ("name", "exports", "reason"),
    [
        ("other.exports", original("other", 50999, "10.0.0.1"), "declares nothing for other"),
        ("tools.exports", "line 1: 'sec=none' is no option", "line 1"),
        ("tools.exports", (), "it exports nothing"),
    ],
)
def test_what_cannot_be_taken_stays_with_its_reason(name: str, exports: tuple[Export, ...] | str, reason: str) -> None:
    found = adopted({name: exports})
    assert not found.taken
    assert reason in found.left[name]


def test_a_path_of_two_files_is_taken_once() -> None:
    twice = replace(original("tools", 50380, "10.0.0.9")[0], owner=Owner("maps"))
    found = adopted({"tools.exports": original("tools", 50380, "10.0.0.1"), "maps.exports": (twice,)})
    assert set(found.taken) == {"maps"}
    assert "is exported by maps.exports too" in found.left["tools.exports"]


def test_what_is_ours_already_stays_as_it_is() -> None:
    ours = original("maps", 50196, "10.0.0.7")[0]
    grant = Grant(ours.path, Client("10.0.0.7"), "instance", NOW, "p", "i", "maps-1", "r")
    granted = GrantTable({ours.path: replace(ours, clients=())}, {ours.path: {grant.client: grant}})
    found = adopted({"tools.exports": original("tools", 50380, "10.0.0.1")}, ExportTable((ours,)), granted)
    assert found.table.by_path[ours.path] == ours
    assert found.grants.grants[ours.path][grant.client] == grant


def test_taking_over_again_goes_on_where_a_killed_one_stopped() -> None:
    ours = original("tools", 50380, "10.0.0.1")
    found = adopted({"tools.exports": ours}, ExportTable(ours))
    assert set(found.taken) == {"tools"}
    assert found.table == ExportTable(ours)


def test_options_that_do_not_differ_say_nothing() -> None:
    assert option_change("rw,sync", "rw,sync") == ""
    assert option_change("rw,async", "ro,async,secure") == "loses rw; gains ro, secure"


def test_the_fsid_of_the_original_is_read() -> None:
    assert original("tools", 50380, "10.0.0.1")[0].options.fsid == "00000000-0000-0000-0503-800000000000"
