"""A private MariaDB for the demonstration: on loopback, with its data in the demonstration's directory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from labstore.demo.child import Child
from labstore.demo.server import free_port
from labstore.ports.host import Command
from labstore.system.run import LocalHost

START_DEADLINE = 60.0
TOO_MANY = 1226
"""An account has used up one of its limits."""
TIMED_OUT = frozenset({1317, 1969})
"""A statement was ended: by somebody, or by its time."""


class PrivateMaria:
    """A replica server of our own. Its administrator is root, by the socket."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self._server: Child | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "sock"

    def start(self) -> float:
        """Seconds until it answered. Raises ChildFailed, CommandFailed."""
        started = time.monotonic()
        data = self.directory / "data"
        data.mkdir(parents=True)
        install = ("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db")
        socket_login = ("--auth-root-authentication-method=socket", "--auth-root-socket-user=root")
        LocalHost().run(Command((*install, *socket_login, "--skip-name-resolve"), deadline=120.0))
        argv = [
            *("/usr/sbin/mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={self.socket}", "--user=root"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.directory}/pid"),
            *("--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--performance-schema=OFF"),
        ]
        self._server = Child(argv, self.directory / "mariadb.log")
        self._server.wait_until(self._answers, START_DEADLINE)
        return time.monotonic() - started

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _answers(self) -> bool:
        try:
            pymysql.connect(unix_socket=str(self.socket), user="root", read_timeout=5).close()
        except (pymysql.MySQLError, OSError):
            return False
        return True

    @contextmanager
    def login(self, file: Path) -> Iterator[Any]:
        """A session as a tool opens it: with what its credential file says. Raises pymysql.MySQLError."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, read_default_file=str(file), autocommit=True, read_timeout=30
        )
        try:
            yield connection
        finally:
            connection.close()

    def who(self, file: Path) -> str:
        """The account as which the file's password logs in. Raises pymysql.MySQLError."""
        with self.login(file) as session:
            return str(asked(session, "SELECT CURRENT_USER()")).partition("@")[0]


def asked(session: Any, sql: str) -> object:
    """The first value of a statement's answer."""
    with session.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row[0] if row else None


def number_of(error: pymysql.MySQLError) -> int:
    """The server's number of what went wrong; classes of errors mean nothing."""
    return int(error.args[0]) if error.args and isinstance(error.args[0], int) else 0
