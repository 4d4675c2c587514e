"""Names and paths: what is refused, and how it is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.model.names import ExportPath, HostName, ProjectName, ShareName, shown

HOSTILE = [
    "",
    " ",
    "a b",
    "a\n",
    "\na",
    "a\tb",
    "../x",
    "a/b",
    "-rf",
    ".hidden",
    "a*",
    "a(rw)",
    'a"b',
    "a#b",
    "a\\040b",
]
HOSTILE += ["ａbc", "tööls", "a" * 64, "a\x00b", "$(reboot)", "a;b", "@group"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("kind", [ProjectName, ShareName])
def test_hostile_names_do_not_exist(kind: type[ProjectName], text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        kind(text)


@pytest.mark.parametrize("text", ["tools", "wikidata-primary-sources-tool", "tools-codfw1dev", "a.b_c", "0ad"])
def test_real_names_do(text: str) -> None:
    assert ProjectName(text) == text


def test_a_project_cannot_take_a_public_shares_file() -> None:
    with pytest.raises(ValueError, match="public_"):
        ProjectName("public_scratch")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "srv",
        "/",
        "//srv",
        "/srv/",
        "/srv//x",
        "/srv/../etc",
        "/srv/./x",
        "/srv/a b",
        "/srv/a\n",
        "/srv/*",
        "/srv/a,b",
        "/srv/é",
        '/srv/"x"',
        "/srv/#x",
        "/srv/a\\",
        "/" + "x" * 300,
        "/srv/x(rw)",
        "/srv/x\t*",
    ],
    ids=ascii,
)
def test_hostile_paths_do_not_exist(text: str) -> None:
    with pytest.raises(ValueError, match="is not an export path"):
        ExportPath(text)


@given(st.text())
def test_no_text_makes_a_path_that_could_break_a_line(text: str) -> None:
    try:
        path = ExportPath("/" + text)
    except ValueError:
        return
    assert not set(path) & set(" \t\n\r\"'\\#(),*?[]{}$;&|<>`")


def test_the_published_definitions_paths_are_made_normal() -> None:
    assert ExportPath.normal("/srv/testlabs//home") == "/srv/testlabs/home"
    assert ExportPath.normal("/srv/x/home/") == "/srv/x/home"


def test_under_goes_by_components() -> None:
    assert ExportPath("/srv/misc/a").under("/srv/misc")
    assert not ExportPath("/srv/miscellany").under("/srv/misc")


@pytest.mark.parametrize("text", ["labstore1004", "tools-nfs.svc.tools.eqiad1.wikimedia.cloud", "a"])
def test_host_names(text: str) -> None:
    assert HostName(text) == text


@pytest.mark.parametrize("text", ["-a", "a-", "a..b", "a_b", "", "a" * 64, ".".join(["a" * 60] * 5)])
def test_hostile_host_names(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        HostName(text)


@given(st.text())
def test_what_is_shown_is_one_short_ascii_line(text: str) -> None:
    assert shown(text).isascii()
    assert "\n" not in shown(text)
    assert len(shown(text)) <= 60
