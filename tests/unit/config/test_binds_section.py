"""`binds:` and `export_root` of the site file."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.config.load import load
from labstore.model.binds import BindsSettings
from labstore.model.names import ProjectName
from labstore.model.site import Site
from tests.support.site_text import BASE, base_with, problems_of

ROOT = "    export_root: /exp\n    service_names"


def site(path: Path, text: str) -> Site:
    path.write_text(text)
    return load(path).site


def test_without_an_export_root_shares_are_exported_where_they_lie(tmp_path: Path) -> None:
    found = site(tmp_path / "site.yaml", BASE)
    assert [each.path for each in found.wanted("primary")] == [
        "/srv/misc/shared/maps",
        "/srv/misc/shared/tools",
        "/srv/tools/scratch",
    ]
    assert found.binds_of("primary") == ()


def test_with_an_export_root_they_are_exported_from_it(tmp_path: Path) -> None:
    found = site(tmp_path / "site.yaml", base_with("    service_names", ROOT))
    wanted = found.wanted("primary")
    assert [(each.path, each.directory) for each in wanted] == [
        ("/exp/project/maps", "/srv/misc/shared/maps"),
        ("/exp/project/tools", "/srv/misc/shared/tools"),
        ("/exp/scratch", "/srv/tools/scratch"),
    ]
    assert {each.options.mountpoint for each in wanted} == {"/srv/misc", "/srv/tools"}
    assert [bind.source for bind in found.binds_of("primary")] == [each.directory for each in wanted]


def test_an_identity_stays_when_an_export_root_comes(tmp_path: Path) -> None:
    plain = site(tmp_path / "a.yaml", BASE).wanted("primary")
    rooted = site(tmp_path / "b.yaml", base_with("    service_names", ROOT)).wanted("primary")
    assert [each.options.fsid for each in plain] == [each.options.fsid for each in rooted]


def test_two_shares_in_one_place_are_a_problem(tmp_path: Path) -> None:
    text = base_with("    service_names", ROOT).replace("scratch: {cluster", "project: {cluster")
    problems = problems_of(tmp_path / "site.yaml", text)
    assert [problem.message().rpartition(" at ")[2] for problem in problems] == ["/exp/project", "/exp/project"]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("{}", BindsSettings()),
        ('{group: "project-{project}", owner: 33, mode: "0750"}', BindsSettings("project-{project}", 33, 0o750)),
    ],
)
def test_how_directories_are_made(tmp_path: Path, written: str, wanted: BindsSettings) -> None:
    found = site(tmp_path / "site.yaml", BASE + f"binds: {written}\n").binds
    assert found == wanted
    assert found.group_of(ProjectName("tools")) in (None, "project-tools")
    assert site(tmp_path / "site.yaml", BASE).binds is None


@pytest.mark.parametrize(
    "written",
    [
        'mode: "2777"',
        'mode: "4755"',
        'mode: "999"',
        "mode: 2775",
        "group: tools",
        'group: "$(x){project}"',
        "owner: -1",
    ],
)
def test_what_would_open_a_share_to_everybody_is_refused(tmp_path: Path, written: str) -> None:
    assert problems_of(tmp_path / "site.yaml", BASE + f"binds: {{{written}}}\n")


def test_an_export_root_is_a_path(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "site.yaml", base_with("    service_names", ROOT.replace("/exp", "exp")))
