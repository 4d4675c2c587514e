"""The file source keeps the contract of inventories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labstore.sources.static import SETTLED, FileInventory
from tests.contracts.inventory import InventoryContract, InventoryTwin
from tests.support.fake_clock import FakeClock


class FileTwin:
    """An inventory file, replaced by renaming as programs should."""

    def __init__(self, directory: Path) -> None:
        self._path, self._clock = directory / "inventory.yaml", FakeClock()
        self._projects: dict[str, dict[str, Any]] = {}
        self._broken = False
        self.inventory = FileInventory(self._path, self._clock)
        self._write()

    def enrol(self, project: str) -> str:
        self._projects.setdefault(project, {"instances": {}})
        self._write()
        return project

    def boot(self, project: str, name: str, *addresses: str, floating: str | None = None) -> None:
        entry = {"addresses": list(addresses), "floating": [floating] if floating else []}
        self._projects.setdefault(project, {"instances": {}})["instances"][name] = entry
        self._write()

    def delete(self, name: str) -> None:
        for project in self._projects.values():
            project["instances"].pop(name, None)
        self._write()

    def settle(self) -> None:
        self.inventory.listing()
        self._clock.advance(SETTLED)

    def break_down(self) -> None:
        self._broken = True
        self._write()

    def heal(self) -> None:
        self._broken = False
        self._write()

    def _write(self) -> None:
        text = json.dumps({"projects": self._projects})
        new = self._path.with_suffix(".new")
        new.write_text(text[:-20] if self._broken else text)
        new.rename(self._path)


class TestFileInventory(InventoryContract):
    @pytest.fixture
    def twin(self, tmp_path: Path) -> InventoryTwin:
        return FileTwin(tmp_path)
