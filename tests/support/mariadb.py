"""Real MariaDB servers on loopback, each with its own data, started and ended by the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest

from labstore.demo.child import freeze
from labstore.formats.account_procedures import Setup
from labstore.model.database import GrantType, HostKey, RoleName
from labstore.model.dbusers_settings import LedgerSettings, ReplicaSettings, Tls
from labstore.model.secret import Secret

ROOT = Path(__file__).parents[2]
SERVER = "/usr/sbin/mariadbd"
LOGIN, PASSWORD = "labstore", "a-test-login"
PROCEDURES = "labstore_accounts"
_OPTIONS = """
[mariadbd]
innodb_buffer_pool_size=8M
innodb_log_file_size=8M
innodb_flush_log_at_trx_commit=2
innodb_doublewrite=0
aria_pagecache_buffer_size=8M
key_buffer_size=1M
performance_schema=OFF
skip_name_resolve
max_connections=300
bind_address=127.0.0.1
server_id=1
"""


def need_mariadb() -> None:
    if not Path(SERVER).exists() or shutil.which("mariadb-install-db") is None:
        pytest.skip("MariaDB is not installed (mariadb-server)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory() -> str | None:
    """Where files need no disk, if there is room: servers sync often, and what they would survive is not tested."""
    there = Path("/dev/shm")
    return str(there) if there.is_dir() and shutil.disk_usage(there).free > 2 << 30 else None


@contextlib.contextmanager
def scratch(prefix: str, where: str | None = None) -> Iterator[Path]:
    """A directory that the server's own user can reach; pytest's can only be entered by us."""
    directory = Path(tempfile.mkdtemp(prefix=f"labstore-{prefix}-", dir=where))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def template(directory: Path) -> Path:
    """An empty server's data, made once and copied for each server."""
    options, data = directory / "my.cnf", directory / "template"
    options.write_text(_OPTIONS)
    if data.exists():
        return data
    said = ""
    for _ in range(2):  # it starts a server of its own, which finds no room on a crowded machine now and then
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        _give(data)
        made = subprocess.run(
            [
                *("mariadb-install-db", f"--defaults-file={options}", f"--datadir={data}", "--skip-test-db"),
                *(*_as_user(), f"--auth-root-socket-user={pwd.getpwuid(os.geteuid()).pw_name}"),
            ],
            check=False,
            capture_output=True,
            timeout=120,
        )
        if made.returncode == 0:
            return data
        said = (made.stdout + made.stderr)[-3000:].decode("utf-8", "replace")
    raise AssertionError(f"mariadb-install-db failed: {said}")


def _as_user() -> list[str]:
    return ["--user=mysql"] if os.geteuid() == 0 else []


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, "mysql", "mysql")


@dataclass
class MariaServer:
    """One server. Its administrator logs in through the socket; `port` is where everybody else does, through a link
    that adds so many seconds of `delay` to every round trip."""

    directory: Path
    name: str
    extra: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    delay: float = 0.0
    _own_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None
    _link: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.name}.sock"

    @property
    def key(self) -> HostKey:
        return HostKey("127.0.0.1", self.port)

    def make(self) -> None:
        data = self.directory / self.name
        subprocess.run(["cp", "-a", str(template(self.directory)), str(data)], check=True)

    def start(self, *extra: str) -> None:
        if self.delay and self._link is None:
            self._link = subprocess.Popen(
                [sys.executable, "-m", "tests.support.slow_link", str(self.port), str(self._own_port), str(self.delay)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            assert self._link.stdout is not None
            assert self._link.stdout.readline() == b"ready\n"
        listen = self._own_port if self.delay else self.port
        log = self.directory / f"{self.name}.log"
        self._process = subprocess.Popen(
            [
                *(SERVER, f"--defaults-file={self.directory / 'my.cnf'}", f"--datadir={self.directory / self.name}"),
                *(f"--socket={self.socket}", f"--port={listen}"),
                *(f"--pid-file={self.directory / self.name}.pid", *_as_user(), *self.extra, *extra),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ends = time.monotonic() + 30
        while True:
            try:
                self.admin().close()
                return
            except pymysql.MySQLError:
                if time.monotonic() > ends or self._process.poll() is not None:
                    raise AssertionError(f"{self.name} does not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.03)

    def admin(self) -> Any:
        return pymysql.connect(
            unix_socket=str(self.socket), user=pwd.getpwuid(os.geteuid()).pw_name, autocommit=True, read_timeout=20
        )

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """As administrator; the rows of the last one."""
        connection = self.admin()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def names(self) -> set[str]:
        """The accounts of ours that exist."""
        sql = "SELECT User FROM mysql.global_priv WHERE User RLIKE '^[sup][1-9][0-9]*$'"
        return {row[0] for row in self.run(sql)}

    def works(self, user: str, password: str) -> bool:
        """Whether somebody can log in."""
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user=user, password=password, read_timeout=5).close()
        except pymysql.MySQLError as error:
            if error.args[0] in (1045, 4151):
                return False
            raise
        return True

    def set_up(
        self,
        grant_type: GrantType = GrantType.ROLE,
        procedures: bool = True,
        group: Any = None,
        batch: int = 200,
        required: bool = False,
    ) -> ReplicaSettings:
        """Make it a replica server of ours: with the procedures, or with the login's own rights."""
        setup = Setup(PROCEDURES, LOGIN, "127.0.0.1", grant_type, RoleName("labsdbuser"))
        rights = setup.statements() if procedures else setup.plain_rights()
        self.run(f"CREATE OR REPLACE USER '{LOGIN}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'", *rights)
        return ReplicaSettings(
            self.key,
            grant_type,
            group,
            user=LOGIN,
            password=Secret(PASSWORD),
            tls=Tls.OFF,
            batch=batch,
            required=required,
        )

    def ledger(self, database: str = "labsdbaccounts") -> LedgerSettings:
        """An empty database for a ledger, and how to reach it."""
        self.run(
            f"CREATE OR REPLACE DATABASE {database} CHARACTER SET utf8mb4",
            f"CREATE OR REPLACE USER 'ledger'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON {database}.* TO 'ledger'@'127.0.0.1'",
        )
        return LedgerSettings(
            host="127.0.0.1",
            port=self.port,
            user="ledger",
            password=Secret(PASSWORD),
            database=database,
            tls=Tls.OFF,
        )

    # --- what happens to servers ------------------------------------------------------------------------------------

    def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def revive(self) -> None:
        """Whatever a test that failed did to it."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()
        self.thaw()

    def end(self) -> None:
        """The server and its link."""
        if self._process is not None:
            self.kill()
        if self._link is not None:
            self._link.kill()
            self._link.wait(20)

    def freeze(self) -> None:
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(
    count: int = 1, extra: tuple[str, ...] = (), disk: bool = False, delays: Sequence[float] = ()
) -> Iterator[list[MariaServer]]:
    """So many fresh servers, on a disk if it matters; `delays` are those of the first, the second, and so on."""
    need_mariadb()
    with scratch("mariadb", None if disk else memory()) as directory:
        _give(directory)
        servers = [MariaServer(directory, f"db{number}", extra) for number in range(1, count + 1)]
        for server, delay in zip(servers, delays, strict=False):
            server.delay = delay
        try:
            for server in servers:
                server.make()
                server.start()
            yield servers
        finally:
            for server in servers:
                server.end()
