"""EXPORT blocks: one rigid form, read back letter by letter."""

from __future__ import annotations

import time

import pytest
from hypothesis import given

from labstore.formats.ganesha_conf import (
    HEADER,
    BadGaneshaConf,
    Numbered,
    Unwritable,
    block,
    filesystem_id,
    read,
    read_ids,
    render,
    render_ids,
)
from labstore.model.exports import Access, Export, ExportOptions, ExportTable, Fsid, Security, Squash
from labstore.model.names import ExportPath
from tests.support.hang import HANGS
from tests.unit.exports.tables import tables

OPTIONS = ExportOptions(fsid=Fsid("b4f0a5c6-5a40-5d0e-9f7e-6c1f6a1f7b11"))
TOOLS = Export.of("tools", "/srv/misc/shared/tools/home", ["10.0.0.2", "10.0.0.1", "2001:db8::1"], OPTIONS)
GOLDEN = """\
# Written by labstore and replaced as a whole: changes made here are lost.
# tools rw,fsid=b4f0a5c6-5a40-5d0e-9f7e-6c1f6a1f7b11,no_subtree_check,sync,root_squash,secure,sec=sys
EXPORT {
    Export_Id = 17;
    Path = "/srv/misc/shared/tools/home";
    Pseudo = "/srv/misc/shared/tools/home";
    Access_Type = None;
    Filesystem_Id = 3814731155719085326.2269370144421542673;
    FSAL { Name = VFS; }
    CLIENT {
        Clients = 10.0.0.1, 10.0.0.2, 2001:db8::1;
        Access_Type = RW;
        Squash = Root_Squash;
        Anonymous_Uid = 65534;
        Anonymous_Gid = 65534;
        SecType = sys;
        PrivilegedPort = TRUE;
    }
}
"""


def test_an_export_is_written_so() -> None:
    assert render([Numbered(17, TOOLS)]) == GOLDEN


def test_all_else_that_can_be_said() -> None:
    options = ExportOptions(
        access=Access.RO,
        squash=Squash.ALL,
        security=(Security.KRB5, Security.KRB5P),
        insecure=True,
        anonuid=1234,
        anongid=0,
    )
    text = block(Numbered(1, Export.of("public_scratch", "/srv/scratch", (), options, world=True)))
    terms = [line.strip() for line in text.splitlines() if line.startswith("        ")]
    assert terms == [
        "Clients = *;",
        "Access_Type = RO;",
        "Squash = All_Squash;",
        "Anonymous_Uid = 1234;",
        "Anonymous_Gid = 0;",
        "SecType = krb5, krb5p;",
        "PrivilegedPort = FALSE;",
    ]


def test_nobody_is_on_a_list_that_is_empty() -> None:
    """An empty CLIENT would be a fault that the server passes over; without CLIENT the export says None."""
    nobody = Export.of("tools", "/srv/tools")
    assert render([Numbered(1, nobody)]) == HEADER
    text = block(Numbered(1, nobody))
    assert "CLIENT" not in text
    assert "    Access_Type = None;\n" in text
    assert read(HEADER + text) == (Numbered(1, nobody),)


def test_long_lists_are_wrapped_and_read_again() -> None:
    many = Export.of("tools", "/srv/tools", [f"10.1.{n >> 8}.{n & 255}" for n in range(700)])
    text = render([Numbered(1, many)])
    assert max(map(len, text.splitlines())) <= 120
    assert read(text) == (Numbered(1, many),)


@pytest.mark.parametrize(
    ("fsid", "numbers"),
    [
        ("1", "0.1"),
        ("4294967295", "0.4294967295"),
        ("00000000-0000-0000-0501-450000000000", "0.360645311468666880"),  # upstream's form, of a gid
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", "9223372036854775807.9223372036854775807"),
    ],
)
def test_an_fsid_becomes_two_numbers_that_the_server_takes(fsid: str, numbers: str) -> None:
    assert filesystem_id(Fsid(fsid)) == numbers


@pytest.mark.parametrize("prefix", [100, 112, 127])
def test_a_network_that_the_lexer_would_stumble_over_is_refused(prefix: int) -> None:
    with pytest.raises(Unwritable) as refused:
        block(Numbered(1, Export.of("tools", "/srv/tools", [f"2001:db8::/{prefix}"])))
    assert refused.value.path == "/srv/tools"


