"""The name of the state that a pair is in, and the next command: one row for each."""

from __future__ import annotations

from typing import Any

import pytest

from labstore.failover.states import NodeState, PairState, PairView, name_state, node_state
from labstore.model.drbd import ConnectionState, DiskState, Generations, ReplicationState, ResourceName, Role
from labstore.model.names import VolumeName
from labstore.ports.storage_node import (
    BarrierFound,
    FilesFound,
    MountFound,
    MountState,
    NodeFacts,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
)
from labstore.reconcile.facts import Missing
from tests.support.small_pair import BETA, SERVICE, UNIT, pair
from tests.unit.failover.worlds import RIGHT, SERVING, fact, missing, node, replicated, serving, silent

P, S = Role.PRIMARY, Role.SECONDARY
APART = ConnectionState.CONNECTING
NAMES = (ResourceName("state"), ResourceName("tools"))


def view(first: NodeFacts | Missing, second: NodeFacts | Missing) -> PairView:
    answers = [each if isinstance(each, Missing) else fact(each) for each in (first, second)]
    return PairView(pair(), (("alpha", answers[0]), ("beta", answers[1])))


def active(**more: Any) -> NodeFacts:
    return serving(replication=replicated(role=P, **more))


def standby(**more: Any) -> NodeFacts:
    return node(BETA, replication=replicated(peer=P, **more))


def gens(current: str, past: str = "0") -> Any:
    return dict.fromkeys(NAMES, Generations(current, past, ("0", "0")))


SYNCING = {"replication": ReplicationState.SYNC_SOURCE, "peer_disk": DiskState.INCONSISTENT}
STATES: list[tuple[PairState, NodeFacts | Missing, NodeFacts | Missing, str]] = [
    (PairState.HEALTHY, active(), standby(), "nothing to do; alpha serves"),
    (PairState.VERIFYING, active(replication=ReplicationState.VERIFY_SOURCE), standby(), "nothing to do"),
    (PairState.RESYNCING, active(**SYNCING), standby(replication=ReplicationState.SYNC_TARGET), "wait for the resync"),
    (PairState.SERVING_ALONE, active(connection=APART), silent(), "bring the partner back"),
    (PairState.DOWN, node(), node(BETA), "`labstore failover up` on the node that shall serve"),
    (
        PairState.HALF_UP,
        node(replication=replicated(role=P), runs=RunsFound("", "up", "mount:tools", "t")),
        standby(),
        "on alpha: `labstore failover up` goes on",
    ),
    (
        PairState.HALF_DOWN,
        serving(server=ServerFound(0), runs=RunsFound("", "down", "stop-server", "t")),
        standby(),
        "on alpha: `labstore failover down` goes on; `labstore failover abort` goes back to serving",
    ),
    (PairState.PARTNER_UNKNOWN, node(replication=replicated(connection=APART)), silent(), "--partner-is-off beta"),
    (
        PairState.STAND_ALONE,
        active(connection=ConnectionState.STAND_ALONE),
        node(BETA, replication=replicated(connection=APART)),
        "labstore failover resolve",
    ),
    (PairState.SUSPENDED, active(connection=APART, suspended=("fencing",)), silent(), "resume-io"),
    (
        PairState.SPLIT_BRAIN,
        serving(replication=replicated(role=P, connection=APART), generations=gens("B0", "A0")),
        node(BETA, replication=replicated(connection=APART), generations=gens("C0", "A0")),
        "labstore failover resolve",
    ),
    (
        PairState.TWO_ADDRESSES,
        active(),
        node(BETA, replication=replicated(peer=P), addresses=frozenset({SERVICE})),
        "`labstore failover down` on the node that is not Primary, at once",
    ),
    (
        PairState.TWO_PRIMARIES,
        active(connection=APART),
        serving(BETA, replication=replicated(role=P, connection=APART), addresses=frozenset()),
        "`labstore failover down --allow-outage` on the node that clients do not use, at once",
    ),
    (PairState.NOT_SET_UP, node(replication={}), node(BETA, replication={}), "labstore failover init"),
    (PairState.UNKNOWN, silent("alpha"), silent(), "run it on one of the nodes"),
]


