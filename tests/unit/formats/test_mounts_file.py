"""The original's mounts file in each of its shapes, and what is said about one that cannot be taken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from labstore.formats.mounts_file import MountsFile, parse
from labstore.model.exports import Access, ExportOptions, Squash
from labstore.reports.in_file import BadFile, FileProblem
from tests.support.hang import HANGS
from tests.support.site_text import place_of_mark

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests/fixtures"
DATA = ROOT.parent / "shared/data"


def read(name: str) -> MountsFile:
    return parse((FIXTURES / name).read_bytes(), name)


def problems(text: str) -> list[FileProblem]:
    with pytest.raises(BadFile) as raised:
        parse(text.encode(), "mounts.yaml")
    return [report for report in raised.value.reports if isinstance(report, FileProblem)]


# --- the shapes ------------------------------------------------------------------------------------------------------


def test_the_first_schema() -> None:
    mounts = read("mounts-2020.yaml")
    assert mounts.served == {"project", "home", "tools-home", "tools-project"}
    assert [(project.name, project.gid) for project in mounts.projects] == [
        ("tools", 50380),
        ("maps", 50196),
        ("library", 52777),
        ("archive", 52778),
    ]
    assert [mount.share for mount in mounts.projects[0].mounts] == ["dumps", "scratch", "tools-home", "tools-project"]
    assert all(mount.remote is None for project in mounts.projects for mount in project.mounts)
    assert [mount.share for mount in mounts.projects[3].mounts] == ["dumps"]  # `home: false` is no mount


def test_public_lines_are_parsed_and_the_pseudo_root_is_known() -> None:
    scratch, root = read("mounts-2020.yaml").public
    assert (scratch.name, scratch.path, scratch.world, scratch.clients) == ("scratch", "/exp/scratch", True, ())
    assert scratch.options == ExportOptions()
    assert not scratch.pseudo_root
    assert root.pseudo_root
    assert root.options.access is Access.RO


def test_the_second_schema_with_doubled_and_trailing_slashes() -> None:
    library = read("mounts-2024.yaml").projects[0]
    remotes = {mount.share: mount.remote for mount in library.mounts}
    assert remotes["dumps"] is None
    home = remotes["home"]
    assert home is not None
    assert (home.host, home.path) == ("library-nfs.svc.library.example.org", "/srv/library/home")


def test_the_second_schema_as_it_is_deployed() -> None:
    mounts = read("mounts-2024-deployed.yaml")
    assert [project.name for project in mounts.projects] == ["library"]
    assert (mounts.public, mounts.served) == ((), None)


def test_a_project_may_have_the_name_of_a_key() -> None:
    mounts = parse(b"public: {gid: 1, mounts: {}}\nprivate: {gid: 2, mounts: {}}\n", "mounts.yaml")
    assert [project.name for project in mounts.projects] == ["public", "private"]


def test_public_lines_with_clients() -> None:
    text = b"private: {}\npublic: {a: '/srv/a 10.0.0.0/24(ro,all_squash) 10.1.0.0/24(ro,all_squash)'}\n"
    (line,) = parse(text, "mounts.yaml").public
    assert (line.world, line.clients) == (False, ("10.0.0.0/24", "10.1.0.0/24"))
    assert (line.options.access, line.options.squash) == (Access.RO, Squash.ALL)


@pytest.mark.parametrize(("name", "projects"), [("nfs-mounts-2020.yaml", 28), ("nfs-projects-2024.yaml", 33)])
def test_the_published_files_load(name: str, projects: int) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the published file {name} is not in ../shared/data")
    mounts = parse(path.read_bytes(), name)
    assert len(mounts.projects) == projects
    assert mounts.notices == ()


# --- what cannot be taken --------------------------------------------------------------------------------------------

LINE = "write one line of exports(5)"
REFUSED = [
    ("a: {•gd: 1, gid: 2, mounts: {}}", "unknown key 'gd'", "did you mean 'gid'?"),
    ("a: {gid: •0, mounts: {}}", "project 'a' has gid '0'", "1 to 4294967294"),
    ("a: {gid: •-5, mounts: {}}", "project 'a' has gid '-5'", "1 to 4294967294"),
    ("a: {gid: •4294967295, mounts: {}}", "project 'a' has gid '4294967295'", "1 to 4294967294"),
    ("a: {gid: •'50380', mounts: {}}", "project 'a' has gid '50380'", "without quotes"),
    ("a: {gid: •true, mounts: {}}", "project 'a' has gid 'True'", "without quotes"),
    ("•a: {mounts: {}}", "project 'a' has no gid", "the number of the project's group"),
    ("•a: {gid: 1}", "project 'a' has no mounts", "or {} if it has none"),
    ("a: {gid: 1, mounts: •}", "project 'a' has no mounts", "or {} if it has none"),
    ("a: {gid: 1, •mounts: [home]}", "project 'a' has mounts that are not a map", "`mounts: {home: true}`"),
    ("•a: true", "project 'a' is not a map", "{gid: 50380, mounts: {...}}"),
    ("•'a b': {gid: 1, mounts: {}}", "'a b' is not a project name", "as the cloud has it"),
    ("•'a\"b': {gid: 1, mounts: {}}", "is not a project name", "as the cloud has it"),
    ("•'*': {gid: 1, mounts: {}}", "'*' is not a project name", "as the cloud has it"),
    ("•'../x': {gid: 1, mounts: {}}", "'../x' is not a project name", "as the cloud has it"),
    ("•public_x: {gid: 1, mounts: {}}", "'public_' begins the file names of public shares", "as the cloud has it"),
    ("a: {gid: 1, mounts: {•'h *': true}}", "'h *' is not a share name", "write a mount name"),
    ("a: {gid: 1, mounts: {home: •1}}", "neither true, false nor host:/path", "write one of these"),
    ("a: {gid: 1, mounts: {home: •}}", "neither true, false nor host:/path", "write one of these"),
    ("a: {gid: 1, mounts: {home: •/srv/a}}", "'/srv/a' is not host:/path", "write host:/path, or true"),
    ("a: {gid: 1, mounts: {home: •'h:/a b'}}", "component 'a b'", "write host:/path, or true"),
    ("a: {gid: 1, mounts: {home: •'h:/a/../b'}}", "component '..'", "write host:/path, or true"),
    ("a: {gid: 1, mounts: {home: •'h x:/a'}}", "'h x' is not a host name", "write host:/path, or true"),
    ('a: {gid: 1, mounts: {home: •"h:/a\\n/etc *(rw)"}}', "is not an export path", "write host:/path, or true"),
    ("a: {gid: 1, mounts: {home: •h:/}}", "is not an export path", "write host:/path, or true"),
    ("private: {}\n•pubic: {}", "unknown key 'pubic'", "did you mean 'public'?"),
    ("•public: {}", "no `private:`", "missing is not empty"),
    ("private:•\n", "`private` is not a map of projects", "{} if there are none"),
    ("private: {}\npublic:•\n", "`public` is not a map", "{} if there are none"),
    ("private: {}\n•public: [a]", "`public` is not a map", "{} if there are none"),
    ("private: {}\npublic: {a: •7}", "public 'a' is not an export line", LINE),
    ("private: {}\npublic: {a: •/srv/a}", "names no client, which exports(5) takes for everybody", "write * to mean"),
    ("private: {}\npublic: {a: •'/srv/a -ro'}", "names no client", LINE),
    ("private: {}\npublic: {a: •'/srv/a 10.0.0.1 (rw)'}", "names no client", LINE),
    ("private: {}\npublic: {a: •'/srv/a 0.0.0.0/0(rw)'}", "too wide for a client", LINE),
    ("private: {}\npublic: {a: •'/srv/a *.example.org(rw)'}", "no wildcards or netgroups", LINE),
    ("private: {}\npublic: {a: •'/srv/a host(rw)'}", "names are not resolved", LINE),
    ("private: {}\npublic: {a: •'/srv/a *(rw) 10.0.0.1(rw)'}", "* is everybody already", LINE),
    ("private: {}\npublic: {a: •'/srv/a 10.0.0.1(rw) 10.0.0.2(ro)'}", "not one path under one set of options", LINE),
    ('private: {}\npublic: {a: •"/srv/a *(ro)\\n/etc *(rw)"}', "is more than one line", LINE),
    ("private: {}\npublic: {a: •'# /srv/a *(ro)'}", "an export line without an export", LINE),
    ("private: {}\npublic: {a: •'/srv/a *(ro'}", "not closed by a bracket", LINE),
    ("private: {}\npublic: {a: •'/srv/a \"*(ro)'}", "a quote is not closed", LINE),
    ("private: {}\npublic: {a: •'/srv/a *(no_such)'}", "option 'no_such'", LINE),
    ("private: {}\npublic: {a: •'srv/a *(ro)'}", "is not an absolute path", LINE),
    ("private: {}\nvolumes_served: •home", "not a list", "[project, home]"),
    ("private: {}\nvolumes_served: [•7]", "a share name is text", "write a mount name"),
    ("private: {a: {gid: 1, mounts: {}}, •a: {gid: 2, mounts: {}}}", "key 'a' stands here and in line 1", "rename"),
]


@pytest.mark.parametrize(("marked", "problem", "remedy"), REFUSED)
def test_what_is_refused_is_told_with_its_place_and_remedy(marked: str, problem: str, remedy: str) -> None:
    text, place = place_of_mark(marked)
    first = problems(text)[0]
    assert (first.line, first.column) == place
    assert problem in first.message()
    assert remedy in first.text()


def test_all_problems_come_at_once() -> None:
    found = problems("a: {gid: 0, mounts: {}}\nb: {gid: 1, mounts: {home: x}}\n'c c': {gid: 1}\n")
    assert [problem.line for problem in found] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"p{n}: {{gid: {n}, mounts: {{home: h:/srv/x}}}}\n" for n in range(200_000)),
        "".join(f"p{n}: garbage\n" for n in range(200_000)),
        "x: {" + "a: [],\n" * 1_400_000 + "}",
    ],
    ids=["too many projects", "garbage", "one key"],
)
def test_ten_megabytes_answer_within_seconds(text: str) -> None:
    started = time.monotonic()
    assert problems(text[: 10 << 20])
    assert time.monotonic() - started < HANGS
