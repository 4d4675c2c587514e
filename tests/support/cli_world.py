"""A site file, and the commands of labstore run on fakes of everything that it names."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from labstore.assembly import Hands, SiteFiles, from_site_file
from labstore.cli.main import labstore
from labstore.exports.history import History
from labstore.model.names import ExportPath
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeExportServer, FakeInventory, FakeNode, instance
from tests.support.logs_kept import logs_kept
from tests.support.small_pair import SETTINGS

SITE = """\
site: wikicloud
state_dir: {base}/state
run_dir: {base}/run
clusters:
  primary:
    service_addresses: [172.16.0.10]
    nodes: {{labstore1: {{}}, labstore2: {{}}}}
    volumes:
      misc: {{mount: /srv/misc}}
shares:
  project: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
projects:
  tools: {{gid: 50380, shares: {{project: true}}}}
  maps: {{gid: 50196, shares: {{project: true}}}}
  cvn: {{gid: 50116, shares: {{project: true}}}}
public:
  scratch: {{cluster: primary, volume: misc, path: scratch, clients: [172.16.0.0/21]}}
inventory: {{source: file, file: inventory.yaml}}
"""


@dataclass
class CliWorld:
    """`run` runs a command line as labstore1; the fakes are in the hands of the test."""

    base: Path
    clock: FakeClock
    inventory: FakeInventory
    server: FakeExportServer
    node: FakeNode

    @classmethod
    def of(cls, base: Path) -> CliWorld:
        clock = FakeClock()
        world = cls(base, clock, FakeInventory(clock), FakeExportServer(clock), FakeNode(clock))
        world.site_file.write_text(SITE.format(base=base))
        for name, count, net in (("tools", 4, 1), ("maps", 2, 2), ("cvn", 1, 3)):
            id_ = world.inventory.add_project(name)
            for number in range(count):
                world.inventory.add(instance(f"{name}-{number + 1}", id_, f"172.16.{net}.{number + 11}"))
        clock.advance(60)
        return world

    def as_pair(self) -> Callable[[], SiteFiles]:
        """The site as a pair with failover has it: what is remembered lies on the volume that moves."""
        read = from_site_file(self.site_file)

        def pair() -> SiteFiles:
            files = read()
            (cluster,) = files.site.clusters
            volume = replace(cluster.volumes[0], mount=ExportPath(str(self.base / "srv")))
            settings = replace(SETTINGS, cluster=cluster.name, state=volume.name)
            clusters = (replace(cluster, volumes=(volume,)),)
            return replace(files, site=replace(files.site, clusters=clusters, failover={cluster.name: settings}))

        return pair

    @property
    def site_file(self) -> Path:
        return self.base / "site.yaml"

    @property
    def history(self) -> History:
        return History(self.base / "state/exports/primary/history.sqlite", read_only=True)

    @property
    def hands(self) -> Hands:
        return Hands(self.clock, lambda *_: self.inventory, lambda *_: self.server, lambda _: self.node)

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        """Run `labstore ARGUMENTS`; `answer` is what a person types."""
        environment = {
            "LABSTORE_SITE": str(self.site_file),
            "LABSTORE_NODE": "labstore1",
            "SUDO_USER": "alice",
            "COLUMNS": "80",
        }
        with in_utc(), logs_kept():
            return CliRunner(env=environment).invoke(labstore, list(arguments), input=answer, obj=self.hands)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@contextmanager
def in_utc() -> Iterator[None]:
    """Screens show local time; in tests that is UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()
