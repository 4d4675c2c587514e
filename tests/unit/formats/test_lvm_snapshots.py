"""`lvs` with the fields that snapshots need, from the real program (tests/captures/lvm)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.lvm_snapshots import BadReport, parse, tag_words, tags_of

CAPTURES = Path(__file__).parents[2] / "captures/lvm/2.03.16"


def test_a_thick_snapshot_and_its_origin() -> None:
    lvs = {lv.name: lv for lv in parse((CAPTURES / "snapshot/lvs.json").read_text())}
    taken = lvs["tools-20260529"]
    assert (taken.origin, taken.size, taken.full, taken.invalid) == ("tools", 16 << 20, 0.5898, False)
    assert taken.thick_snapshot
    assert taken.tags == {}, "a tag that is not ours"
    assert lvs["tools"].open
    assert not lvs["tools"].thick_snapshot
    assert lvs["test"].created.isoformat() == "2026-11-22T16:36:14+00:00"


def test_a_snapshot_that_overflowed_says_so() -> None:
    """upstream #41."""
    lvs = parse((CAPTURES / "snapshot-overflown/lvs.json").read_text())
    assert [lv.invalid for lv in lvs if lv.origin] == [True]


@pytest.mark.parametrize("text", ["", "{}", '{"report": [{"lv": [{}]}]}', '{"report": 5}', "[" * 9999])
def test_anything_else_is_no_report(text: str) -> None:
    with pytest.raises(BadReport):
        parse(text)


def test_a_field_that_is_missing_is_no_report() -> None:
    whole = json.loads((CAPTURES / "snapshot/lvs.json").read_text())
    for name in ("lv_name", "lv_size", "lv_time", "origin", "lv_tags", "snap_percent"):
        less = json.loads(json.dumps(whole))
        for row in less["report"][0]["lv"]:
            del row[name]
        with pytest.raises(BadReport):
            parse(json.dumps(less))


KEYS, VALUES = st.from_regex(r"[a-z]{1,12}", fullmatch=True), st.from_regex(r"[A-Za-z0-9_.:-]{0,60}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES))
def test_tags_read_back(tags: dict[str, str]) -> None:
    assert tags_of(",".join(["theirs", *tag_words(tags), "labstore"])) == tags


@pytest.mark.parametrize("tags", [{"a": "b,c"}, {"a": "b c"}, {"A": "b"}, {"": "b"}, {"a": "x" * 300}, {"a": "b\n"}])
def test_what_lvm_cannot_keep_is_no_tag(tags: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be an LVM tag"):
        tag_words(tags)