@pytest.mark.parametrize(("state", "first", "second", "words"), STATES, ids=[state.name for state, *_ in STATES])
def test_each_state_has_its_name_and_its_next_command(
    state: PairState, first: NodeFacts | Missing, second: NodeFacts | Missing, words: str
) -> None:
    named = name_state(view(first, second))
    assert named.state is state, named
    assert words in named.next


def test_every_state_is_in_the_table() -> None:
    assert {state for state, *_ in STATES} == set(PairState)


def test_the_same_is_seen_from_the_other_side() -> None:
    for state, first, second, _ in STATES:
        if not isinstance(first, Missing) and not isinstance(second, Missing):
            assert name_state(view(second, first)).state is state


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (serving(), NodeState.SERVING),
        (node(), NodeState.IDLE),
        (serving(barrier=BarrierFound(frozenset({SERVICE}))), NodeState.PARTIAL),
        (serving(addresses=frozenset()), NodeState.PARTIAL),
        (node(replication=replicated(role=P)), NodeState.PARTIAL),
        (node(mounts={VolumeName("tools"): MountFound(MountState.ABSENT, alive=True)}), NodeState.PARTIAL),
        (node(server=ServerFound(8)), NodeState.PARTIAL),
    ],
)
def test_what_a_node_is(facts: NodeFacts, state: NodeState) -> None:
    assert node_state(facts, pair()) is state


FINDINGS: list[tuple[NodeFacts, str, str]] = [
    (serving(server=ServerFound(0)), "address-without-service", "no NFS server runs"),
    (serving(mounts={VolumeName("state"): RIGHT}), "address-without-service", "tools is not mounted"),
    (serving(barrier=BarrierFound(frozenset({SERVICE}))), "left-blocked", "10.77.0.10"),
    (serving(server=ServerFound(8, True, "alpha")), "scope-wrong", "nfs-tools"),
    (serving(recovery=RecoveryFound(True, False)), "recovery-misplaced", "alpha"),
    (
        serving(mounts={**SERVING["mounts"], VolumeName("tools"): MountFound(MountState.READ_ONLY, alive=True)}),
        "mount-foreign",
        "read-only",
    ),
    (serving(units=UnitsFound(frozenset(), frozenset({UNIT}), True)), "failover-unit-failed", UNIT),
    (serving(units=UnitsFound(frozenset(), frozenset(), True, frozenset({UNIT}))), "failover-unit-absent", UNIT),
    (serving(runs=RunsFound("", "down", "block", "t")), "run-unfinished", "block"),
    (
        serving(files=FilesFound("digest", "1", ("/etc/drbd.d/tools.res differs",))),
        "failover-files-differ",
        "tools.res",
    ),
    (serving(server=missing("server")), "failover-not-known", "no answer within 30 s"),
    (active(peer_disk=DiskState.OUTDATED), "without-redundancy", "Outdated"),
    (active(disk=DiskState.DISKLESS), "data-unfit", "Diskless"),
    (serving(replication=replicated(replication=ReplicationState.SYNC_TARGET)), "resyncing", "tools"),
]


@pytest.mark.parametrize(("facts", "code", "words"), FINDINGS, ids=[f"{code} {words}" for _, code, words in FINDINGS])
def test_what_is_wrong_is_said_with_what_to_do(facts: NodeFacts, code: str, words: str) -> None:
    found = [report for report in name_state(view(facts, standby())).reports if report.code == code]
    assert found and any(words in report.text() for report in found), found


def test_nodes_that_were_configured_differently_are_told() -> None:
    other = node(BETA, files=FilesFound("other", "2"))
    codes = [report.code for report in name_state(view(serving(), other)).reports]
    assert codes.count("failover-nodes-differ") == 2


def test_a_healthy_pair_has_nothing_to_say() -> None:
    assert name_state(view(active(), standby())).reports == ()


def test_a_stuck_server_is_half_down_and_names_the_way_back() -> None:
    """acceptance 7: nfsd threads that do not end. `down` stops there, `abort` goes back to serving."""
    stuck = serving(
        barrier=BarrierFound(frozenset({SERVICE})),
        server=ServerFound(3, False, None),
        runs=RunsFound("", "down", "stop-server", "t"),
    )
    named = name_state(view(stuck, standby()))
    assert named.state is PairState.HALF_DOWN
    assert "labstore failover abort" in named.next
    assert any("stop-server" in report.text() for report in named.reports)
