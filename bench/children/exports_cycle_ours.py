"""labstore's cycle against the fake cloud, with the real exportfs: `... SIZE`."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import mount_namespace
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeNode
from tests.support.small_site import CLUSTER, project, site

from bench.children.cloud import PASSWORD, USER, cloud
from labstore.exports.backends.knfsd import Knfsd, KnfsdPaths
from labstore.exports.cycle import ExportCycle
from labstore.exports.history import History
from labstore.exports.observe import Observer
from labstore.model.site import OpenStackSettings
from labstore.reconcile.record import State
from labstore.sources.openstack import OpenStackInventory
from labstore.system.clock import SystemClock
from labstore.system.exportfs import RootExportfs
from labstore.system.run import LocalHost


class Counted:
    """exportfs, counted and timed."""

    def __init__(self) -> None:
        self.calls, self.seconds = 0, 0.0
        self._real = RootExportfs(LocalHost())

    def reload(self) -> str:
        started = time.perf_counter()
        try:
            return self._real.reload()
        finally:
            self.calls += 1
            self.seconds += time.perf_counter() - started


def ours(size: int) -> dict[str, float]:
    mount_namespace.enter()
    with tempfile.TemporaryDirectory() as name, cloud(size) as (url, tell):
        directory = Path(name)
        for part in ("nfs", "exports.d", "state"):
            (directory / part).mkdir()
        for part in ("etab", "rmtab"):
            (directory / "nfs" / part).touch()
        mount_namespace.bind(directory / "nfs", Path("/var/lib/nfs"))
        mount_namespace.bind(directory / "exports.d", Path("/etc/exports.d"))
        auth = {
            "auth_url": f"{url}/identity/v3",
            "username": USER,
            "password": PASSWORD,
            "user_domain_id": "default",
            "project_name": "home",
            "project_domain_id": "default",
        }
        clouds = directory / "clouds.yaml"
        clouds.write_text(json.dumps({"clouds": {"fake": {"auth_type": "v3password", "auth": auth}}}))
        declared = site([project(f"project-{n:05}", 10000 + n) for n in range(size)])
        declared = replace(declared, exports=replace(declared.exports, listing=3600.0))
        clock, exportfs = SystemClock(), Counted()
        observer = Observer(
            cluster=declared.cluster(CLUSTER),
            inventory=OpenStackInventory(OpenStackSettings(cloud="fake", clouds_file=clouds), clock),
            server=Knfsd(directory / "state" / "knfsd", exportfs, clock, KnfsdPaths()),
            node=FakeNode(FakeClock()),
            history=History(directory / "state" / "history.sqlite"),
            clock=clock,
        )
        cycle = ExportCycle(lambda: declared, observer, "bench")

        def run(expected: State = State.CONVERGED, full: bool = False) -> tuple[float, dict[str, Any]]:
            before, started = exportfs.seconds, time.perf_counter()
            record = cycle.run(full=full)
            seconds = time.perf_counter() - started - (exportfs.seconds - before)
            assert record.state is expected, [report.text() for report in record.reports[:5]]
            return seconds, dict(record.facts)

        first, facts_first = run()
        exportfs_first, calls_first = exportfs.seconds, exportfs.calls
        run()
        tell({"asked": True})
        state = _state(directory)
        same, facts_same = run()
        calls_same, writes_same = exportfs.calls - calls_first, int(_state(directory) != state)
        listed, _ = run(full=True)
        tell({"boot": ["project-00001", "newcomer", "10.250.0.1"]})
        one, _ = run()
        return {
            "first": first,
            "same": same,
            "listed": listed,
            "one": one,
            "requests": facts_first["requests"],
            "bytes": facts_first["bytes"],
            "requests_same": facts_same["requests"],
            "bytes_same": facts_same["bytes"],
            "exportfs": exportfs_first,
            "names": _names(directory, size),
            "calls": exportfs.calls,
            "calls_same": calls_same,
            "writes_same": writes_same,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _names(directory: Path, size: int) -> float:
    """What the file system itself takes for a first cycle: as many files and links, and nothing else."""
    bare = directory / "bare"
    bare.mkdir()
    started = time.perf_counter()
    for number in range(size):
        with (bare / f"{number}.exports").open("xb") as file:
            file.write(b"x" * 400)
        (bare / f"{number}.link").symlink_to(bare / f"{number}.exports")
    os.sync()
    return time.perf_counter() - started


def _state(directory: Path) -> list[tuple[str, int, int]]:
    """Every file with its time and inode: what is written to changes it."""
    found = [path for part in ("exports.d", "state", "nfs") for path in (directory / part).rglob("*")]
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_ino) for path in found)


if __name__ == "__main__":
    print(json.dumps(ours(int(sys.argv[1]))))
