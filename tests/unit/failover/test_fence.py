"""What DRBD's handler answers, and what counts as proof that a partner is off."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labstore.failover.fence import PROOF_LASTS, Outcome, fence_peer, fenced, proven
from labstore.failover.places import Places
from labstore.model.drbd import DiskState, ResourceName, Role
from labstore.model.failover import Fence
from labstore.ports.storage_node import Aspect, Do, NodeFacts, Order, Said
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import NodeUnreachable, StepNotDone
from tests.support.fake_host import FakeHost, Scripted
from tests.support.small_pair import BETA, pair
from tests.unit.failover.worlds import missing, node, status

TOOLS = ResourceName("tools")


@dataclass
class Partner:
    """Answers with what it has; `after` is what it has once it was told to outdate itself."""

    before: Any
    after: Any = None
    reachable: bool = True
    told: int = 0
    name: Any = BETA

    def look(self, aspects: frozenset[Aspect]) -> NodeFacts:
        if not self.reachable:
            raise StepFailed(NodeUnreachable("beta", "no route to host"))
        found = self.after if self.told and self.after is not None else self.before
        return node(BETA, replication=found if not isinstance(found, tuple) else {TOOLS: status("tools", *found)})

    def act(self, order: Order) -> Said:
        assert order == Order(Do.OUTDATE, TOOLS)
        self.told += 1
        if self.after is None:
            raise StepFailed(StepNotDone("beta", "outdate", "it is worse than outdated"))
        return Said()


@pytest.fixture
def observer(tmp_path: Path) -> Any:
    """As much of one as the handler needs."""
    return SimpleNamespace(places=Places(pair(), tmp_path, tmp_path), boot=lambda: "boot-1")


S, P = Role.SECONDARY, Role.PRIMARY
UP, OLD, BAD = DiskState.UP_TO_DATE, DiskState.OUTDATED, DiskState.INCONSISTENT
ANSWERS = [
    (Partner((S, UP), (S, OLD)), Outcome.OUTDATED),
    (Partner((S, OLD), (S, OLD)), Outcome.OUTDATED),
    (Partner((P, UP)), Outcome.PRIMARY),
    (Partner((S, UP), (P, UP)), Outcome.PRIMARY),
    (Partner((S, BAD)), Outcome.INCONSISTENT),
    (Partner((S, DiskState.DISKLESS)), Outcome.INCONSISTENT),
    (Partner((S, UP), (S, UP)), Outcome.UNREACHABLE),
    (Partner((S, UP), reachable=False), Outcome.UNREACHABLE),
    (Partner({}, {}), Outcome.UNREACHABLE),
    (Partner(missing("replication"), missing("replication")), Outcome.UNREACHABLE),
]


@pytest.mark.parametrize(("partner", "outcome"), ANSWERS, ids=[f"{n}" for n in range(len(ANSWERS))])
def test_the_handler_says_what_was_seen_of_the_partner(observer: Any, partner: Partner, outcome: Outcome) -> None:
    """An order that was given is no proof: it is looked at what it brought (DESIGN law 5)."""
    assert fence_peer(observer, partner, "tools") is outcome  # type: ignore[arg-type]


def test_a_primary_is_never_told_to_outdate_itself(observer: Any) -> None:
    partner = Partner((P, UP))
    fence_peer(observer, partner, "tools")  # type: ignore[arg-type]
    assert partner.told == 0


def proof(path: Path, **said: str) -> None:
    path.write_text(json.dumps({"node": "beta", "boot": "boot-1", **said}))


def test_proof_counts_for_this_boot_this_partner_and_a_while(observer: Any) -> None:
    path = observer.places.proof
    assert not proven(observer, BETA)
    proof(path)
    assert proven(observer, BETA)
    assert fence_peer(observer, Partner((S, UP), reachable=False), "tools") is Outcome.FENCED  # type: ignore[arg-type]
    now = path.stat().st_mtime
    assert not proven(observer, BETA, now + PROOF_LASTS)
    assert not proven(observer, BETA, now - 1), "a clock that went back"
    proof(path, boot="boot-0")
    assert not proven(observer, BETA)
    proof(path, node="gamma")
    assert not proven(observer, BETA)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "x" * 70000, '{"node": "beta"}'])
def test_rubbish_is_no_proof(observer: Any, text: str) -> None:
    observer.places.proof.write_text(text)
    assert not proven(observer, BETA)


def test_a_pipe_in_its_place_hangs_nobody(observer: Any) -> None:
    os.mkfifo(observer.places.proof)
    assert not proven(observer, BETA)


def test_only_a_fence_command_that_succeeds_is_proof() -> None:
    settings = Fence(("/usr/local/sbin/fence", "--off"), 5.0)
    host = FakeHost(Scripted(("/usr/local/sbin/fence", "--off", "beta")))
    assert fenced(host, settings, BETA, "alice", "now").how == "/usr/local/sbin/fence succeeded"
    assert host.ran[0].deadline == 5.0
    for wrong in (
        Scripted((), status=1, stderr="no answer from the BMC"),
        Scripted((), fails="did not end within 5 s"),
    ):
        with pytest.raises(StepFailed) as raised:
            fenced(FakeHost(wrong), settings, BETA, "alice", "now")
        assert raised.value.report.code == "fence-failed"
