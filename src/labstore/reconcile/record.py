"""One record per cycle; log, exit status, metrics and pages are views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from labstore.reconcile.plan import Plan
from labstore.reports.report import Report, Severity


class Outcome(StrEnum):
    """What became of one item."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"
    """Not tried, because something it depends on failed."""


class State(StrEnum):
    """The state a cycle leaves behind, from best to worst."""

    CONVERGED = "converged"
    """Nothing is left to do and nothing is in doubt."""
    STANDBY = "standby"
    """Not this node's turn: another one serves."""
    HOLDING = "holding"
    """Some facts are missing; what they concern stays as it was."""
    REFUSED = "refused"
    """A guard holds something back until a person decides."""
    FAILED = "failed"
    """Something that was to be done did not succeed."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one key, with the report that explains anything but success."""

    key: str
    outcome: Outcome
    report: Report | None = None


@dataclass(frozen=True)
class Record:
    """What one cycle of one room saw, decided and did. `facts` are figures for people, not the facts themselves."""

    room: str
    number: int
    started: datetime
    ended: datetime
    state: State
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    untouched: Mapping[str, str] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    reports: tuple[Report, ...] = ()

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {
            "room": self.room,
            "number": self.number,
            "started": self.started.isoformat(),
            "ended": self.ended.isoformat(),
            "seconds": round(self.seconds, 3),
            "state": self.state.value,
            "facts": dict(self.facts),
            "steps": [dict(step) for step in self.steps],
            "untouched": dict(self.untouched),
            "results": [
                {"key": r.key, "outcome": r.outcome.value, "report": r.report.to_dict() if r.report else None}
                for r in self.results
            ],
            "reports": [report.to_dict() for report in self.reports],
        }


def state_of(plan: Plan[Any], results: tuple[Result, ...], reports: tuple[Report, ...], missing: bool) -> State:
    """The state that a plan, the results of carrying it out and what was said along the way amount to."""
    failed = any(result.outcome in (Outcome.FAILED, Outcome.SKIPPED) for result in results)
    if failed or any(report.severity is Severity.ERROR for report in reports):
        return State.FAILED
    if plan.refusals:
        return State.REFUSED
    if missing or plan.untouched:
        return State.HOLDING
    return State.CONVERGED
