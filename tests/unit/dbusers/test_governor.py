"""What the governor ends, and what it leaves alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from labstore.dbusers.facts import DbFacts
from labstore.dbusers.governor import Governor, Seen, crowding, noted, overrunning
from labstore.model.accounts import AccountKind, DbUser, Limits, PartialLimits
from labstore.model.database import HostGroupName, HostKey
from labstore.model.dbusers_settings import GovernorSettings, LimitRule, LimitSettings, ReplicaSettings
from labstore.ports.replica_server import HostView, Session
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import SessionsEnded, StatementsEnded
from tests.support.dbusers_fakes import FakeReplica
from tests.support.fake_clock import FakeClock
from tests.support.hang import HANGS
from tests.unit.dbusers.worlds import NOBODY, SETTINGS, facts, row

S1, S2 = DbUser("s1001"), DbUser("s1002")
FIVE = LimitRule(PartialLimits(statement_seconds=5), kind=AccountKind.TOOL)
TWO_AT_A_TIME = LimitRule(PartialLimits(max_connections=2), account=S1)
KEY = HostKey("db1.example")


def session(number: int, user: DbUser = S1, seconds: float = 0.0, running: bool | None = None) -> Session:
    return Session(number, number * 10, user, seconds, seconds > 0 if running is None else running)


def numbers(found: Iterable[tuple[Session, int]]) -> list[int]:
    return [each.number for each, _ in found]


@pytest.mark.parametrize(
    ("given", "ended"),
    [
        ([session(1, seconds=6.0)], [1]),
        ([session(1, seconds=5.9)], []),
        ([session(1, seconds=900.0, running=False)], []),
        ([session(1, seconds=6.0), session(2, S2, seconds=7.0)], [1, 2]),
    ],
    ids=["over", "within its grace", "idle for long", "each by itself"],
)
def test_a_statement_ends_when_its_time_is_over(given: list[Session], ended: list[int]) -> None:
    assert numbers(overrunning(given, lambda _user: Limits(0, 5), 1.0)) == ended


def test_no_budget_is_no_limit() -> None:
    assert numbers(overrunning([session(1, seconds=1e6)], lambda _user: Limits(), 0.0)) == []


def test_of_too_many_sessions_the_idle_and_the_newest_go() -> None:
    every = [session(1), session(2, seconds=3.0), session(3), session(4, seconds=1.0), session(9, S2)]
    assert numbers(crowding(every, lambda _user: Limits(max_connections=3))) == [3]
    assert numbers(crowding(every, lambda _user: Limits(max_connections=1))) == [4, 1, 3]
    assert numbers(crowding(every, lambda _user: Limits())) == []


def made(*rules: LimitRule, **changes: object) -> tuple[Governor, FakeReplica]:
    clock = FakeClock()
    settings = replace(SETTINGS, limits=LimitSettings(role=Limits(), rules=rules), **changes)
    server = FakeReplica(ReplicaSettings(KEY), clock)
    return Governor([server], settings, clock), server


def known(*rules: LimitRule) -> DbFacts:
    """Both accounts are in the ledger and on every server."""
    return facts(rows=[row(S1), row(S2)], rules=rules)


def test_it_ends_what_is_over_and_says_so_once() -> None:
    governor, server = made(FIVE)
    governor.govern(known())
    for seconds in (7.0, 9.0):
        server.open_sessions = [session(1, seconds=seconds), session(2, S2, seconds=1.0)]
        governor.look(server)
        assert [each.running for each in server.open_sessions] == [False, True]
    assert governor.ended() == (StatementsEnded("s1001", str(KEY), 2, 9.0, 5),)
    assert governor.ended() == ()


def test_only_sessions_that_are_seen_twice_are_too_many() -> None:
    """One that ends is listed for a moment longer than it counts."""
    governor, server = made(TWO_AT_A_TIME)
    governor.govern(known())
    server.open_sessions = [session(number) for number in (1, 2, 3, 4)]
    before = governor.look(server)
    assert len(server.open_sessions) == 4
    server.open_sessions = [session(number) for number in (1, 2, 4, 5)]
    governor.look(server, before)
    assert [each.number for each in server.open_sessions] == [1, 2, 5]
    assert governor.ended() == (SessionsEnded("s1001", str(KEY), 1, 2),)


def test_a_block_whose_statements_are_too_short_to_be_hit_loses_its_session() -> None:
    """Each of them has a number of its own; the time is that of the whole block."""
    governor, server = made(FIVE)
    server.slippery = True
    governor.govern(known())
    server.open_sessions = [session(1, seconds=7.0), session(2, S2, seconds=8.0)]
    before = governor.look(server)
    assert governor.ended() == () and len(server.open_sessions) == 2
    # the second one's statement ended by itself; what runs now is another one, and is given its chance
    server.open_sessions = [session(1, seconds=8.0), session(2, S2, seconds=6.5)]
    governor.look(server, before)
    assert [each.number for each in server.open_sessions] == [2]
    assert governor.ended() == (StatementsEnded("s1001", str(KEY), 1, 8.0, 5),)


def test_a_rule_of_the_ledger_holds_from_the_next_look() -> None:
    governor, server = made()
    server.open_sessions = [session(1, seconds=100.0)]
    governor.govern(known())
    governor.look(server)
    assert server.open_sessions[0].running
    governor.govern(known(FIVE))
    governor.look(server)
    assert not server.open_sessions[0].running


def test_rules_of_another_group_and_rules_that_are_over_do_not_count() -> None:
    clock = FakeClock()
    group = replace(FIVE, group=HostGroupName("web"))
    governor, server = made(group, replace(FIVE, until=clock.now() - timedelta(seconds=1)))
    governor.govern(known())
    server.open_sessions = [session(1, seconds=100.0)]
    governor.look(server)
    assert server.open_sessions[0].running


OTHERS = {
    "an administrator's": known(),
    "not in the ledger": known(),
    "of a kind that this site does not keep": facts(rows=[row(S1), row("p31", kind=AccountKind.PAWS)]),
    "on a server that gave no answer yet": known(),
}


@pytest.mark.parametrize("why", OTHERS)
def test_who_is_not_ours_to_touch_is_left_alone(why: str) -> None:
    """upstream #45: an administrator's account may be named like one of ours."""
    rules = (replace(FIVE, kind=None), replace(TWO_AT_A_TIME, account=None))
    governor, server = made(*rules, kinds=frozenset({AccountKind.TOOL, AccountKind.USER}))
    whose = {"not in the ledger": DbUser("s1999"), "of a kind that this site does not keep": DbUser("p31")}.get(why, S1)
    given = OTHERS[why]
    view = given.hosts[KEY]
    assert isinstance(view, Fact)
    accounts = {**view.value.accounts, DbUser("s1999"): view.value.accounts[S1]}
    if why == "an administrator's":
        accounts[S1] = replace(accounts[S1], touchable=False)
    answer: Answer[HostView] = Fact(replace(view.value, accounts=accounts), view.source, view.at)
    governor.govern(replace(given, hosts={KEY: NOBODY if why == "on a server that gave no answer yet" else answer}))
    server.open_sessions = [session(number, whose, seconds=100.0) for number in range(1, 15)]
    governor.look(server, governor.look(server))
    assert len(server.open_sessions) == 14 and all(each.running for each in server.open_sessions)
    assert governor.ended() == ()


