"""Guards look at facts and a plan and say which steps must not be taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from labstore.reconcile.plan import Plan, Refusal
from labstore.reports.report import Override

T = TypeVar("T")
F = TypeVar("F")

Guard = Callable[[F, Plan[T]], Iterable[Refusal]]
"""A pure function of facts and plan."""


def guarded(
    facts: F, plan: Plan[T], guards: Iterable[Guard[F, T]], overrides: frozenset[Override] = frozenset()
) -> Plan[T]:
    """The plan without the steps that a guard refuses, and with the refusals.

    Every guard sees the whole plan, so the order of guards changes nothing. A refusal whose override was given is
    dropped; one without an override cannot be.
    """
    refusals = [
        refusal
        for guard in guards
        for refusal in guard(facts, plan)
        if refusal.report.override is None or refusal.report.override not in overrides
    ]
    held = {key for refusal in refusals for key in refusal.keys}
    return Plan(
        steps=tuple(step for step in plan.steps if step.key not in held),
        untouched=plan.untouched,
        refusals=plan.refusals + tuple(refusals),
        reports=plan.reports,
    )
