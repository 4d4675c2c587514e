"""Quantities with their units in them: `30s`, `5m`, `50%`. A bare number is an error (upstream #62)."""

from __future__ import annotations

import re

from labstore.model.names import shown

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|[smhdw])")
DURATION = r"^(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:ms|[smhdw]))+$"
PERCENTAGE = r"^[0-9]{1,3}(?:\.[0-9]{1,4})?%$"


class Unfit(ValueError):
    """Text that is not what was wanted; `remedy` says what to write instead."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


def duration(text: object) -> float:
    """Seconds from `500ms`, `30s`, `5m`, `1h30m`, `2d`, `1w`. Raises Unfit."""
    remedy = "write it with its unit: 500ms, 30s, 5m, 2h, 1d"
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise Unfit(f"{text} has no unit", f"{remedy}; for seconds: {text}s")
    if not isinstance(text, str) or re.fullmatch(DURATION, text) is None:
        raise Unfit(f"{shown(text)} is not a duration", remedy)
    return sum(float(number) * SECONDS[unit] for number, unit in _PART.findall(text))


def percentage(text: object) -> float:
    """A part from 0 to 1 from `50%`. Raises Unfit."""
    remedy = "write it with its unit, 0% to 100%"
    if isinstance(text, int | float) and not isinstance(text, bool):
        meant = text * 100 if text <= 1 else text
        raise Unfit(f"{text} has no unit", f"{remedy}: {meant:g}%")
    if not isinstance(text, str) or re.fullmatch(PERCENTAGE, text) is None:
        raise Unfit(f"{shown(text)} is not a percentage", remedy)
    part = float(text[:-1]) / 100
    if part > 1:
        raise Unfit(f"{shown(text)} is more than all", remedy)
    return part


def duration_text(seconds: float) -> str:
    """The shortest single-unit text of a duration: 300 gives `5m`."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms"


def percentage_text(part: float) -> str:
    return f"{part * 100:g}%"
