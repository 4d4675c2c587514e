"""The scenes of database accounts: a tool appears, a limit bites, a password is replaced and nobody notices."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymysql

from labstore.demo.database import TIMED_OUT, TOO_MANY, asked, number_of
from labstore.demo.stage import Stage, until

PATIENCE = 60.0
"""Seconds in which the daemon must have done what was asked for."""
TOOL, UID = "wikibugs", 52788
LONGER = 30
"""Seconds that a statement wants to take; its account may take one."""


class Unproven(Exception):
    """A scene did not show what it is there to show."""


def prove(so: bool, what: str) -> None:
    if not so:
        raise Unproven(what)


def gives_an_account(stage: Stage) -> str:
    up = stage.database.start()
    stage.labstore("dbusers", "host-setup", f"127.0.0.1:{stage.database.port}", "--apply", *_as_admin(stage))
    stage.start_accounts()
    home = stage.cloud.add_tool(TOOL, UID)
    file = home / "replica.my.cnf"
    took = until(file.exists, PATIENCE, "the tool's file appears")
    user = stage.database.who(file)
    prove(user == f"s{UID}", f"its password logs in as s{UID}, not {user}")
    status = file.stat()
    prove((status.st_uid, status.st_mode & 0o777) == (UID, 0o400), "the file is the tool's, and readable for it alone")
    return f"MariaDB up in {up:.1f} s; in the directory at 0.0 s, a file that logs in as s{UID} after {took:.1f} s"


def _as_admin(stage: Stage) -> tuple[str, ...]:
    return "--admin-socket", str(stage.database.socket)


def limits_an_account(stage: Stage) -> str:
    asking = ("dbusers", "limit", TOOL, "--connections", "2", "--statement-time", "1s", "--until", "1d", "--json")
    asked_at = time.monotonic()
    rule = json.loads(stage.labstore(*asking))["number"]
    file = stage.cloud.home(TOOL) / "replica.my.cnf"
    until(lambda: _refused_at(stage, file) == 3, PATIENCE, "a third connection is refused")
    took = time.monotonic() - asked_at
    with ExitStack() as open_:
        session = _entered(open_, stage, file)
        asked(session, "SET SESSION max_statement_time = 0")  # its owner tries to escape
        started = time.monotonic()
        try:
            ended = asked(session, f"SELECT SLEEP({LONGER})") == 1
        except pymysql.MySQLError as error:
            ended = number_of(error) in TIMED_OUT
        seconds = time.monotonic() - started
    prove(ended and seconds < LONGER / 2, "a statement that takes too long is ended")
    stage.labstore("dbusers", "limit", "--end", str(rule))
    until(lambda: _refused_at(stage, file) == 0, PATIENCE, "the limit ends")
    return (
        f"asked for, the third connection is refused after {took:.1f} s; a statement of an account that unset its own "
        f"limit was ended after {seconds:.1f} s of {LONGER}"
    )


def _entered(open_: ExitStack, stage: Stage, file: Path) -> Any:
    """A session. Those that were just closed count for a moment."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return open_.enter_context(stage.database.login(file))
        except pymysql.MySQLError as error:
            if number_of(error) != TOO_MANY or time.monotonic() > ends:
                raise
            time.sleep(0.1)


def _refused_at(stage: Stage, file: Path) -> int:
    """Which of three connections at a time is refused; 0 for none."""
    with ExitStack() as open_:
        for number in (1, 2, 3):
            try:
                open_.enter_context(stage.database.login(file))
            except pymysql.MySQLError as error:
                if number_of(error) != TOO_MANY:
                    raise
                return number
    return 0


class Reconnecting(threading.Thread):
    """A program of the tool's that reads its file and logs in, again and again."""

    def __init__(self, stage: Stage, file: Path) -> None:
        super().__init__(daemon=True)
        self._stage, self._file = stage, file
        self.logins, self.refused = 0, 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._stage.database.who(self._file)
                self.logins += 1
            except (pymysql.MySQLError, OSError) as error:
                # sessions that were just closed count for a moment: that is no word about the password
                crowded = isinstance(error, pymysql.MySQLError) and number_of(error) == TOO_MANY
                self.refused += not crowded
            self.over.wait(0.01)

    def end(self) -> None:
        self.over.set()
        self.join(10.0)


def rotates_unnoticed(stage: Stage) -> str:
    file = stage.cloud.home(TOOL) / "replica.my.cnf"
    before = file.read_text()
    loop = Reconnecting(stage, file)
    loop.start()
    try:
        until(lambda: loop.logins > 0, PATIENCE, "the tool logs in")
        started, asked_at = loop.logins, time.monotonic()
        stage.labstore("dbusers", "rotate", TOOL, "--yes", "--why", "the demonstration")
        until(lambda: file.read_text() != before, PATIENCE, "the file has a new password")
        took = time.monotonic() - asked_at
        after = loop.logins
        until(lambda: loop.logins > after + 20, PATIENCE, "the tool goes on")
    finally:
        loop.end()
    prove(loop.refused == 0, f"no login is refused ({loop.refused} were)")
    prove(file.stat().st_uid == UID, "the new file is the tool's")
    count = loop.logins - started
    return f"asked for, it was in the file after {took:.1f} s; {count} logins in a loop meanwhile, none refused"
