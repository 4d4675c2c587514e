"""Everything the demonstration starts, in one directory, ended and removed with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from labstore.demo.child import Child
from labstore.demo.client import Instance
from labstore.demo.database import PrivateMaria
from labstore.demo.relay import Relays
from labstore.demo.server import PrivateGanesha, free_port
from labstore.demo.small_cloud import SmallCloud
from labstore.formats.mountinfo import parse
from labstore.ports.host import Command
from labstore.system.run import LocalHost

PREFIX = "labstore-demo-"
CANDIDATES = ("/var/tmp", "/tmp", "/root", "/srv")  # noqa: S108 - a directory of our own is made in it
SERVABLE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
"""File systems whose files NFS-Ganesha can open by handle; tmpfs (often /tmp) and overlay are none of them (tried)."""


class NoGround(Exception):
    """There is no directory on which the demonstration's server could serve."""


def ground() -> Path:
    """Where the demonstration's directory is made: LABSTORE_DEMO_DIR, or the first fit candidate. Raises NoGround."""
    mounts = parse(Path("/proc/self/mountinfo").read_text())
    chosen = os.environ.get("LABSTORE_DEMO_DIR")
    for candidate in (chosen,) if chosen else CANDIDATES:
        path = Path(candidate).resolve()
        below = [mount for mount in mounts if path.is_relative_to(mount.point)]
        under = max(below, key=lambda mount: len(mount.point), default=None)
        if path.is_dir() and under is not None and under.filesystem in SERVABLE:
            return path
    raise NoGround(
        f"none of {', '.join(CANDIDATES)} lies on a file system that NFS-Ganesha can serve "
        f"({', '.join(sorted(SERVABLE))}); name a directory that does with LABSTORE_DEMO_DIR"
    )


class Stage:
    """The private NFS server and database, the daemons, the status page and the instances. A context manager: at its
    end no process, file, mount or address is left."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._daemon: Child | None = None

    def __enter__(self) -> Stage:
        try:
            self._set()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it behind
        self._ends.close()

    def _set(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ground()))
        self._ends.callback(_remove, self.directory)
        self.cloud = SmallCloud(self.directory)
        exports = self.cloud.state / "exports" / "demo" / "ganesha" / "current" / "exports.conf"
        self.server = PrivateGanesha(self.directory / "nfs", exports)
        self._ends.callback(self.server.close)
        self.server.start_bus()
        self.database = PrivateMaria(self.directory / "db")
        self._ends.callback(self.database.close)
        self.cloud.write_site(self.server.bus, self.database.port)
        self.cloud.make_shares()
        self.cloud.write()
        self.relays = self._ends.enter_context(Relays(self.server.port))
        self._ends.callback(self.stop_daemon)

    # --- the server, the daemon, the page ---------------------------------------------------------------------------

    def start_daemon(self) -> float:
        """Seconds until the daemon's first record."""
        record = self.cloud.directory / "run" / "exports" / "demo.json"
        record.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "labstore", "exports", "run", "--site", str(self.cloud.site_file)]
        self._daemon = Child(argv, self.directory / "daemon.log")
        return self._daemon.wait_until(record.exists, 30.0)

    def kill_daemon(self) -> None:
        assert self._daemon is not None
        self._daemon.kill()

    def stop_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()

    def start_accounts(self) -> None:
        """The daemon of database accounts; returns when it has looked for the first time."""
        record = self.cloud.directory / "run" / "dbusers" / "demo.json"
        argv = [sys.executable, "-m", "labstore", "dbusers", "run", "--site", str(self.cloud.site_file)]
        daemon = Child(argv, self.directory / "accounts.log")
        self._ends.callback(daemon.stop)
        daemon.wait_until(record.exists, 30.0)

    def start_page(self) -> str:
        """The address of the status page."""
        address = f"127.0.0.1:{free_port()}"
        argv = [sys.executable, "-m", "labstore", "web", "run", "--site", str(self.cloud.site_file)]
        page = Child([*argv, "--listen", address], self.directory / "page.log")
        self._ends.callback(page.stop)
        page.wait_until(lambda: self.fetched(f"http://{address}/") is not None, 30.0)
        return f"http://{address}/"

    def fetched(self, url: str) -> bytes | None:
        """What the page answers, None where it does not."""
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own page on loopback
                return bytes(answer.read())
        except OSError:
            return None

    def labstore(self, *arguments: str, expect: frozenset[int] | None = frozenset({0})) -> str:
        """What the command prints, as an operator would see it."""
        argv = (sys.executable, "-m", "labstore", *arguments, "--site", str(self.cloud.site_file))
        return LocalHost().run(Command(argv, deadline=60.0), expect).stdout

    def record(self) -> dict[str, Any]:
        """The record of the daemon's last cycle."""
        path = self.cloud.directory / "run" / "exports" / "demo.json"
        try:
            return dict(json.loads(path.read_text()))
        except (OSError, ValueError):
            return {}

    # --- the instances ----------------------------------------------------------------------------------------------

    def instance(self, name: str) -> Instance:
        return Instance(self.relays, self.cloud.instances[name][1], deadline=5.0)

    def at(self, address: str) -> Instance:
        """A machine at an address that is nobody's instance."""
        return Instance(self.relays, address, deadline=5.0)


def _remove(directory: Path) -> None:
    """All of it, also where a program that was killed in the middle of a step still makes its last file."""
    for _ in range(100):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


def until(true: Callable[[], bool], deadline: float, what: str) -> float:
    """Seconds until `true`. Raises TimeoutError, naming what was waited for."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > deadline:
            raise TimeoutError(f"{what}: not within {deadline:g} s")
        time.sleep(0.05)
    return time.monotonic() - started
