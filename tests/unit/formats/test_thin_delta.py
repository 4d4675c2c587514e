"""thin_delta's reports, from the real program."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.thin_delta import BadDelta, parse

CAPTURES = Path(__file__).parents[2] / "captures/thin_delta/0.9.0"
CHUNK = 128 * 512


@pytest.mark.parametrize("name", ["delta.xml", "delta-verbose.xml"])
def test_everything_but_the_same_has_changed(name: str) -> None:
    hints = parse((CAPTURES / name).read_text(), "before", "after")
    chunks = [(start // CHUNK, end // CHUNK) for start, end in hints.ranges()]
    assert chunks == [(100, 120), (200, 290)]
    assert (hints.since, hints.until) == ("before", "after")


def test_a_device_with_itself_has_no_changes() -> None:
    assert parse((CAPTURES / "same.xml").read_text(), "a", "b").bytes == 0


def test_a_report_that_was_cut_short_is_not_believed() -> None:
    whole = (CAPTURES / "delta.xml").read_text()
    for length in range(0, len(whole.rstrip()) - 1, 7):
        with pytest.raises(BadDelta):
            parse(whole[:length], "a", "b")


@pytest.mark.parametrize(
    "inner",
    [
        '<different begin="5" length="1"/><different begin="5" length="1"/>',
        '<different begin="-1" length="1"/>',
        '<different begin="1"/>',
        '<different begin="1" length="0"/>',
        '<different begin="1" length="99999999999999999"/>',
        '<different begin="1e3" length="1"/>',
    ],
)
def test_a_range_that_makes_no_sense_is_not_believed(inner: str) -> None:
    with pytest.raises(BadDelta):
        parse(f'<superblock data_block_size="128"><diff left="1" right="2">{inner}</diff></superblock>', "a", "b")


def test_entities_are_not_expanded() -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><superblock data_block_size="1">&b;</superblock>'
    )
    with pytest.raises(BadDelta):
        parse(bomb, "a", "b")


@given(st.text(max_size=200))
def test_noise_is_not_believed(text: str) -> None:
    with pytest.raises(BadDelta):
        parse(text, "a", "b")
