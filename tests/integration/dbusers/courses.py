"""The lives of an account, as far as killing goes: what leads to a moment, what happens then, what must come of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from labstore.formats import my_cnf
from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.ledger import AccountRow, AccountState, RequestVerb
from labstore.model.secret import Secret
from labstore.reconcile.record import Record, State
from tests.support.dbusers import Site
from tests.support.killing import KILLED, Boundary, Marks, in_child
from tests.support.mariadb import MariaServer

TOOL, UID = "wikibugs", 52788
ACCOUNT = f"s{UID}"
USER = DbUser(ACCOUNT)
HOUR, DAY = 3600.0, 86400.0
CYCLES = 4
"""So many cycles a daemon may take until nothing is left to do."""


@dataclass
class Lab:
    """One site with one tool. `open_session` is a client that stays logged in."""

    site: Site
    servers: Sequence[MariaServer]
    first: str = ""
    """The password that the tool had before the course."""
    clients: list[Any] = field(default_factory=list)

    # --- the daemon -------------------------------------------------------------------------------------------------

    def run(self, at: Boundary | None = None, cycles: int = 1) -> Any:
        """A daemon, just started, for so many cycles: the boundaries it passed, or KILLED at the one that is given."""

        def act() -> list[Boundary]:
            marks = Marks(at)
            cycle = self.site.cycle(hooks=marks.hooks)
            for _ in range(cycles):
                cycle.run()
            return marks.passed

        return in_child(act)

    def settle(self) -> Record:
        """A daemon, just started, until it has converged; the last record."""

        def act() -> Record:
            cycle = self.site.cycle()
            for _ in range(CYCLES):
                record = cycle.run()
                if record.state is State.CONVERGED and not record.steps:
                    break
                if record.state is not State.CONVERGED:
                    self.site.clock.advance(5)
            return record

        record = in_child(act)
        assert record is not KILLED
        return record  # type: ignore[no-any-return]

    # --- what is so -------------------------------------------------------------------------------------------------

    @property
    def file(self) -> Path:
        return self.site.homes.file(AccountKind.TOOL, TOOL)

    def password(self) -> str | None:
        """What the tool reads in its file; None where there is no file."""
        if not self.file.exists():
            return None
        return my_cnf.parse(self.file.read_bytes()).password.reveal()

    def row(self) -> AccountRow | None:
        ledger = self.site.ledger()
        try:
            assert ledger.verify_events() is None
            return ledger.read().accounts.get(USER)
        finally:
            ledger.close()

    def buried(self) -> bool:
        ledger = self.site.ledger()
        try:
            return USER in ledger.read().tombstones
        finally:
            ledger.close()

    def everywhere(self, password: str | None) -> bool:
        """Whether every server lets this password in."""
        return password is not None and all(server.works(ACCOUNT, password) for server in self.servers)

    def nowhere(self, password: str) -> bool:
        return not any(server.works(ACCOUNT, password) for server in self.servers)

    def there(self) -> list[bool]:
        return [ACCOUNT in server.names() for server in self.servers]

    # --- what people and tools do -----------------------------------------------------------------------------------

    def appear(self) -> None:
        self.site.homes.make(AccountKind.TOOL, TOOL, UID)
        self.come_back()

    def ask_for_another(self) -> None:
        self.site.ask(RequestVerb.ROTATE, ACCOUNT)

    def leave(self) -> None:
        self.site.tools.clear()
        self.site.tools["other"] = UID + 1
        self.site.write_people()

    def come_back(self) -> None:
        self.site.tools.clear()
        self.site.tools |= {"other": UID + 1, TOOL: UID}
        self.site.write_people()

    def wait(self, seconds: float) -> None:
        self.site.clock.advance(seconds)

    def log_in(self) -> None:
        for server in self.servers:
            user, password = self.site.homes.credentials(AccountKind.TOOL, TOOL)
            self.clients.append(
                pymysql.connect(host="127.0.0.1", port=server.port, user=user, password=password, read_timeout=20)
            )

    def alive(self) -> list[bool]:
        return [_pings(client) for client in self.clients]

    def close(self) -> None:
        for client in self.clients:
            with contextlib.suppress(pymysql.MySQLError):
                client.close()
        for server in self.servers:
            server.run(f"DROP USER IF EXISTS '{ACCOUNT}'@'%', 's{UID + 1}'@'%'")
        self.site.end()


def _pings(client: Any) -> bool:
    try:
        client.ping(reconnect=False)
    except (pymysql.MySQLError, OSError):
        return False
    return True


# --- lives -----------------------------------------------------------------------------------------------------------


def _nothing(lab: Lab) -> None:
    """A site that has run, without the tool."""
    lab.leave()
    lab.site.homes.make(AccountKind.TOOL, "other", UID + 1)
    assert lab.settle().state is State.CONVERGED


def _live(lab: Lab) -> None:
    _nothing(lab)
    lab.appear()
    assert lab.settle().state is State.CONVERGED
    password = lab.password()
    assert password is not None
    lab.first = password


def _rotated(lab: Lab) -> None:
    _live(lab)
    lab.site.ask(RequestVerb.ROTATE, ACCOUNT)
    assert lab.settle().state is State.CONVERGED
    assert lab.everywhere(lab.first) and lab.everywhere(lab.password())


def _missing_once(lab: Lab) -> None:
    _live(lab)
    lab.log_in()
    lab.leave()
    assert lab.settle().state is State.CONVERGED
    assert lab.everywhere(lab.first)


def _suspended(lab: Lab) -> None:
    _missing_once(lab)
    lab.wait(HOUR + 1)
    assert lab.settle().state is State.CONVERGED
    assert lab.nowhere(lab.first)


def _without_ledger(lab: Lab) -> None:
    _live(lab)
    path = lab.site.settings.ledger.sqlite
    if path is None:
        lab.servers[0].ledger()
    else:
        for file in path.parent.glob(path.name + "*"):
            file.unlink()
    ledger = lab.site.ledger()
    ledger.prepare()
    ledger.close()


def _legacy(lab: Lab) -> None:
    """An account of before: known to every server, with a grant of its own, yet without file and row."""
    _nothing(lab)
    for server in lab.servers:
        server.run(
            f"CREATE USER '{ACCOUNT}'@'%' IDENTIFIED BY 'nobodyknowsthis1'",
            rf"GRANT SELECT ON `kept\_by\_hand`.* TO '{ACCOUNT}'@'%'",
        )
    lab.site.homes.make(AccountKind.TOOL, TOOL, UID)


def _is_live(lab: Lab, state: AccountState = AccountState.LIVE) -> None:
    row, password = lab.row(), lab.password()
    assert row is not None and row.state is state and not row.suspended
    assert password is not None and NativeHash.of(Secret(password)) == row.verifier
    assert lab.everywhere(password)
    assert lab.site.homes.protected(AccountKind.TOOL, TOOL)
    assert sorted(each.name for each in lab.file.parent.iterdir()) == ["replica.my.cnf"], "nothing is left beside it"


def _has_both(lab: Lab) -> None:
    _is_live(lab, AccountState.OVERLAP)
    assert lab.password() != lab.first and lab.everywhere(lab.first)


def _has_the_new_one(lab: Lab) -> None:
    _is_live(lab)
    assert lab.password() != lab.first and lab.nowhere(lab.first)


def _is_shut_out(lab: Lab) -> None:
    row = lab.row()
    assert row is not None and row.suspended and all(lab.there())
    assert lab.nowhere(lab.first) and not any(lab.alive())
    assert lab.password() == lab.first


def _is_back(lab: Lab) -> None:
    _is_live(lab)
    assert lab.password() == lab.first


def _is_gone(lab: Lab) -> None:
    assert lab.row() is None and lab.buried()
    assert not any(lab.there()) and not lab.file.exists() and lab.file.parent.is_dir()


def _is_re_issued(lab: Lab) -> None:
    _is_live(lab)
    for server in lab.servers:
        shown = " ".join(row[0] for row in server.run(f"SHOW GRANTS FOR '{ACCOUNT}'@'%'"))
        assert r"kept\_by\_hand" in shown, "grants survive"


@dataclass(frozen=True)
class Course:
    """`before` leads there, `act` sets it off, `after` is what must be in the end. `lets_in`: what the file says is
    accepted at every moment in between, by every server."""

    name: str
    before: Callable[[Lab], None]
    act: Callable[[Lab], None]
    after: Callable[[Lab], None]
    lets_in: bool = True
    cycles: int = 1


COURSES = (
    Course("issue", _nothing, Lab.appear, _is_live),
    Course("rotate", _live, Lab.ask_for_another, _has_both),
    Course("end of a rotation", _rotated, lambda lab: lab.wait(DAY + 1), _has_the_new_one),
    Course("suspend", _missing_once, lambda lab: lab.wait(HOUR + 1), _is_shut_out, lets_in=False),
    Course("return", _suspended, Lab.come_back, _is_back, lets_in=False),
    Course("remove", _suspended, lambda lab: lab.wait(41 * DAY), _is_gone, lets_in=False),
    Course("harvest", _without_ledger, lambda _lab: None, _is_back),
    Course("re-issue", _legacy, Lab.come_back, _is_re_issued),
)