def test_of_a_server_without_an_answer_the_last_one_holds() -> None:
    governor, server = made(FIVE)
    governor.govern(known())
    governor.govern(replace(known(), hosts={KEY: NOBODY}))
    server.open_sessions = [session(1, seconds=100.0)]
    governor.look(server)
    assert not server.open_sessions[0].running


@pytest.mark.parametrize("why", ["not told anything yet", "another leads", "switched off"])
def test_it_ends_nothing(why: str) -> None:
    governor, server = made(FIVE, governor=GovernorSettings(enabled=why != "switched off"))
    if why != "not told anything yet":
        governor.govern(known())
    if why == "another leads":
        governor.rest()
    server.open_sessions = [session(1, seconds=100.0)]
    assert governor.look(server) == Seen()
    assert server.open_sessions[0].running and governor.ended() == ()


def test_a_server_that_is_away_is_an_error_of_one_look() -> None:
    governor, server = made(FIVE)
    governor.govern(known())
    server.away = True
    with pytest.raises(StepFailed):
        governor.look(server)


def test_what_was_ended_can_be_told_later() -> None:
    ended = (StatementsEnded("s1001", "db1", 2, 9.04, 5), SessionsEnded("s1002", "db1", 1, 2))
    first, second = noted(ended)
    assert (first.account, first.host, first.detail) == ("s1001", "db1", {"statements": 2, "longest": 9.0, "budget": 5})
    assert second.detail == {"sessions": 1, "limit": 2}


@dataclass
class Troubled(FakeReplica):
    """Does not answer at first, then answers with a defect, then works."""

    looks: int = 0

    def sessions(self) -> Answer[tuple[Session, ...]]:
        self.looks += 1
        if self.looks == 2:
            raise RuntimeError("a defect")
        self.away = self.looks == 1
        return super().sessions()


def test_its_threads_work_through_trouble_until_they_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labstore.dbusers.governor.LONGEST_PAUSE", 0.02)
    limits, pace = LimitSettings(role=Limits(), rules=(FIVE,)), GovernorSettings(interval=0.01)
    ended = threading.Event()
    server = Troubled(ReplicaSettings(KEY), FakeClock(), trouble=lambda _word: ended.set())
    server.open_sessions = [session(1, seconds=100.0)]
    governor = Governor([server], replace(SETTINGS, limits=limits, governor=pace), FakeClock())
    governor.govern(known())
    governor.start()
    assert ended.wait(HANGS)
    governor.stop()
    assert server.looks >= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("governor-")]
