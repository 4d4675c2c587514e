"""What every replica server does, fake or real. A subclass gives `lab`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import pytest

from labstore.formats.account_statements import legacy_grants
from labstore.model.accounts import DbUser, Limits, NativeHash
from labstore.model.database import FoundAccount, GrantType, Verifier, WantedAccount
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.secret import Secret
from labstore.ports.replica_server import HostChange, HostVerb, HostView, ReplicaServer
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import HostReadOnly

OLD, NEW = Secret("oldpassword12345"), Secret("newpassword12345")
S1, S2, S3 = DbUser("s50001"), DbUser("s50002"), DbUser("u2001")
EVERY = [DbUser(f"s{number}") for number in range(60000, 60030)]


class ReplicaLab(Protocol):
    """One server in the hands of a test."""

    settings: ReplicaSettings

    def fresh(self) -> ReplicaServer:
        """The server through a new object, as a restarted labstore has it."""

    def works(self, user: str, password: str) -> bool:
        """Whether a client can log in."""

    def connect(self, user: str, password: str) -> object:
        """A client's session that stays open."""

    def drop_behind_our_back(self, user: str) -> None:
        """An administrator drops the account."""

    def give_more(self, user: str) -> None:
        """An administrator gives the account rights that are not ours, but no global one."""

    def make_administrator(self, user: str) -> None:
        """An administrator gives the account a global privilege."""

    def read_only(self, on: bool) -> None:
        """The server stops (or begins again) taking changes, also from us."""

    def stop(self) -> None:
        """The server is gone."""


def wanted(user: DbUser, *passwords: Secret, limits: Limits = Limits(10), locked: bool = False) -> WantedAccount:  # noqa: B008
    return WantedAccount(user, tuple(NativeHash.of(password) for password in passwords or (OLD,)), limits, locked)


def made(server: ReplicaServer, *accounts: WantedAccount) -> None:
    changes = [HostChange(verb, each.user, each) for verb in (HostVerb.CREATE, HostVerb.GRANT) for each in accounts]
    assert server.carry_out(changes) == {}


def seen(server: ReplicaServer) -> HostView:
    answer = server.observe()
    assert isinstance(answer, Fact), answer
    return answer.value


def looked(server: ReplicaServer, *users: DbUser) -> Mapping[DbUser, FoundAccount]:
    answer = server.look(users)
    assert isinstance(answer, Fact), answer
    return answer.value


def as_found(account: WantedAccount, settings: ReplicaSettings) -> FoundAccount:
    role = settings.grant_type is GrantType.ROLE
    return FoundAccount(
        account.ways_in,
        account.limits,
        account.locked,
        str(settings.role) if role else "",
        frozenset({str(settings.role)}) if role else frozenset(),
        frozenset() if role else legacy_grants(account.user),
    )


