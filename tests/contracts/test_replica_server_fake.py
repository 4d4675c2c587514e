"""The fake keeps the contract that the real servers keep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from labstore.model.accounts import DbUser
from labstore.model.database import DbGrant, GrantType, HostKey
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.ports.replica_server import Session
from tests.contracts.replica_server import ReplicaServerContract
from tests.support.dbusers_fakes import FakeReplica
from tests.support.fake_clock import FakeClock


@dataclass
class FakeLab:
    settings: ReplicaSettings
    server: FakeReplica

    def fresh(self) -> FakeReplica:
        self.server._shown = None
        return self.server

    def works(self, user: str, password: str) -> bool:
        return self.server.works(user, password)

    def connect(self, user: str, password: str) -> object:
        assert self.works(user, password)
        session = Session(len(self.server.open_sessions) + 1, 0, DbUser(user), 0, False)
        self.server.open_sessions.append(session)
        return session

    def drop_behind_our_back(self, user: str) -> None:
        del self.server.accounts[DbUser(user)]

    def give_more(self, user: str) -> None:
        found = self.server.accounts[DbUser(user)]
        more = DbGrant("other", frozenset({"Select"}))
        self.server.accounts[DbUser(user)] = replace(found, grants=found.grants | {more}, surplus=("table a.b",))

    def make_administrator(self, user: str) -> None:
        found = self.server.accounts[DbUser(user)]
        self.server.accounts[DbUser(user)] = replace(found, touchable=False)

    def read_only(self, on: bool) -> None:
        self.server.refuses_changes = on

    def stop(self) -> None:
        self.server.away = True


class TestFakeReplica(ReplicaServerContract):
    @pytest.fixture(params=list(GrantType))
    def lab(self, request: pytest.FixtureRequest) -> FakeLab:
        settings = ReplicaSettings(HostKey("db1.example"), request.param)
        return FakeLab(settings, FakeReplica(settings, FakeClock()))
