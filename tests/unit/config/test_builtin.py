"""The original's own site: the old command with a mounts file and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.config.builtin import builtin_site
from labstore.config.load import load_mounts
from labstore.formats.exports5 import option_text
from labstore.formats.mounts_file import parse
from labstore.model.site import Expect
from labstore.reports.in_file import BadFile

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests/fixtures"
DATA = ROOT.parent / "shared/data"
ORIGINAL = {"rw", "nohide", "no_subtree_check", "async", "no_root_squash"}
OUR_WORDS_FOR_DEFAULTS = {"secure", "sec=sys"}


def test_the_first_schema_gives_the_originals_paths_and_options() -> None:
    built = builtin_site(load_mounts(FIXTURES / "mounts-2020.yaml"))
    exports = {export.path: export for export in built.site.wanted("local")}
    assert set(exports) == {"/exp/scratch", "/srv/misc/shared/library", "/srv/tools/shared/tools"}
    words = set(option_text(exports["/srv/misc/shared/library"].options).split(","))
    assert words == ORIGINAL | OUR_WORDS_FOR_DEFAULTS
    assert exports["/exp/scratch"].world
    assert [volume.mount for volume in built.site.clusters[0].volumes] == ["/exp/scratch", "/srv/misc", "/srv/tools"]
    assert ["pseudo-root" in notice.problem for notice in built.notices] == [True]


def test_only_volumes_that_the_file_names_are_served() -> None:
    text = (
        b"volumes_served: [maps]\nprivate: {maps: {gid: 1, mounts: {maps: true}}, a: {gid: 2, mounts: {home: true}}}\n"
    )
    built = builtin_site(parse(text, "mounts.yaml"))
    assert [export.path for export in built.site.wanted("local")] == ["/srv/maps"]


def test_the_second_schema_serves_the_hosts_that_are_ours() -> None:
    mounts = load_mounts(FIXTURES / "mounts-2024.yaml")
    built = builtin_site(mounts, service_names=["Library-nfs.svc.library.example.org"])
    assert [export.path for export in built.site.wanted("local")] == ["/srv/library/home", "/srv/library/project"]
    assert [volume.mount for volume in built.site.clusters[0].volumes] == ["/srv/library"]
    (notice,) = built.notices
    assert "video-nfs.svc.video.example.org is not said to be this server" in notice.message()


def test_having_no_exports_is_only_right_where_it_is_said() -> None:
    mounts = parse(b"private: {}\n", "mounts.yaml")
    assert builtin_site(mounts).site.exports.expect_private is Expect.SOME
    assert builtin_site(mounts, no_exports_is_ok=True).site.exports.expect_private is Expect.ANY


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("a: {gid: 7, mounts: {home: true}}\nb: {gid: 7, mounts: {home: true}}", "both have gid 7", "own group"),
        ("a: {gid: 1, mounts: {hme: true}}", "is none of the original's", "did you mean 'home'?"),
        (
            "a: {gid: 1, mounts: {home: h:/srv/x}}\nb: {gid: 2, mounts: {home: h:/srv/x}}",
            "is also the path of project a",
            "its own directory",
        ),
        (
            "private: {}\npublic: {a: '/srv/a *(rw,no_root_squash)'}",
            "lets everybody's root be root",
            "squash: root",
        ),
    ],
)
def test_what_cannot_be_served_is_told_with_its_place(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(BadFile) as raised:
        builtin_site(parse(text.encode(), "mounts.yaml"), service_names=["h"])
    (report,) = raised.value.reports
    assert report.message().startswith("mounts.yaml:")
    assert problem in report.message()
    assert remedy in report.text()


def test_volume_names_are_made_of_any_path_and_never_shared() -> None:
    paths = {"a": "/srv/" + "x" * 200, "b": "/srv/x+y/1", "c": "/srv/x@y"}
    text = "private: {}\npublic:\n" + "".join(f"  {name}: '{path} 10.0.0.1(ro)'\n" for name, path in paths.items())
    volumes = builtin_site(parse(text.encode(), "mounts.yaml")).site.clusters[0].volumes
    assert [volume.name for volume in volumes] == ["x-y", "x-y-2", "x" * 56]


def test_the_published_file_gives_nineteen_private_exports() -> None:
    path = DATA / "nfs-mounts-2020.yaml"
    if not path.exists():
        pytest.skip("the published file nfs-mounts-2020.yaml is not in ../shared/data")
    exports = builtin_site(load_mounts(path)).site.wanted("local")
    assert sum(not export.public for export in exports) == 19
