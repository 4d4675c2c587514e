"""The file of change hints: read strictly, or not believed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.change_hints import BadHints, parse, render
from labstore.model.change_hints import Hints

RANGES = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 1 << 30)), max_size=20)


@given(RANGES)
def test_what_is_written_reads_back(ranges: list[tuple[int, int]]) -> None:
    hints = Hints.of("since this", "until that", ranges)
    assert parse(render(hints)) == hints


@given(RANGES, st.integers(0, 1 << 41))
def test_ranges_are_merged_and_none_is_lost(ranges: list[tuple[int, int]], at: int) -> None:
    merged = list(Hints.of("a", "b", ranges).ranges())
    assert all(a[1] < b[0] for a, b in itertools.pairwise(merged))
    within = any(start <= at < start + length for start, length in ranges)
    assert any(start <= at < end for start, end in merged) == within


@pytest.mark.parametrize(
    "text",
    [
        "",
        "labstore-hints 2\nsince a\nuntil b\n",
        "labstore-hints 1\nsince a\n",
        "labstore-hints 1\nsince \nuntil b\n",
        "labstore-hints 1\nsince a\nuntil b\n5\n",
        "labstore-hints 1\nsince a\nuntil b\n5 0\n",
        "labstore-hints 1\nsince a\nuntil b\n-5 1\n",
        "labstore-hints 1\nsince a\nuntil b\n5 10\n8 1\n",
        "labstore-hints 1\nsince a\nuntil b\n5 99999999999999999999\n",
        "labstore-hints 1\nsince a\x1b[2J\nuntil b\n",
    ],
)
def test_anything_else_is_not_believed(text: str) -> None:
    with pytest.raises(BadHints):
        parse(text.splitlines(keepends=True))


@pytest.mark.parametrize("bad", [(-1, 5), (0, 0), (1 << 62, 1)])
def test_ranges_that_cannot_be_are_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a range of"):
        Hints.of("a", "b", [bad])
