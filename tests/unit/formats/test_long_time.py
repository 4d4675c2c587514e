"""How long something is kept: one remedy for all that is not such a time."""

from __future__ import annotations

import pytest

from labstore.formats.long_time import REMEDY, long_time
from labstore.formats.units import Unfit


@pytest.mark.parametrize("text", [5, "5", "5s", "59s", "0m", "100000w", "521w", "", "soon", None, True])
def test_what_is_wrong_is_told_what_can_be_written(text: object) -> None:
    with pytest.raises(Unfit) as found:
        long_time(text)
    assert found.value.remedy == REMEDY
    assert "5s" not in REMEDY, "what would be refused next"


def test_what_can_be_written() -> None:
    assert (long_time("1m"), long_time("1h30m"), long_time("520w")) == (60, 5400, 520 * 7 * 86400)
