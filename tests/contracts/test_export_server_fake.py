"""The fake keeps the contract that the real servers keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from labstore.model.names import ExportPath
from tests.contracts.export_server import ExportServerContract
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeExportServer


@dataclass
class FakeLab:
    root: Path
    server: FakeExportServer

    def fresh(self) -> FakeExportServer:
        return self.server

    def restart_server(self) -> None:
        self.server.restart()

    def admitted(self, path: ExportPath) -> frozenset[str]:
        export = self.server.live.by_path.get(path)
        return frozenset(export.clients) if export else frozenset()


class TestFakeExportServer(ExportServerContract):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> FakeLab:
        return FakeLab(tmp_path, FakeExportServer(FakeClock()))
