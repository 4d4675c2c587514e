"""Reports as lines for people; the only place that joins them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from labstore.reports.report import Report, Severity

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


def moment(at: datetime) -> str:
    """A moment for people: local time, everywhere in this one form."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def worst(reports: Iterable[Report]) -> Severity | None:
    """The most serious severity among the reports, None where there are none."""
    return min((report.severity for report in reports), key=_ORDER.__getitem__, default=None)


def ordered(reports: Iterable[Report]) -> list[Report]:
    """Errors first, each report once, otherwise in the order of arrival."""
    return sorted(dict.fromkeys(reports), key=lambda report: _ORDER[report.severity])


def lines(reports: Iterable[Report], limit: int = 50) -> list[str]:
    """One line per report, the remedy indented below; a long list ends with how many were left out."""
    every = ordered(reports)
    shown: list[str] = []
    for report in every[:limit]:
        shown.append(f"{report.severity}: {report.message()}")
        remedy = report.remedy()
        if remedy:
            shown.append(f"    -> {remedy}")
    if len(every) > limit:
        shown.append(f"... and {len(every) - limit} more (--json shows all)")
    return shown
