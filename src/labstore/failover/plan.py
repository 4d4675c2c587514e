"""What has to be done, from facts alone: the steps of `up` or `down` that are not met yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from labstore.failover.facts import Situation
from labstore.failover.steps import BEHIND_THE_BARRIER, KINDS, Met, down_orders, key, met, title, up_orders
from labstore.model.drbd import DiskState, ResourceName
from labstore.ports.storage_node import Do, NodeFacts, Order
from labstore.reconcile.facts import Missing
from labstore.reconcile.plan import Plan, Refusal, Step, Verb
from labstore.reports.failover import NotKnown
from labstore.reports.report import Report

MovePlan = Plan[Order]
MoveStep = Step[Order]
Needless = Callable[[Order, Situation, Mapping[str, Met]], str]


def plan_down(situation: Situation) -> MovePlan:
    """Take this node out of service. Clients are only made to wait where there is something to take from them."""
    return _plan(situation, down_orders(situation.pair), Verb.REMOVE, needless=_needless_down)


def plan_up(situation: Situation) -> MovePlan:
    """Let this node serve. Clients are only made to wait where something behind the barrier is still to do."""
    return _plan(situation, up_orders(situation.pair), Verb.ADD, needless=_needless_up)


def _needless_down(order: Order, _situation: Situation, states: Mapping[str, Met]) -> str:
    """Why an order is not needed although it is not met; empty where it is needed."""
    if order.do is Do.BLOCK and states[Do.STOP_SERVER] is Met.YES and states[Do.REMOVE_ADDRESSES] is Met.YES:
        return "there is no server and no address that a client could reach"
    return ""


def _needless_up(order: Order, situation: Situation, states: Mapping[str, Met]) -> str:
    if order.do is Do.BLOCK and not any(
        states[key(each)] is not Met.YES for each in up_orders(situation.pair) if each.do in BEHIND_THE_BARRIER
    ):
        return "everything that clients could see half done is done"
    return ""


def _plan(situation: Situation, orders: tuple[Order, ...], verb: Verb, needless: Needless) -> MovePlan:
    states = {key(order): met(order, situation.own, situation.pair) for order in orders}
    untouched: dict[str, str] = {}
    steps: list[MoveStep] = []
    for order in orders:
        if states[key(order)] is Met.YES and not _again(order, steps):
            continue
        why = needless(order, situation, states)
        if why:
            untouched[key(order)] = why
        else:
            steps.append(_step(order, situation, verb))
    return Plan(tuple(steps), untouched, refusals=_unknown(situation, orders, states))


def _again(order: Order, steps: list[MoveStep]) -> bool:
    """The barrier that this very plan raises comes down at its end, and what was verified before is verified anew."""
    undone = {Do.UNBLOCK: {Do.BLOCK}, Do.VERIFY: {Do.BLOCK, Do.START_SERVER}}.get(order.do, set())
    return any(step.key in undone for step in steps)


def _step(order: Order, situation: Situation, verb: Verb) -> MoveStep:
    told = replace(order, run=situation.run)
    if order.do in (Do.PROMOTE, Do.ATTACH):
        told = replace(told, proof=situation.proof)
    if order.do is Do.PROMOTE:
        told = replace(told, force=situation.force and _outdated(situation, order))
    if order.do in (Do.UNMOUNT, Do.STOP_UNITS, Do.DEMOTE):
        told = replace(told, evict=situation.evict)
    if order.do is Do.ADD_ADDRESSES:
        told = replace(told, partner_released=_partner_released(situation))
    return Step(key(order), verb, None, told, title(order))


def _outdated(situation: Situation, order: Order) -> bool:
    """Only whole data is ever forced: half a copy is no file system."""
    status = situation.own_resource(ResourceName(order.subject))
    return status is not None and status.worst_disk in (DiskState.OUTDATED, DiskState.CONSISTENT)


def _partner_released(situation: Situation) -> bool:
    facts = situation.partner_facts
    if facts is None or facts.addresses is None or isinstance(facts.addresses, Missing):
        return False
    return not facts.addresses.value & set(situation.pair.cluster.service_addresses)


def _unknown(situation: Situation, orders: tuple[Order, ...], states: dict[str, Met]) -> tuple[Refusal, ...]:
    """What could not be found out holds back everything: a step may not be begun on a guess (DESIGN law 1)."""
    doubtful = [order for order in orders if states[key(order)] is Met.UNKNOWN]
    if not doubtful:
        return ()
    every = tuple(key(order) for order in orders)
    reports = dict.fromkeys(report for order in doubtful for report in _reasons(order, situation.own))
    return tuple(Refusal(every, report) for report in reports)


def _reasons(order: Order, facts: NodeFacts) -> list[Report]:
    found: list[Report] = []
    for aspect in sorted(KINDS[order.do].aspects):
        answer = facts.answer(aspect)
        if isinstance(answer, Missing):
            found.append(NotKnown(str(facts.node), aspect.value, answer.report.message()))
        elif answer is None:
            found.append(NotKnown(str(facts.node), aspect.value, "it was not asked for"))
    return found or [NotKnown(str(facts.node), key(order), "no reason was given")]