@given(tables())
def test_what_is_written_is_read_back(table: ExportTable) -> None:
    numbered = tuple(Numbered(number, export) for number, export in enumerate(table, 100))
    assert read(render(numbered)) == numbered


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("Clients = 10.0.0.1,", "Clients = *, 10.0.0.1,", 2),
        ("Clients = 10.0.0.1,", "Clients = 10.0.0.01,", 2),
        ("Clients = 10.0.0.1,", "Clients = 0.0.0.0,", 2),
        ("Clients = 10.0.0.1,", "Clients = @group,", 2),
        ("Access_Type = None", "Access_Type = RW", 2),
        ("        Access_Type = RW", "        Access_Type = RO", 2),
        ("Root_Squash", "No_Root_Squash", 2),
        ("root_squash", "no_root_squash", 2),
        ("sec=sys", "sec=none", 2),
        ('Pseudo = "/srv', 'Pseudo = "/other', 2),
        ("Export_Id = 17", "Export_Id = 65536", 2),
        ("Export_Id = 17", "Export_Id = 0", 2),
        ("# tools ", "# ../tools ", 2),
        ("/srv/misc/shared/tools/home", "/srv/misc/../../etc", 2),
        ("/srv/misc/shared/tools/home", '/srv/a"; } EXPORT { Path = "/', 2),
        ("    FSAL { Name = VFS; }\n", "", 2),
        ("}\n", "", 2),
        ("EXPORT {\n", "%include /etc/passwd\nEXPORT {\n", 2),
        (HEADER, "", 1),
        (HEADER, HEADER + "\n", 2),
    ],
)
def test_text_that_labstore_would_not_write_is_refused_with_its_line(old: str, new: str, line: int) -> None:
    assert old in GOLDEN
    with pytest.raises(BadGaneshaConf) as refused:
        read(GOLDEN.replace(old, new, 1))
    assert refused.value.line == line


def test_what_follows_a_block_is_looked_at_too() -> None:
    with pytest.raises(BadGaneshaConf) as refused:
        read(GOLDEN + "EXPORT_DEFAULTS { Access_Type = RW; }\n")
    assert refused.value.line == len(GOLDEN.splitlines()) + 1


def test_an_id_or_a_path_that_comes_twice_is_refused() -> None:
    other = Export.of("maps", "/srv/maps", ["10.0.0.1"])
    with pytest.raises(BadGaneshaConf, match="17"):
        read(render([Numbered(17, TOOLS), Numbered(17, other)]))
    with pytest.raises(BadGaneshaConf, match="home"):
        read(render([Numbered(17, TOOLS), Numbered(18, TOOLS)]))


@pytest.mark.parametrize("filler", ["x" * 100, "    CLIENT {\n", "        Clients = ;\n", "# tools rw\nEXPORT {\n"])
def test_megabytes_of_nonsense_are_refused_at_once(filler: str) -> None:
    text = GOLDEN.replace("    CLIENT {\n", filler * (5_000_000 // len(filler)), 1)
    started = time.monotonic()
    with pytest.raises(BadGaneshaConf):
        read(text)
    assert time.monotonic() - started < HANGS


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_an_id_has_sixteen_bits_and_is_not_the_root(number: int) -> None:
    with pytest.raises(ValueError, match="export id"):
        Numbered(number, TOOLS)


def test_ids_are_read_back_in_their_order() -> None:
    ids = {ExportPath("/srv/b"): 7, ExportPath("/srv/a"): 65535}
    assert list(read_ids(render_ids(ids)).items()) == list(ids.items())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("7 /srv/a\n7 /srv/b\n", 2),
        ("7 /srv/a\n8 /srv/a\n", 2),
        ("0 /srv/a\n", 1),
        ("65536 /srv/a\n", 1),
        ("x /srv/a\n", 1),
        ("7 srv\n", 1),
        ("7\n", 1),
        ("\n", 1),
        ("²\u00b2 /srv/a\n", 1),
    ],
)
def test_a_bad_line_of_ids_is_named(text: str, line: int) -> None:
    with pytest.raises(BadGaneshaConf) as refused:
        read_ids(text)
    assert refused.value.line == line
