"""Where shares are seen below an export root."""

from __future__ import annotations

import pytest

from labstore.model.export_tree import Place, binds, outermost, points
from labstore.model.exports import Owner
from labstore.model.names import ExportPath, ProjectName, VolumeName

ROOT, MISC = ExportPath("/exp"), VolumeName("misc")


def private(project: str, path: str) -> Place:
    return Place(Owner(project), project, ExportPath(path), MISC, ProjectName(project))


def public(name: str, path: str) -> Place:
    return Place(Owner(f"public_{name}"), name, ExportPath(path), MISC)


@pytest.mark.parametrize(
    ("place", "point"),
    [
        (private("cvn", "/srv/misc/shared/cvn"), "/exp/project/cvn"),
        (private("maps", "/srv/maps"), "/exp/project/maps"),
        (private("cvn", "/srv/misc/shared/cvn/home"), "/exp/project/cvn/home"),
        (public("scratch", "/srv/scratch"), "/exp/scratch"),
    ],
)
def test_a_share_has_the_place_that_the_original_gave_it(place: Place, point: str) -> None:
    """upstream 1.3"""
    assert points(ROOT, [place]) == {place.path: point}


def test_what_lies_inside_of_another_needs_no_mount_of_its_own() -> None:
    outer, inner = private("cvn", "/srv/misc/shared/cvn"), private("cvn", "/srv/misc/shared/cvn/home")
    assert points(ROOT, [inner, outer])[inner.path] == "/exp/project/cvn/home"
    assert [bind.source for bind in binds(ROOT, [inner, outer])] == [outer.path]


def test_names_that_only_begin_alike_are_not_inside() -> None:
    places = [private("a", "/srv/misc/shared/a"), private("ab", "/srv/misc/shared/ab")]
    assert [bind.point for bind in binds(ROOT, places)] == ["/exp/project/a", "/exp/project/ab"]
    assert outermost("/srv/misc/shared/ab", {"/srv/misc/shared/a"}) is None


def test_the_outermost_is_the_shortest() -> None:
    assert outermost("/a/b/c/d", {"/a/b", "/a/b/c"}) == "/a/b"
    assert outermost("/a/b", {"/a/b"}) is None


def test_a_place_that_gets_too_long_is_an_error() -> None:
    root = ExportPath("/" + "/".join(["e" * 202] * 5))
    with pytest.raises(ValueError, match="1024"):
        points(root, [private("cvn", "/srv/misc/shared/cvn")])
