"""Every planner keeps the laws of tests/laws.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import laws
from tests.unit.backup.strategies import BACKUPS
from tests.unit.binds.worlds import BINDS
from tests.unit.dbusers.worlds import DBUSERS
from tests.unit.exports.strategies import EXPORTS
from tests.unit.failover.worlds import DOWN, UP

PLANNERS: list[laws.Planner[Any, Any]] = [BACKUPS, BINDS, DBUSERS, DOWN, EXPORTS, UP]


@pytest.mark.parametrize("planner", PLANNERS, ids=str)
@given(data=st.data())
def test_the_same_facts_give_the_same_plan(planner: laws.Planner[Any, Any], data: st.DataObject) -> None:
    laws.deterministic(planner, data.draw(planner.facts))


@pytest.mark.parametrize("planner", PLANNERS, ids=str)
@given(data=st.data())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(planner: laws.Planner[Any, Any], data: st.DataObject) -> None:
    laws.idempotent(planner, data.draw(planner.facts))


@pytest.mark.parametrize("planner", PLANNERS, ids=str)
@given(data=st.data(), stop=st.integers(0, 1000))
def test_a_plan_can_be_interrupted_after_any_step(
    planner: laws.Planner[Any, Any], data: st.DataObject, stop: int
) -> None:
    laws.interruptible(planner, data.draw(planner.facts), stop)


@pytest.mark.parametrize("planner", PLANNERS, ids=str)
@given(data=st.data())
def test_nothing_is_removed_on_account_of_missing(planner: laws.Planner[Any, Any], data: st.DataObject) -> None:
    laws.nothing_removed_from_missing(planner, data.draw(planner.facts))


@pytest.mark.parametrize("planner", PLANNERS, ids=str)
@given(data=st.data())
def test_a_plan_reads_back_from_json(planner: laws.Planner[Any, Any], data: st.DataObject) -> None:
    laws.json_round_trip(planner, data.draw(planner.facts))
