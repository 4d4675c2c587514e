"""Keyed and stepwise runs."""

from __future__ import annotations

import pytest

from labstore.reconcile.plan import Plan, Refusal, Step, Verb
from labstore.reconcile.record import Outcome
from labstore.reconcile.runner import StepFailed, Stepwise, run_keyed
from labstore.reports.exports import ApplyFailed


def step(key: str) -> Step[str]:
    return Step(key, Verb.ADD, None, key, "test")


def failing(bad: str) -> object:
    def act(each: Step[str]) -> None:
        if each.key == bad:
            raise StepFailed(ApplyFailed("server", "no"))

    return act


def test_one_items_failure_never_stops_the_rest() -> None:
    results = run_keyed([step("a"), step("b"), step("c")], failing("b"))  # type: ignore[arg-type]
    assert [result.outcome for result in results] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]


def test_a_defect_is_not_taken_for_a_failed_step() -> None:
    def act(_: Step[str]) -> None:
        raise KeyError("defect")

    with pytest.raises(KeyError):
        run_keyed([step("a")], act)


def test_stepwise_looks_again_after_each_step() -> None:
    left = ["a", "b"]
    results, plan = Stepwise(lambda: Plan(tuple(map(step, left))), lambda each: left.remove(each.key)).run()
    assert [result.key for result in results] == ["a", "b"]
    assert plan.empty


def test_stepwise_stops_at_the_first_failure() -> None:
    results, _ = Stepwise(lambda: Plan((step("a"), step("b"))), failing("a")).run()  # type: ignore[arg-type]
    assert [(result.key, result.outcome) for result in results] == [("a", Outcome.FAILED)]


def test_stepwise_stops_when_a_step_does_not_take() -> None:
    results, _ = Stepwise(lambda: Plan((step("a"),)), lambda _: None).run()
    assert [result.outcome for result in results] == [Outcome.DONE, Outcome.FAILED]
    assert results[-1].report is not None
    assert results[-1].report.code == "not-converging"


def test_stepwise_takes_no_step_past_a_refusal() -> None:
    refused = Plan((step("a"),), refusals=(Refusal(("b",), ApplyFailed("server", "no")),))
    results, plan = Stepwise(lambda: refused, lambda _: None).run()
    assert results == ()
    assert plan.refusals
