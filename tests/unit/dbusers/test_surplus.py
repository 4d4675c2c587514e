"""Rights that our accounts have from somebody else: reported, and taken away where the server's settings say so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labstore.model.database import DbGrant
from labstore.model.dbusers_settings import Surplus
from labstore.reports.dbusers import SurplusRights
from tests.unit.dbusers.worlds import ONE, SETTINGS, acts, entry, facts, made_on, plan, row

OURS = made_on(row("s1001"), ONE)


@pytest.mark.parametrize(
    "found",
    [
        replace(OURS, roles=OURS.roles | {"other"}),
        replace(OURS, grants=frozenset({DbGrant("other", frozenset({"Select"}))})),
        replace(OURS, surplus=("table a.b",)),
    ],
    ids=["a role", "a database", "a table"],
)
@pytest.mark.parametrize("policy", Surplus)
def test_the_policy_decides(policy: Surplus, found: object) -> None:
    settings = replace(SETTINGS, hosts=(replace(SETTINGS.host(ONE), surplus=policy),))
    made = plan(facts([entry("s1001")], [row("s1001")], {ONE: {"s1001": found}}, settings=settings))
    revoked = policy is Surplus.REVOKE
    assert acts(made) == (["s1001@db1.example revoke rights beyond ours"] if revoked else [])
    assert any(isinstance(report, SurplusRights) for report in made.reports) is not revoked


def test_nothing_is_taken_from_an_administrator() -> None:
    settings = replace(SETTINGS, hosts=(replace(SETTINGS.host(ONE), surplus=Surplus.REVOKE),))
    found = replace(OURS, touchable=False, surplus=("table a.b",))
    assert acts(plan(facts([entry("s1001")], [row("s1001")], {ONE: {"s1001": found}}, settings=settings))) == []
