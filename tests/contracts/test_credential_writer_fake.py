"""The fake keeps the contract that the real writer keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from labstore.ports.credential_writer import FileOwner, FileState
from tests.contracts.credential_writer import CredentialWriterContract
from tests.support.dbusers_fakes import FakeFiles
from tests.support.fake_clock import FakeClock


@dataclass
class FakeLab:
    writer: FakeFiles

    def make_home(self, owner: FileOwner) -> None:
        self.writer.homes.add(owner.user)

    def unprotect(self, owner: FileOwner) -> None:
        self.writer.files[owner.user] = replace(self.writer.files[owner.user], state=FileState.BARE)

    def read(self, owner: FileOwner) -> str:
        return self.writer.passwords[owner.user].reveal()

    def lose(self) -> None:
        self.writer.away = True


class TestFakeFiles(CredentialWriterContract):
    @pytest.fixture
    def lab(self) -> FakeLab:
        return FakeLab(FakeFiles(FakeClock()))
