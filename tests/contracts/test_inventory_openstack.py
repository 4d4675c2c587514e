"""The OpenStack source keeps the contract of inventories, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.sources.openstack import OpenStackInventory
from labstore.sources.openstack.manners import Manners
from labstore.system.clock import SystemClock
from tests.contracts.inventory import InventoryContract, InventoryTwin
from tests.support.fake_cloud import FakeCloud, World, serving


class CloudTwin:
    def __init__(self, cloud: FakeCloud, directory: Path) -> None:
        self._cloud, self._world = cloud, cloud.world
        self.inventory = OpenStackInventory(
            cloud.settings(directory), SystemClock(), Manners(pause=lambda _seconds: None)
        )

    def enrol(self, project: str) -> str:
        return self._world.enrol(project).id

    def boot(self, project: str, name: str, *addresses: str, floating: str | None = None) -> None:
        self._world.boot(project, name, *addresses, floating=[floating] if floating else [])

    def delete(self, name: str) -> None:
        self._world.delete(next(server for server in self._world.by_id.values() if server.name == name))

    def settle(self) -> None:
        pass

    def break_down(self) -> None:
        self._cloud.rules = [{"status": 503}]

    def heal(self) -> None:
        self._cloud.rules = []


class TestOpenStackInventory(InventoryContract):
    @pytest.fixture
    def twin(self, tmp_path: Path) -> Iterator[InventoryTwin]:
        with serving(World()) as cloud:
            yield CloudTwin(cloud, tmp_path)
