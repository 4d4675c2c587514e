"""Facts and Missing: "nothing there" and "could not find out" are different types (DESIGN law 1, upstream #1, #2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from labstore.reports.report import Report

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Fact(Generic[T_co]):
    """A value with its source and the time (UTC) at which the source said it."""

    value: T_co
    source: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """Nobody knows: the source failed, was cut short or refused. Nothing may be removed on account of it."""

    report: Report
    source: str
    at: datetime


Answer = Fact[T_co] | Missing
"""What asking gives. Test with isinstance; there is no default value to fall back to, on purpose."""
