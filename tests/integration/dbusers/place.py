"""A site as an operator has it: files in a directory, and the programs that are started with them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstore.model.accounts import AccountKind
from tests.support.dbusers import Homes
from tests.support.exportd_lab import LABSTORE
from tests.support.hang import HANGS
from tests.support.mariadb import PASSWORD, MariaServer


@dataclass
class Place:
    """A site of two servers in a directory, and its homes."""

    root: Path
    servers: list[MariaServer]
    homes: Homes
    more: str = ""
    files: str = ""

    def __post_init__(self) -> None:
        self.secret = self.root / "password"
        self.secret.write_text(PASSWORD + "\n")
        self.secret.chmod(0o400)
        self.people: dict[str, int] = {}
        self.write()

    @property
    def site(self) -> Path:
        return self.root / "site.yaml"

    def write(self) -> None:
        hosts: dict[str, Any] = {f"127.0.0.1:{server.port}": {} for server in self.servers}
        words = {
            "site": "place",
            "state_dir": str(self.root / "state"),
            "run_dir": str(self.root / "run"),
            "clusters": {"c": {"volumes": {"v": {"mount": str(self.root), "mounted": False}}}},
            "inventory": {"source": "file", "file": "inventory.yaml"},
            "dbusers": {
                "directory": {"source": "file", "file": "people.yaml"},
                "login": {"password_file": str(self.secret), "tls": "off"},
                "hosts": hosts,
                "files": {"tool": str(self.homes.root / "tool")},
                "kinds": ["tool"],
                "metrics": {"enabled": False},
            },
        }
        self.site.write_text(json.dumps(words))
        self.write_people()

    def write_people(self) -> None:
        new = self.root / "people.new"
        new.write_text(json.dumps({"tools": self.people, "users": {}}))
        new.rename(self.root / "people.yaml")

    def add(self, name: str, uid: int) -> Path:
        self.homes.make(AccountKind.TOOL, name, uid)
        self.people[name] = uid
        self.write_people()
        return self.homes.file(AccountKind.TOOL, name)

    def run(self, *words: str, expect: int = 0) -> str:
        command = [str(LABSTORE), "dbusers", *words, "--site", str(self.site)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    def set_up(self) -> None:
        for server in self.servers:
            server.set_up()

    @contextmanager
    def daemon(self, verb: str = "run") -> Iterator[subprocess.Popen[bytes]]:
        log = (self.root / "daemon.log").open("ab")
        command = [str(LABSTORE), "dbusers", verb, "--site", str(self.site)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
        try:
            yield process
        finally:
            process.kill()
            process.wait(HANGS)
            log.close()

    def until(self, true: Callable[[], Any], what: str) -> None:
        ends = time.monotonic() + HANGS
        while not true():
            assert time.monotonic() < ends, f"{what}: {(self.root / 'daemon.log').read_text()[-3000:]}"
            time.sleep(0.05)
