"""The load of client_load.py, from the test's side."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import client_load
from tests.lab.machine import Machine
from tests.lab.waiting import wait_until

PROGRAM = "/var/tmp/client_load.py"


@dataclass
class Load:
    """One running load on one client machine. `namespace`: the network namespace to run it in (another client)."""

    client: Machine
    mount: str
    name: str = "load"
    writers: int = 3
    holders: int = 2
    readers: int = 1
    pause: float = 0.3
    rival: bool = False
    namespace: str = ""

    @property
    def state(self) -> str:
        return f"/var/tmp/{self.name}"

    def start(self) -> Load:
        """Start it and wait until everybody has done something."""
        self.client.put(PROGRAM, Path(client_load.__file__))
        verb = "rival" if self.rival else f"run --writers {self.writers} --readers {self.readers}"
        line = f"exec python3 {PROGRAM} {verb} --holders {self.holders} --pause {self.pause} --state {self.state}"
        within = f"ip netns exec {self.namespace} " if self.namespace else ""
        self.client.run(f"rm -rf {self.state}; mkdir -p {self.state}")
        command = f"{within}bash -c {shlex.quote(f'{line} --mount {self.mount}')}"
        self.client.start_unit(self.name, command, TimeoutStopSec="25", KillMode="mixed")
        wait_until(self._everybody_works, 60, f"{self.name} works on {self.mount}")
        return self

    def _everybody_works(self) -> bool:
        workers = self.report()["workers"]
        return bool(workers) and all(worker["done"] for worker in workers.values())

    def report(self) -> dict[str, Any]:
        files = " ".join(f"{self.state}/{name}" for name in ("status", "events"))
        status, _, events = self.client.run(
            f"for f in {files}; do cat $f 2>/dev/null; echo; done", 60
        ).stdout.partition("\n")
        return client_load.report(status, events)

    def moves(self, deadline: float, what: str = "") -> None:
        """Wait until every worker has completed something that it began after now."""
        before = self.report()["workers"]

        def moved() -> bool:
            now = self.report()["workers"]
            return all(now[name]["done"] > before[name]["done"] + 1 for name in before)

        wait_until(moved, deadline, f"every worker of {self.name} goes on {what}", every=0.5)

    def stop(self) -> dict[str, Any]:
        """End it and give the whole report."""
        self.client.run(f"systemctl stop {self.name}", 60, check=False)
        return self.report()

    def check(self, server: Machine, directory: str) -> dict[str, int]:
        """Compare what was acknowledged with the server's own view of the share."""
        again = {(event["who"], event["number"]) for event in self.report()["again"]}
        totals: dict[str, int] = {}
        for writer in range(self.writers):
            promised = self.client.run(f"cat {self.state}/acknowledged-{writer}", 60).stdout.encode()
            path = f"{directory}/{client_load.DIRECTORY}/writer-{writer}"
            found = server.run(f"cat {shlex.quote(path)}", 60).stdout.encode("utf-8", "replace")
            failed = frozenset(number for who, number in again if who == f"writer-{writer}")
            for key, value in client_load.compare(writer, promised, found, failed).items():
                totals[key] = totals.get(key, 0) + value
        return totals
