"""Quantities carry their units; a bare number is told which there are (upstream #62)."""

import pytest

from labstore.formats.units import Unfit, duration, duration_text, percentage, percentage_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("5m", 300),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1w", 604800),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("value", [30, 1.5])
def test_a_bare_number_is_told_what_is_missing(value: float) -> None:
    with pytest.raises(Unfit, match="has no unit") as raised:
        duration(value)
    assert raised.value.remedy == f"write it with its unit: 500ms, 30s, 5m, 2h, 1d; for seconds: {value}s"


@pytest.mark.parametrize(
    "value", ["30", "s", "", "5min", "-1s", "1 s", "1s ", "1s\n", "∞s", "１s", True, None, [], "9" * 5000 + "s"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(Unfit, match="is not a duration") as raised:
        duration(value)
    assert "with its unit" in raised.value.remedy


@pytest.mark.parametrize(("text", "part"), [("0%", 0), ("5%", 0.05), ("12.5%", 0.125), ("100%", 1)])
def test_a_percentage_is_a_part(text: str, part: float) -> None:
    assert percentage(text) == part


@pytest.mark.parametrize(
    ("value", "problem", "remedy"),
    [
        (50, "50 has no unit", "0% to 100%: 50%"),
        (0.5, "0.5 has no unit", "0% to 100%: 50%"),
        ("101%", "is more than all", "0% to 100%"),
        ("half", "is not a percentage", "with its unit"),
        ("-5%", "is not a percentage", "with its unit"),
        (True, "is not a percentage", "with its unit"),
    ],
)
def test_what_is_no_percentage_is_refused(value: object, problem: str, remedy: str) -> None:
    with pytest.raises(Unfit, match=problem) as raised:
        percentage(value)
    assert remedy in raised.value.remedy


@pytest.mark.parametrize("text", ["500ms", "3s", "90s", "5m", "2h", "1d", "1w"])
def test_texts_come_back(text: str) -> None:
    assert duration_text(duration(text)) == text
    assert percentage_text(percentage("12.5%")) == "12.5%"
