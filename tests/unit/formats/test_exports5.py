"""exports(5), written narrowly and read widely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.exports5 import WORLD, BadExports, entries, option_text, parse_options, read, read_etab, render
from labstore.model.exports import Access, Export, ExportOptions, Fsid, Owner, Security, Squash
from labstore.model.names import ExportPath

TOOLS = Owner("tools")

options = st.builds(
    ExportOptions,
    access=st.sampled_from(Access),
    squash=st.sampled_from(Squash),
    sync=st.booleans(),
    security=st.lists(st.sampled_from(Security), min_size=1, unique=True).map(tuple),
    subtree_check=st.booleans(),
    insecure=st.booleans(),
    crossmnt=st.booleans(),
    nohide=st.booleans(),
    fsid=st.one_of(
        st.none(), st.integers(1, 2**32 - 1).map(lambda n: Fsid(str(n))), st.uuids().map(lambda u: Fsid(str(u)))
    ),
    mountpoint=st.one_of(st.none(), st.just(ExportPath("/srv/misc"))),
    anonuid=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    anongid=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)
addresses = st.lists(st.integers(1, 2**24).map(lambda n: f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"), max_size=6)
paths = st.lists(st.from_regex(r"[A-Za-z0-9_+@-]{1,12}", fullmatch=True), min_size=1, max_size=4).map(
    lambda parts: ExportPath("/" + "/".join(parts))
)


@st.composite
def exports(draw: st.DrawFn) -> list[Export]:
    found = draw(st.lists(paths, unique=True, max_size=4))
    made = [Export.of(TOOLS, path, draw(addresses), draw(options)) for path in found]
    return [export for export in made if not export.nobody]


@given(exports())
def test_what_is_written_is_read_back(written: list[Export]) -> None:
    assert list(read(render(written), TOOLS)) == written


@given(options)
def test_options_are_read_back(given_options: ExportOptions) -> None:
    assert parse_options(tuple(option_text(given_options).split(","))) == given_options


@given(st.text())
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        list(entries(text))
    except BadExports as error:
        assert error.line >= 1


def test_the_originals_first_form_is_read() -> None:
    fsid = "0" * 17 + "50380" + "0" * 10
    text = f"/exp/project/tools -rw,nohide,fsid={fsid},no_subtree_check,async,no_root_squash 10.0.0.1 10.0.0.2"
    (export,) = read(text, TOOLS)
    assert export.clients == ("10.0.0.1", "10.0.0.2")
    assert export.options == ExportOptions(squash=Squash.NONE, sync=False, nohide=True, fsid=Fsid(fsid))


def test_the_originals_public_form_is_read() -> None:
    (entry,) = entries("/exp/scratch *(rw,sec=sys,sync,no_subtree_check,root_squash)\n")
    assert (entry.path, entry.client) == ("/exp/scratch", WORLD)


def test_several_lines_of_one_file_are_several_exports() -> None:
    text = "/srv/a -rw,no_subtree_check 10.0.0.1\n/srv/b -ro,no_subtree_check 10.0.0.1"
    assert [export.path for export in read(text, TOOLS)] == ["/srv/a", "/srv/b"]


def test_the_grammar_of_the_man_page_is_understood() -> None:
    text = '# comment\n"/srv/with space" 10.0.0.1(rw) \\\n  10.0.0.2(ro,fsid=3) # end\n/srv/oct\\040al -ro @group\n'
    found = [(entry.line, entry.path, entry.client, entry.options) for entry in entries(text)]
    assert found == [
        (2, "/srv/with space", "10.0.0.1", ("rw",)),
        (2, "/srv/with space", "10.0.0.2", ("ro", "fsid=3")),
        (4, "/srv/oct al", "@group", ("ro",)),
    ]


@pytest.mark.parametrize("text", ["/srv/x", "/srv/x -rw", "/srv/x (rw)"])
def test_a_path_without_a_client_is_seen_as_the_world(text: str) -> None:
    assert [entry.client for entry in entries(text)] == [WORLD]


def test_an_export_to_nobody_is_not_written() -> None:
    assert render([Export.of(TOOLS, "/srv/x")]) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("srv/x 10.0.0.1", "not an absolute path"),
        ("/srv/x 10.0.0.1(rw", "not closed"),
        ("/srv/x 10.0.0.1)", "bracket too many"),
        ('/srv/x "10.0.0.1', "quote is not closed"),
        ("/srv/x -rw,bogus 10.0.0.1", "'bogus'"),
        ("/srv/x -rw evil.example.org", "not an address"),
        ("/srv/x -rw 10.0.0.1\n/srv/x -ro 10.0.0.2", "other options here"),
        ("/srv/../x -rw 10.0.0.1", "not an export path"),
        ("/srv/x -rw,fsid=0 10.0.0.1", "not an fsid"),
    ],
)
def test_what_labstore_would_not_write_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(BadExports, match=problem):
        read(text, TOOLS)


def test_mountds_table_is_read() -> None:
    words = "rw,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs"
    text = f"/srv/a\\040b\t10.0.0.1({words},fsid=1,anonuid=65534,anongid=65534,sec=sys,rw,root_squash,no_all_squash)\n"
    table = read_etab(text)
    assert parse_options(table["/srv/a b"]["10.0.0.1"]) == ExportOptions(fsid=Fsid("1"))


@pytest.mark.parametrize("text", ["garbage\n", "/srv/x\t10.0.0.1\n", "/srv/x 10.0.0.1(rw)\n", "/srv/x\t10.0.0.1(rw\n"])
def test_what_is_no_table_is_said(text: str) -> None:
    with pytest.raises(BadExports):
        read_etab(text)
