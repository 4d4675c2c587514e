"""The exports daemon as a process, with nfs-utils in a private mount namespace and a supervisor that hears."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labstore.formats.exports5 import read_etab
from tests.support import mount_namespace

EXPORTS_D = Path("/etc/exports.d")
NFS_STATE = Path("/var/lib/nfs")
ETAB = NFS_STATE / "etab"
LABSTORE = Path(sys.executable).with_name("labstore")

SITE = """\
site: wikicloud
state_dir: {base}/state
run_dir: {base}/run
clusters:
  primary:
    service_addresses: {addresses}
    nodes: {{labstore1: {{}}}}
    volumes:
      misc: {{mount: {base}/srv, mounted: false}}
shares:
  project: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
projects:
{projects}
inventory: {{source: file, file: inventory.yaml}}
exports: {{poll: 200ms}}
metrics: {{enabled: false}}
"""


@dataclass
class ExportdLab:
    """`start` starts the daemon; `wait` waits for something to become so."""

    base: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notify = self.base / "notify"
        self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.heard.bind(str(self.notify))
        self.notify.chmod(0o666)
        self.declare("tools", "maps")
        self.show(tools=("172.16.1.1", "172.16.1.2"), maps=("172.16.2.1",))

    # --- the world --------------------------------------------------------------------------------------------------

    def declare(self, *projects: str, addresses: str = "[]") -> None:
        lines = "\n".join(
            f"  {name}: {{gid: {50000 + number}, shares: {{project: true}}}}" for number, name in enumerate(projects)
        )
        text = SITE.format(base=self.base, addresses=addresses, projects=lines)
        _replace(self.base / "site.yaml", text)

    def show(self, **instances: tuple[str, ...]) -> None:
        """What the inventory shows, as a file that has been there for a while."""
        lines = ["projects:"]
        for project, addresses in instances.items():
            lines += [f"  {project}:", "    instances:"]
            lines += [f"      {project}-{address.rpartition('.')[2]}: {address}" for address in addresses]
        _replace(self.base / "inventory.yaml", "\n".join(lines) + "\n")
        before = time.time() - 60
        os.utime(self.base / "inventory.yaml", (before, before))

    def path(self, project: str) -> str:
        return f"{self.base}/srv/shared/{project}"

    def admitted(self, project: str) -> set[str]:
        """Who may mount a project's share by mountd's own table."""
        return set(read_etab(ETAB.read_text()).get(self.path(project), {}))

    def forget_table(self) -> None:
        """A reboot: mountd's table is empty until somebody runs exportfs."""
        ETAB.write_text("")

    # --- the processes ----------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LABSTORE_SITE": str(self.base / "site.yaml"),
            "LABSTORE_NODE": "labstore1",
            "NOTIFY_SOCKET": str(self.notify),
            **{name: os.environ[name] for name in ("COVERAGE_PROCESS_START",) if name in os.environ},
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the daemon and return once it said that it is ready."""
        log = (self.base / f"log-{len(self.processes)}").open("w")
        command = [str(LABSTORE), "exports", "run", *arguments]
        with log:
            process = subprocess.Popen(command, env=self.environment, stderr=log, stdout=log, text=True)
        self.processes.append(process)
        self.hear("READY=1")
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        environment = {name: value for name, value in self.environment.items() if name != "NOTIFY_SOCKET"}
        command = [str(LABSTORE), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def log(self) -> str:
        return (self.base / f"log-{len(self.processes) - 1}").read_text()

    def hear(self, word: str, seconds: float = 30.0) -> str:
        """Wait for a word to the supervisor."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.heard.settimeout(left)
            with contextlib.suppress(TimeoutError):
                text = self.heard.recv(4096).decode()
                if word in text:
                    return text
        raise AssertionError(f"the supervisor never heard {word}: {self.log()}")

    def wait(self, so: Callable[[], bool], seconds: float = 15.0) -> float:
        """Wait until something is so; the seconds that it took."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if so():
                return time.monotonic() - started
            time.sleep(0.02)
        raise AssertionError(f"it never became so: {self.log()}")

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
        self.heard.close()


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


@contextlib.contextmanager
def exportd_lab() -> Iterator[ExportdLab]:
    """A laboratory below /tmp, open to other users: part of it runs without root."""
    mount_namespace.enter()
    base = Path(tempfile.mkdtemp(prefix="labstore-exportd-"))
    base.chmod(0o755)
    for name in ("exports.d", "nfs", "srv/shared/tools", "srv/shared/maps", "srv/shared/extra"):
        (base / name).mkdir(parents=True)
    for name in ("nfs/etab", "nfs/rmtab", "exports"):
        (base / name).touch()
    with (
        mount_namespace.bound(base / "exports.d", EXPORTS_D),
        mount_namespace.bound(base / "nfs", NFS_STATE),
        mount_namespace.bound(base / "exports", Path("/etc/exports")),
    ):
        lab = ExportdLab(base)
        try:
            yield lab
        finally:
            lab.end()
    shutil.rmtree(base)