class ReplicaServerContract:
    """Inherit, and give the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> ReplicaLab:
        raise NotImplementedError

    def test_a_new_server_has_no_accounts(self, lab: ReplicaLab) -> None:
        assert seen(lab.fresh()) == HostView({}, {})

    def test_an_account_is_made_as_wanted_and_logs_in(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        one, two = wanted(S1, limits=Limits(5, 60, 1000)), wanted(S3)
        made(server, one, two)
        expected = {S1: as_found(one, lab.settings), S3: as_found(two, lab.settings)}
        assert looked(server, S1, S2, S3) == expected
        assert seen(lab.fresh()).accounts == expected
        assert lab.works(S1, OLD.reveal()) and not lab.works(S1, NEW.reveal())

    def test_two_passwords_are_good_at_once_and_then_one(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1))
        both = wanted(S1, OLD, NEW)
        assert server.carry_out([HostChange(HostVerb.ALTER, S1, both)]) == {}
        assert looked(server, S1)[S1].verifiers == both.ways_in
        assert lab.works(S1, OLD.reveal()) and lab.works(S1, NEW.reveal())
        assert server.carry_out([HostChange(HostVerb.ALTER, S1, wanted(S1, NEW))]) == {}
        assert lab.works(S1, NEW.reveal()) and not lab.works(S1, OLD.reveal())
        assert looked(server, S1)[S1] == as_found(wanted(S1, NEW), lab.settings), "rights and limits stay"

    def test_limits_change_and_the_password_stays(self, lab: ReplicaLab) -> None:
        """upstream #55"""
        server = lab.fresh()
        made(server, wanted(S1))
        new = wanted(S1, limits=Limits(48, 3600, 0))
        assert server.carry_out([HostChange(HostVerb.ALTER, S1, new)]) == {}
        assert looked(server, S1)[S1] == as_found(new, lab.settings)

    def test_a_lock_shuts_out_and_ends_sessions(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1), wanted(S2))
        clients = [lab.connect(S1, OLD.reveal()), lab.connect(S1, OLD.reveal()), lab.connect(S2, OLD.reveal())]
        assert seen(server).sessions == {S1: 2, S2: 1}
        assert server.carry_out([HostChange(HostVerb.END_SESSIONS, S1), HostChange(HostVerb.LOCK, S1)]) == {}
        view = seen(server)
        assert view.accounts[S1].locked and view.sessions == {S2: 1}
        assert not lab.works(S1, OLD.reveal()) and lab.works(S2, OLD.reveal())
        assert server.carry_out([HostChange(HostVerb.ALTER, S1, wanted(S1))]) == {}
        assert lab.works(S1, OLD.reveal()), "the same password after it was unlocked"
        del clients

    def test_rights_from_somebody_else_are_taken_away_and_ours_stay(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1), wanted(S2))
        lab.give_more(S1)
        found = seen(server).accounts
        assert found[S1] != as_found(wanted(S1), lab.settings) and found[S1].touchable
        assert server.carry_out([HostChange(HostVerb.REVOKE, S1, wanted(S1))]) == {}
        expected = {user: as_found(wanted(user), lab.settings) for user in (S1, S2)}
        assert looked(server, S1, S2) == seen(server).accounts == expected
        assert lab.works(S1, OLD.reveal())

    def test_a_drop_leaves_nothing_and_is_harmless_twice(self, lab: ReplicaLab) -> None:
        """upstream #47: already gone is success."""
        server = lab.fresh()
        made(server, wanted(S1), wanted(S2))
        assert server.carry_out([HostChange(HostVerb.DROP, S1)]) == {}
        assert set(seen(server).accounts) == {S2}
        again = [HostChange(verb, S1) for verb in (HostVerb.LOCK, HostVerb.END_SESSIONS, HostVerb.DROP)]
        assert server.carry_out([*again, HostChange(HostVerb.DROP, S2)]) == {}
        assert seen(server).accounts == {}

    def test_one_account_that_exists_costs_the_list_nothing(self, lab: ReplicaLab) -> None:
        """upstream #45: CREATE failed for ever on accounts that were there already; now they get their password."""
        server = lab.fresh()
        made(server, wanted(EVERY[7], NEW, limits=Limits(3)))
        assert server.carry_out([HostChange(HostVerb.CREATE, user, wanted(user)) for user in EVERY]) == {}
        found = looked(server, *EVERY)
        assert set(found) == set(EVERY)
        assert {found[user].verifiers for user in EVERY} == {wanted(EVERY[0]).ways_in}

    def test_a_change_of_an_account_that_is_gone_makes_it(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1), wanted(S2))
        lab.drop_behind_our_back(S1)
        changes = [HostChange(HostVerb.ALTER, user, wanted(user, NEW)) for user in (S1, S2)]
        assert server.carry_out(changes) == {}
        assert {user: account.verifiers for user, account in looked(server, S1, S2).items()} == {
            S1: wanted(S1, NEW).ways_in,
            S2: wanted(S2, NEW).ways_in,
        }

    def test_looking_again_reads_nothing_as_long_as_nothing_changed(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, *(wanted(user) for user in EVERY))
        assert seen(server).looked == len(EVERY)
        assert seen(server).looked == 0

    def test_what_somebody_else_did_is_seen_at_the_next_look(self, lab: ReplicaLab) -> None:
        """upstream #52"""
        server = lab.fresh()
        made(server, *(wanted(user) for user in EVERY))
        seen(server)
        lab.drop_behind_our_back(EVERY[3])
        view = seen(server)
        assert EVERY[3] not in view.accounts and len(view.accounts) == len(EVERY) - 1
        assert view.looked < len(EVERY)
        lab.make_administrator(EVERY[4])
        assert not seen(server).accounts[EVERY[4]].touchable

    def test_lists_of_any_length(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        users = [DbUser(f"s{number}") for number in range(70000, 70450)]
        made(server, *(wanted(user, limits=Limits(1 + user.number % 3)) for user in users))
        found = seen(server).accounts
        assert {user: found[user].limits.max_connections for user in users} == {u: 1 + u.number % 3 for u in users}
        assert server.carry_out([HostChange(HostVerb.DROP, user) for user in users]) == {}
        assert seen(server).accounts == {}

    def test_a_server_that_takes_no_changes_says_so(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1))
        lab.read_only(True)
        try:
            with pytest.raises(StepFailed) as failed:
                server.carry_out([HostChange(HostVerb.CREATE, S2, wanted(S2))])
            assert isinstance(failed.value.report, HostReadOnly)
            assert set(seen(server).accounts) == {S1}, "it still answers"
        finally:
            lab.read_only(False)
        made(server, wanted(S2))

    def test_a_server_that_is_gone_is_missing(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1))
        lab.stop()
        assert isinstance(server.observe(), Missing)
        assert isinstance(server.look([S1]), Missing)
        assert isinstance(server.sessions(), Missing)
        with pytest.raises(StepFailed):
            server.carry_out([HostChange(HostVerb.LOCK, S1)])

    def test_the_verifiers_of_other_plugins_are_seen(self, lab: ReplicaLab) -> None:
        server = lab.fresh()
        made(server, wanted(S1))
        assert looked(server, S1)[S1].verifiers == {Verifier("mysql_native_password", str(NativeHash.of(OLD)))}
        assert replace(looked(server, S1)[S1], verifiers=frozenset()) != looked(server, S1)[S1]
