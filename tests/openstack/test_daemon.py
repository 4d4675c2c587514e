"""The whole daemon against the real OpenStack and a real NFS-Ganesha: who may mount what, read from the server's mouth.

Every fault of tests/openstack/faults.py is provoked while it runs. In none of them may a client that should have
access lose it for a moment; afterwards it must find its way back by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labstore.demo.child import Child
from labstore.model.names import ExportPath
from tests.openstack.cloud import REGIONS, Lab
from tests.openstack.faults import FAULTS, Fault, provoked
from tests.support.ganesha import GaneshaLab, running_ganesha

PROJECTS = {"tools": 50380, "maps": 50196, "testlabs": 50302, "deleted-soon": 50901, "noinstances": 50902}
PROMPT = 10.0
"""Seconds within which a new server is admitted and a deleted one cut off."""
LISTING = 4.0
WATCHED = 2.5 * LISTING
"""Seconds for which a fault lasts: at least two complete looks fall into it."""
HEALED = 60.0
REPLACED = "project deleted, servers orphaned"
"""Afterwards the lab has another project of that name: a person must say that it is the same."""

Clients = Mapping[str, frozenset[str]]


@dataclass
class Running:
    """The daemon, its server, and what both say."""

    lab: Lab
    ganesha: GaneshaLab
    directory: Path
    daemon: Child | None = field(default=None)

    @property
    def site_file(self) -> Path:
        return self.directory / "site.yaml"

    def write_site(self, deadline: float) -> None:
        site = {
            "site": "lab",
            "state_dir": str(self.directory / "state"),
            "run_dir": str(self.directory / "run"),
            "clusters": {
                "primary": {
                    "backend": "ganesha",
                    "volumes": {"misc": {"mount": str(self.ganesha.root), "mounted": False}},
                    "ganesha": {"bus": f"unix:path={self.ganesha.ganesha.bus}"},
                }
            },
            "shares": {"project": {"cluster": "primary", "volume": "misc", "path": "shared/{project}"}},
            "projects": {name: {"gid": gid, "shares": {"project": True}} for name, gid in PROJECTS.items()},
            "inventory": {
                "source": "openstack",
                "openstack": {
                    "cloud": "novaobserver",
                    "clouds_file": str(self.lab.clouds),
                    "call_deadline": f"{deadline:g}s",
                },
            },
            "exports": {"poll": "1s", "listing": f"{LISTING:g}s"},
            "metrics": {"enabled": False},
        }
        self.site_file.write_text(json.dumps(site, indent=1))

    def start(self) -> None:
        argv = [sys.executable, "-m", "labstore", "exports", "run", "--site", str(self.site_file)]
        self.daemon = Child(argv, self.directory / "daemon.log")

    def labstore(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "labstore", *arguments, "--site", str(self.site_file)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    def record(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.directory / "run" / "exports" / "primary.json").read_text()))
        except (OSError, ValueError):
            return {}

    def path(self, project: str) -> ExportPath:
        return ExportPath(f"{self.ganesha.root}/shared/{project}")

    def admitted(self) -> Clients:
        """Who may mount each project's share, by the server's own word."""
        return {name: self.ganesha.admitted(self.path(name)) for name in PROJECTS}

    def wanted(self) -> Clients:
        expected = self.lab.expected()
        return {
            name: frozenset(a for each in expected.get(name, {}).values() for kind in each.values() for a in kind)
            for name in PROJECTS
        }

    def in_step(self) -> bool:
        return self.record().get("state") == "converged" and self.admitted() == self.wanted()

    def wait(self, so: Callable[[], bool], seconds: float, what: str) -> float:
        started = time.monotonic()
        while not so():
            assert self.daemon is not None
            assert self.daemon.running, self.daemon.last_words(40)
            if time.monotonic() - started > seconds:
                pytest.fail(f"{what}: not after {seconds:g} s; {self.told()}")
            time.sleep(0.2)
        return time.monotonic() - started

    def told(self) -> str:
        record = self.record()
        reports = [f"{each['severity']}: {each['message']}" for each in record.get("reports", ())]
        return f"state {record.get('state')}; {'; '.join(reports)[:600]}; {self.admitted()} wanted {self.wanted()}"


@pytest.fixture(scope="module")
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("d")
    state = directory / "state" / "exports" / "primary"
    with running_ganesha(directory, store=state / "ganesha") as ganesha:
        here = Running(lab, ganesha, directory)
        for name in PROJECTS:
            Path(here.path(name)).mkdir(parents=True)
        here.write_site(5.0)
        here.start()
        try:
            here.wait(here.in_step, HEALED, "the first table")
            yield here
        finally:
            assert here.daemon is not None
            here.daemon.stop()


def test_exports_are_what_neutron_says_for_every_project_in_both_regions(running: Running) -> None:
    assert running.admitted() == running.wanted()
    assert running.record()["facts"]["instances"] == sum(map(len, running.lab.expected().values()))
    print(f"\n{ {name: len(clients) for name, clients in running.admitted().items()} } from {REGIONS}")


def test_a_new_server_is_admitted_and_a_deleted_one_cut_off_within_ten_seconds(running: Running) -> None:
    """Within ten seconds of Nova saying so: what Nova itself takes to build and to delete is printed beside it."""
    before, asked = running.admitted()["maps"], time.monotonic()
    server = running.lab.boot("maps", "brief")
    built = time.monotonic() - asked
    admitted = running.wait(lambda: running.admitted()["maps"] > before, PROMPT, "the new server is admitted")
    running.wait(lambda: running.record().get("state") == "converged", HEALED, "all is known of it")
    asked = time.monotonic()
    running.lab.delete("maps", server)
    deleted = time.monotonic() - asked
    cut = running.wait(lambda: running.admitted()["maps"] == before, PROMPT, "the deleted server is cut off")
    print(
        f"\nadmitted {admitted:.1f} s after Nova called it ACTIVE ({built:.1f} s after create was asked for); "
        f"cut off {cut:.1f} s after Nova called it deleted ({deleted:.1f} s after delete was asked for)"
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_no_fault_takes_anything_away(running: Running, fault: Fault) -> None:
    running.wait(running.in_step, HEALED, "in step before the fault")
    running.write_site(min(fault.deadline, 5.0))
    wanted = running.wanted()
    states: set[str] = set()
    with provoked(fault, running.lab):
        number, end = running.record()["number"], time.monotonic() + WATCHED
        while time.monotonic() < end or running.record()["number"] < number + 3:
            states.add(running.record()["state"])
            assert all(running.admitted()[name] >= clients for name, clients in wanted.items()), running.told()
            assert time.monotonic() < end + 60, f"no cycle ends: {running.told()}"
            time.sleep(0.2)
        said = sorted({each["message"] for each in running.record()["reports"] if each["severity"] != "notice"})
    if fault.name == REPLACED:
        running.wait(lambda: running.record().get("state") == "refused", HEALED, "another project is held at the door")
        done = running.labstore("exports", "apply", "--yes", "--allow-project-identity")
        assert done.returncode in (0, 4), done.stdout + done.stderr
    healed = running.wait(running.in_step, HEALED, "healed")
    assert running.daemon is not None
    assert running.daemon.running
    print(f"\n{fault.name}: {'/'.join(sorted(states))}, healed in {healed:.1f} s; said: {'; '.join(said)[:160]}")


def test_restarted_while_the_cloud_is_dead_it_serves_what_was_last_known_good(running: Running) -> None:
    dead = next(fault for fault in FAULTS if fault.name == "401 for everything")
    wanted = running.wanted()
    with provoked(dead, running.lab):
        assert running.daemon is not None
        running.daemon.kill()
        running.ganesha.ganesha.kill()
        running.ganesha.ganesha.start()
        assert running.admitted() == wanted, "the server alone"
        running.start()
        running.wait(lambda: running.record().get("state") == "holding", HEALED, "the new daemon says that it holds")
        assert running.admitted() == wanted
    running.wait(running.in_step, HEALED, "healed")
