"""The laws that every planner keeps. A new planner joins by one line in PLANNERS (tests/test_laws.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hypothesis.strategies import SearchStrategy

from labstore.reconcile.codec import plan_from_json, plan_to_json
from labstore.reconcile.plan import Plan, Step

F = TypeVar("F")
T = TypeVar("T")


@dataclass(frozen=True)
class Planner(Generic[F, T]):
    """A planner under the laws.

    `after` gives the facts as they are when these steps were carried out; `removed` names what a plan takes away;
    `undecided` names what nothing may be taken from, because somebody did not answer; `outcome` is what the facts
    amount to for a user, for comparing ends.
    """

    name: str
    payload: type[T]
    facts: SearchStrategy[F]
    plan: Callable[[F], Plan[T]]
    after: Callable[[F, Sequence[Step[T]]], F]
    removed: Callable[[F, Plan[T]], frozenset[str]]
    undecided: Callable[[F], frozenset[str]]
    outcome: Callable[[F], Any]

    def __str__(self) -> str:
        return self.name


def deterministic(planner: Planner[F, T], facts: F) -> None:
    """The same facts give the same plan."""
    assert planner.plan(facts) == planner.plan(facts)


def idempotent(planner: Planner[F, T], facts: F) -> None:
    """When a plan was carried out, nothing is left to do."""
    done = planner.after(facts, planner.plan(facts).steps)
    assert planner.plan(done).steps == ()


def interruptible(planner: Planner[F, T], facts: F, stop: int) -> None:
    """Stopped after any step, the next plan ends where this one would have ended."""
    steps = planner.plan(facts).steps
    whole = planner.after(facts, steps)
    part = planner.after(facts, steps[: stop % (len(steps) + 1)])
    rest = planner.after(part, planner.plan(part).steps)
    assert planner.outcome(rest) == planner.outcome(whole)


def nothing_removed_from_missing(planner: Planner[F, T], facts: F) -> None:
    """What somebody did not answer for is not taken away."""
    assert not planner.removed(facts, planner.plan(facts)) & planner.undecided(facts)


def json_round_trip(planner: Planner[F, T], facts: F) -> None:
    """A plan can be shown, kept and read back without loss."""
    plan = planner.plan(facts)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan))), planner.payload) == plan
