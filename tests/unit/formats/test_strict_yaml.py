"""YAML as it is meant, or a report that says where and what instead."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from labstore.formats.places import Place
from labstore.formats.strict_yaml import DATA_LIMIT, PROBLEMS, load
from labstore.reports.in_file import BadFile, FileProblem
from tests.support.hang import HANGS
from tests.support.site_text import place_of_mark


def problems(text: str | bytes, limit: int = DATA_LIMIT) -> list[FileProblem]:
    with pytest.raises(BadFile) as raised:
        load(text.encode() if isinstance(text, str) else text, "site.yaml", limit)
    return [report for report in raised.value.reports if isinstance(report, FileProblem)]


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_plain_values_and_their_places() -> None:
    text = b"a: 1\nb:\n  - x\n  - {c: true, d: 1.5}\n'e f': ~\nyes it is: no\n"
    document = load(text, "site.yaml")
    assert document.value == {"a": 1, "b": ["x", {"c": True, "d": 1.5}], "e f": None, "yes it is": False}
    assert document.places.value(("b", 1, "d")) == Place(4, 18)
    assert document.places.key(("b", 1, "d")) == Place(4, 15)
    assert document.places.best(("b",)) == Place(2, 1)
    assert str(document.origin(("b", 0))) == "site.yaml:3"


def test_a_place_that_is_not_there_is_that_of_what_is_around_it() -> None:
    places = load(b"a:\n  b: 1\n", "site.yaml").places
    assert places.best(("a", "c", "d")) == Place(1, 1)
    assert places.best(("a", "b", "d")) == Place(2, 3)


def test_an_alias_gives_the_value_and_its_own_place() -> None:
    document = load(b"a: &x {k: [1]}\nb: *x\n", "site.yaml")
    assert document.value == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert document.places.value(("b",)) == Place(2, 4)
    assert document.places.value(("b", "k", 0)) == Place(1, 12)


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    assert load(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "site.yaml").value == {"a": 1, "b": 2}


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = [
    # text with the place marked; problem; remedy
    ("a: 1\nb: 2\n•a: 3\n", "key 'a' stands here and in line 1", "remove or rename one"),
    ("x: {a: 1, •a: 1}", "key 'a' stands here and in line 1", "remove or rename one"),
    ("•on: 1", "key 'on' is true or false to YAML", 'quote it: "on"'),
    ("•no: 1", "key 'no' is true or false to YAML", 'quote it: "no"'),
    ("•12: 1", "key '12' is a number to YAML", 'quote it: "12"'),
    ("•2020-01-31: 1", "key '2020-01-31' is a date to YAML", 'quote it: "2020-01-31"'),
    ("•~: 1", "key '~' is nothing to YAML", "quote it"),
    ("?•\n: 1", "key '' is nothing to YAML", "give the key a name"),
    ("•<<: {a: 1}", "merge key <<", "write the values out"),
    ("? •[a]\n: 1", "a key that is not plain text", "write the key as one word"),
    ('•"a\\nb": 1', "control character", "take it out"),
    ("•&x a: 1", "anchor 'x' on a key", "write the key as one word"),
    ("a: •0777", "'0777' is not a plain decimal number", "write it in decimal, without leading zeros"),
    ("a: •0x1F", "'0x1F' is not a plain decimal number", "write it in decimal"),
    ("a: •1_000", "'1_000' is not a plain decimal number", "write it in decimal"),
    ("a: •22:22", "'22:22' is a number of base 60 to YAML", 'quote it: "22:22"'),
    ("a: •.inf", "'.inf' is not a plain decimal number", "or quote it"),
    ("a: •" + "9" * 5000, "is not a plain decimal number", "or quote it"),
    ("a: •2020-01-31", "'2020-01-31' is a date to YAML", 'quote it: "2020-01-31"'),
    ("a: •=", "'=' is a special word to YAML", 'quote it: "="'),
    ("a: •!!python/object/apply:os.system [id]", "tag", "tags are not taken"),
    ("a: •!!str x", "tag", "tags are not taken"),
    ("a: •!local x", "tag '!local'", "tags are not taken"),
    ("a: &x [•*x]", "alias 'x' stands inside what it names", "write the value out"),
    ("a: •*x", "alias 'x' of nothing above", "quote text that begins with *"),
    ("clients: [*•]", "scanning an alias", 'quote text that begins with *: "*"'),
    ("a: 1\n•---\nb: 2\n", "a second document begins here", "take `---` out"),
    ("•", "the file is empty", "the top level is a map"),
    ("•- a", "the top level is a list", "the top level is a map"),
    ("•hello", "the top level is text", "the top level is a map"),
    ("a:\n•\tb: 1", "a tab in the indentation", "indent with spaces"),
    ("a: b•: c", "mapping values are not allowed", 'quote text that has ": " in it'),
    ("a: [1, 2\nb•: 3", "flow sequence", "close the list with ]"),
    ("a: •@x", "cannot start any token", "quote text that begins with this character"),
    ("a: 1\nb: x•\x00y", "control character U+0000", "take it out"),
    ("a: 1\nb: x•\x1b[2Jy", "control character U+001B", "take it out"),
    ("a: x•\u2028y", "control character U+2028", "take it out"),
    ("a: x•\x85y", "control character U+0085", "take it out"),
    ("a: 1•\rb: 2", "control character U+000D", "take it out"),
    ('a: •"x\\0y"', "'x\\x00y' has a control character", "take it out"),
]


@pytest.mark.parametrize(("marked", "problem", "remedy"), REFUSED)
def test_what_is_refused_is_told_with_its_place_and_remedy(marked: str, problem: str, remedy: str) -> None:
    text, place = place_of_mark(marked)
    first = problems(text)[0]
    assert (first.line, first.column) == place
    assert problem in first.message()
    assert remedy in first.remedy()
    assert first.message().startswith(f"site.yaml:{place[0]}:{place[1]}: ")


def test_bytes_that_are_not_utf8_are_told_with_their_place() -> None:
    (only,) = problems("é: 1\nb: ".encode() + b"\xff\n")
    assert (only.line, only.column) == (2, 4)
    assert "byte 0xff is not UTF-8" in only.message()
    assert only.remedy() == "save the file as UTF-8"


def test_all_problems_come_at_once_in_order() -> None:
    found = problems("on: 1\na: 0777\nb: !x 1\na: 2\nc: 1:30\n")
    assert [problem.line for problem in found] == [1, 2, 3, 4, 5]


def test_problems_before_a_syntax_error_are_told_too() -> None:
    found = problems("a: 1\na: 2\nb: [\n")
    assert "key 'a' stands here" in found[0].message()
    assert "not YAML" in found[1].message()


# --- what is hostile -------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "bomb": BOMB,
    "deep lists": "a: " + "[" * (10 * MEGABYTE - 3),
    "deep maps": "{a: " * (2 * MEGABYTE),
    "deep blocks": "- " * (5 * MEGABYTE),
    "deep keys": "? " * (5 * MEGABYTE),
    "one key": "a: b\n" * (2 * MEGABYTE),
    "many keys": "".join(f"k{n}: b\n" for n in range(900_000)),
    "long list": "a:\n" + "- b\n" * (2 * MEGABYTE),
    "flow list": "a: [" + "'b'," * (2 * MEGABYTE) + "]",
    "anchors": "a: [" + "&a x, " * MEGABYTE + "]",
    "one word": "a" * (10 * MEGABYTE),
    "comment": "#" * (10 * MEGABYTE),
    "blank": "\n" * (10 * MEGABYTE),
    "quotes": "'" * (10 * MEGABYTE),
    "exclamations": "!" * (10 * MEGABYTE),
    "colons": ":" * (10 * MEGABYTE),
    "list keys": "[a]: b\n" * MEGABYTE,
    "too much": "a" * (10 * MEGABYTE + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_within_seconds(name: str) -> None:
    started = time.monotonic()
    found = problems(HOSTILE[name])
    assert time.monotonic() - started < HANGS
    assert 0 < len(found) <= PROBLEMS + 1
    assert all(problem.remedy() and len(problem.text()) < 1000 for problem in found)


def test_a_bomb_is_told_as_one() -> None:
    (only,) = problems(BOMB)
    assert "more than 500000 keys and values (aliases expanded)" in only.message()
    assert "Aliases of aliases" in only.remedy()
    assert only.line == 6


def test_depth_and_size_are_told_with_their_limits() -> None:
    (deep,) = problems("a: " + "[" * 100)
    assert "more than 24 levels of nesting" in deep.message()
    (large,) = problems(b"a: 1" * 10, limit=20)
    assert (large.line, large.message()) == (0, "site.yaml: has 40 bytes")
    assert "At most 20 bytes are read" in large.remedy()


# --- properties ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_crash(data: bytes) -> None:
    try:
        load(data, "site.yaml")
    except BadFile as error:
        assert all(report.remedy() for report in error.reports)


YAMLISH = st.text(alphabet=" \n-:?[]{},#&*!|>'\"%@`~.0123456789abnoxyesT_+", max_size=60)


@settings(max_examples=400, deadline=None)
@given(YAMLISH)
def test_what_is_taken_means_what_yaml_says(text: str) -> None:
    try:
        ours = load(text.encode(), "site.yaml").value
    except BadFile:
        return
    assert ours == yaml.safe_load(text)


words = st.from_regex(r"k[a-z0-9_.-]{0,8}", fullmatch=True).filter(lambda word: not word.endswith("."))
numbers = st.integers(-(10**12), 10**12)
trees = st.recursive(
    words | numbers | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(words, trees, max_size=5), st.booleans())
def test_every_place_is_where_the_key_or_value_stands(value: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False, width=60)
    document = load(text.encode(), "site.yaml")
    assert document.value == value
    lines = text.splitlines()
    for path, part in _parts(value):
        if isinstance(path[-1], str):
            key = document.places.key(path)
            assert re.match(rf"{re.escape(path[-1])}\s*:", lines[key.line - 1][key.column - 1 :])
        if not isinstance(part, dict | list):
            place = document.places.value(path)
            written = str(part).lower() if isinstance(part, bool) else str(part)
            assert lines[place.line - 1][place.column - 1 :].startswith(written)


def _parts(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key), part
        if isinstance(part, dict | list):
            yield from _parts(part, (*path, key))
