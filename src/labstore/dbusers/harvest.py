"""What a ledger that is empty learns, and what servers still know beside: limits that no rule gives. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from labstore.dbusers.course import DbStep
from labstore.dbusers.desired import Limiter
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.plan import DbPlan
from labstore.dbusers.turns import Act, Stage
from labstore.model.accounts import LARGEST_LIMIT, DbUser, Limits, PartialLimits
from labstore.model.database import GrantType
from labstore.reconcile.facts import Fact

_NAMES = tuple(field.name for field in fields(Limits))


def learned(steps: Iterable[DbStep], acts: frozenset[Act]) -> tuple[DbStep, ...]:
    """The steps of these acts that come about by themselves: none that follows, in the ledger or in a file, from one
    that is not among them."""
    kept: list[DbStep] = []
    stopped: set[DbUser] = set()
    for step in steps:
        change = step.after
        if change is None or change.user in stopped:
            continue
        if change.act in acts:
            kept.append(step)
        elif change.stage is not Stage.HOST:
            stopped.add(change.user)
    return tuple(kept)


def found_limits(facts: DbFacts, plan: DbPlan) -> dict[DbUser, PartialLimits]:
    """The limits of accounts that the ledger is about to learn, one by one, where every server of the role type that
    answers has the same, and no rule says so: a rule did once."""
    limiter = Limiter(facts.settings, facts.ledger.rules, facts.at)
    users = sorted(step.after.user for step in plan.steps if step.after is not None and step.after.act is Act.ADOPT)
    hosts = [host for host in facts.settings.hosts if host.grant_type is GrantType.ROLE]
    views = [(host, answer.value) for host in hosts if isinstance(answer := facts.hosts.get(host.key), Fact)]
    found: dict[DbUser, PartialLimits] = {}
    for user in users:
        here = [
            (view.accounts[user].limits, limiter.limits(user, host))
            for host, view in views
            if user in view.accounts and view.accounts[user].touchable
        ]
        only = PartialLimits(**{name: value for name in _NAMES if (value := _only_there(here, name)) is not None})
        if not only.nothing:
            found[user] = only
    return found


def _only_there(pairs: Sequence[tuple[Limits, Limits]], name: str) -> int | None:
    """What all servers have for this limit, if it is nowhere what the rules say, and a rule could say it."""
    given = {getattr(there, name) for there, _ in pairs}
    if len(given) != 1 or any(getattr(there, name) == getattr(wanted, name) for there, wanted in pairs):
        return None
    only = int(given.pop())
    return only if 0 <= only <= LARGEST_LIMIT else None
