"""A server whose grace period passed behind the barrier is started anew: clients let in now could reclaim nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from labstore.failover.steps import Met, met
from labstore.ports.storage_node import BarrierFound, Do, NodeFacts, Order, RecoveryFound, ServerFound
from labstore.reconcile.facts import Fact
from tests.support.small_pair import ALPHA, SERVICE, pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def facts(server: ServerFound, recovery: RecoveryFound, barrier: BarrierFound) -> NodeFacts:
    return NodeFacts(
        ALPHA,
        NOW,
        server=Fact(server, "test", NOW),
        recovery=Fact(recovery, "test", NOW),
        barrier=Fact(barrier, "test", NOW),
    )


RUNS = ServerFound(8, mountd=True, scope="nfs-tools", grace=False)
BLOCKED = BarrierFound(frozenset({SERVICE}))


@pytest.mark.parametrize(
    ("server", "aside", "barrier", "done"),
    [
        (RUNS, 2, BLOCKED, Met.NO),
        (RUNS, 0, BLOCKED, Met.YES),
        (RUNS, 2, BarrierFound(), Met.YES),
        (ServerFound(8, mountd=True, scope="nfs-tools", grace=True), 2, BLOCKED, Met.YES),
    ],
)
def test_it_is_started_anew_only_where_somebody_would_lose_by_it(
    server: ServerFound, aside: int, barrier: BarrierFound, done: Met
) -> None:
    found = facts(server, RecoveryFound(True, True, 0, aside), barrier)
    assert met(Order(Do.START_SERVER), found, pair()) is done
