"""Carrying out plans: keyed (one item's failure never stops the rest) or stepwise (stop at the first surprise)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from labstore.reconcile.plan import Plan, Step
from labstore.reconcile.record import Outcome, Result
from labstore.reports.report import Report, Severity

T = TypeVar("T")


class StepFailed(Exception):
    """A step could not be carried out; the report says why. Anything else that is raised is a defect and goes on up."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.message())
        self.report = report


class NotConverging(Report):
    """A stepwise run looked again and found the step it had just taken still to do."""

    key: str

    code = "not-converging"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.key}: the step was carried out, yet is still to do"

    def remedy(self) -> str:
        return "look at what undoes it, then run again"


def run_keyed(steps: Iterable[Step[T]], act: Callable[[Step[T]], None]) -> tuple[Result, ...]:
    """Try every step once; every step gets a result. Raises only what `act` raises beyond StepFailed."""
    return tuple(_attempt(step, act) for step in steps)


@dataclass(frozen=True)
class Stepwise(Generic[T]):
    """Look, take the first step, look again, until the plan is empty.

    `plan` observes and plans afresh each time; `act` carries out one step and verifies it. The run ends at the first
    failure, at the first refusal, or when a step that was taken is planned again.
    """

    plan: Callable[[], Plan[T]]
    act: Callable[[Step[T]], None]
    limit: int = 1000

    def run(self) -> tuple[tuple[Result, ...], Plan[T]]:
        results: list[Result] = []
        taken: set[tuple[str, str]] = set()
        for _ in range(self.limit):
            plan = self.plan()
            if plan.empty or plan.refusals:
                break
            step = plan.steps[0]
            if (step.key, step.verb.value) in taken:
                results.append(Result(step.key, Outcome.FAILED, NotConverging(step.key)))
                break
            taken.add((step.key, step.verb.value))
            results.append(_attempt(step, self.act))
            if results[-1].outcome is not Outcome.DONE:
                break
        return tuple(results), plan


def _attempt(step: Step[T], act: Callable[[Step[T]], Any]) -> Result:
    try:
        act(step)
    except StepFailed as failure:
        return Result(step.key, Outcome.FAILED, failure.report)
    return Result(step.key, Outcome.DONE)
