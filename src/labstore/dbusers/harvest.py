"""What a lost ledger took with it and servers still know: limits that no rule gives. Pure."""

from __future__ import annotations

from labstore.dbusers.desired import Limiter
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.plan import DbPlan
from labstore.dbusers.turns import Act
from labstore.model.accounts import DbUser, Limits
from labstore.model.database import GrantType
from labstore.reconcile.facts import Fact


def found_limits(facts: DbFacts, plan: DbPlan) -> dict[DbUser, Limits]:
    """The limits of accounts that the ledger is about to learn, where every server of the role type that answers has
    the same, and no rule says so: a rule did once."""
    limiter = Limiter(facts.settings, facts.ledger.rules, facts.at)
    users = sorted(step.after.user for step in plan.steps if step.after is not None and step.after.act is Act.ADOPT)
    hosts = [host for host in facts.settings.hosts if host.grant_type is GrantType.ROLE]
    views = [(host, answer.value) for host in hosts if isinstance(answer := facts.hosts.get(host.key), Fact)]
    found: dict[DbUser, Limits] = {}
    for user in users:
        here = [(host, view.accounts[user].limits) for host, view in views if user in view.accounts]
        given = {limits for _, limits in here}
        if len(given) == 1 and all(limits != limiter.limits(user, host) for host, limits in here):
            found[user] = given.pop()
    return found
