"""What a benchmark says: a list of figures, printed as a table and kept as bench/results/NAME.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One figure. `ratio` above 1 means ours is better; `baseline` and `ratio` are None for a count.

    `target` is what DESIGN asks for, in words; `holds` whether it is reached, None where nothing is asked.
    """

    name: str
    unit: str
    ours: float
    baseline: float | None = None
    baseline_is: str | None = None
    ratio: float | None = None
    target: str | None = None
    holds: bool | None = None


def compared(
    name: str, unit: str, ours: float, baseline: float, baseline_is: str, at_least: float | None = None
) -> Figure:
    """Ours beside the alternative; smaller is better for both. `at_least` is the ratio asked for."""
    ratio = baseline / ours if ours else math.inf
    holds = None if at_least is None else ratio >= at_least
    target = None if at_least is None else f">= {at_least:g}x"
    return Figure(name, unit, round(ours, 4), round(baseline, 4), baseline_is, round(ratio, 2), target, holds)


def counted(name: str, unit: str, ours: float, at_most: float | None = None) -> Figure:
    """A figure that stands alone; `at_most` is what may not be passed."""
    target = None if at_most is None else f"<= {at_most:g}"
    return Figure(name, unit, round(ours, 4), target=target, holds=None if at_most is None else ours <= at_most)


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent of growth between the smallest and the largest size: 1 is linear."""
    return math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])


def keep(name: str, figures: Sequence[Figure]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    return path


def show(name: str, figures: Sequence[Figure]) -> None:
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for column in ("figure", "ours", "baseline", "ratio", "target", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for figure in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
        table.add_row(
            figure.name,
            f"{figure.ours:g} {figure.unit}",
            "" if figure.baseline is None else f"{figure.baseline:g} {figure.unit}",
            "" if figure.ratio is None else f"{figure.ratio:g}x",
            figure.target or "",
            mark,
        )
    Console().print(table)
