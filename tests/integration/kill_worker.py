"""The export daemon's cycle as a process to be killed: follows a world kept in a JSON file, as fast as it can.

    kill_worker.py WORLD STORE HISTORY

WORLD is {"version": n, "projects": {name: [address, ...]}}, replaced atomically by the test.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from labstore.exports.backends.knfsd import Knfsd
from labstore.exports.cycle import ExportCycle
from labstore.exports.history import History
from labstore.exports.observe import Observer
from labstore.model.cloud import Instance, Presence, Project
from labstore.model.names import ExportPath, VolumeName
from labstore.model.site import Volume
from labstore.ports.inventory import RegionView, Snapshot
from labstore.reconcile.facts import Answer, Fact
from labstore.reports.report import Override
from labstore.system.clock import SystemClock
from labstore.system.exportfs import RootExportfs
from labstore.system.run import LocalHost
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeNode, instance
from tests.support.small_site import CLUSTER, project, site

EVERYTHING = frozenset(Override)


class FileWorld:
    """The inventory of the JSON file. An address is an instance; one that is not in the file is gone."""

    def __init__(self, path: Path, clock: SystemClock) -> None:
        self._path, self._clock = path, clock
        self.listings = 0

    def listing(self) -> Snapshot:
        self.listings += 1
        world, now = json.loads(self._path.read_text()), self._clock.now()
        names: Mapping[str, list[str]] = world["projects"]
        projects = {f"p-{name}": Project(f"p-{name}", name) for name in names}
        seen: dict[str, Answer[tuple[Instance, ...]]] = {
            f"p-{name}": Fact(tuple(instance(a.replace(".", "-"), f"p-{name}", a) for a in found), "file", now)
            for name, found in names.items()
        }
        view = RegionView("r", seen, Fact((), "file", now), {}, self.listings)
        return Snapshot(now, "file", Fact(projects, "file", now), {"r": view}, Fact(("r",), "file", now))

    def changes(self, last: Snapshot) -> Snapshot:
        return self.listing()

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        return {each.id: Presence.GONE for each in instances}


def main() -> None:
    world, store, history = (Path(argument) for argument in sys.argv[1:4])
    clock = SystemClock()
    names = [f"project-{n}" for n in range(12)]
    declared = site([project(name, 50000 + n) for n, name in enumerate(names)])
    volume = Volume(VolumeName("misc"), ExportPath("/srv/misc"), mounted=False)
    observer = Observer(
        cluster=declared.cluster(CLUSTER),
        inventory=FileWorld(world, clock),
        server=Knfsd(store, RootExportfs(LocalHost()), clock),
        node=FakeNode(FakeClock()),
        history=History(history),
        clock=clock,
    )
    cycle = ExportCycle(lambda: declared, observer, f"worker on {volume.name}")
    cycle.serve_first()
    while True:
        seen = json.loads(world.read_text())["version"]
        record = cycle.run(overrides=EVERYTHING)
        sys.stdout.write(f"{seen} {record.state.value}\n")
        sys.stdout.flush()


main()
