"""Servers that work beside each other: what one of them cannot do costs the others nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labstore.dbusers.crew import Crew
from labstore.model.accounts import DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.ports.replica_server import HostChange, HostVerb
from labstore.reconcile.facts import Fact, Missing
from labstore.reports.dbusers import HostDefect
from tests.support.dbusers_fakes import FakeReplica
from tests.support.fake_clock import FakeClock
from tests.support.logs_kept import logs_kept

ONE, TWO = HostKey("db1.example"), HostKey("db2.example")
S1 = DbUser("s1001")
PATIENCE = 30.0


def defect(word: str) -> None:
    raise KeyError(word)


@pytest.fixture
def crew() -> Iterator[Crew]:
    clock = FakeClock()
    made = Crew([FakeReplica(ReplicaSettings(key), clock) for key in (ONE, TWO)], clock)
    first = made.servers[0]
    assert isinstance(first, FakeReplica)
    first.trouble = defect
    with logs_kept():
        yield made
    made.close()


def test_a_defect_in_a_look_makes_one_server_missing(crew: Crew) -> None:
    """DESIGN law 1"""
    views = crew.observe(PATIENCE)
    bad = views[ONE]
    assert (
        isinstance(bad, Missing) and isinstance(bad.report, HostDefect) and "db1.example observe" in bad.report.reason
    )
    assert isinstance(views[TWO], Fact)
    assert set(crew.away) == {ONE}


def test_a_defect_in_the_work_is_one_server_s(crew: Crew) -> None:
    done = crew.carry_out({key: [HostChange(HostVerb.DROP, S1)] for key in (ONE, TWO)}, PATIENCE)
    assert isinstance(done[ONE].lost, HostDefect) and done[ONE].found is None
    assert done[TWO].lost is None and done[TWO].found == {}
