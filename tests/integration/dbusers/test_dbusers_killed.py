"""kill -9 of the daemon, of a database and of the writer, at every boundary of everything that happens to an account.

The boundaries are those that an undisturbed run passes; nobody picks them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from labstore.model.accounts import DbUser, NativeHash
from labstore.model.database import GrantType
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileFact, FileOwner
from labstore.reconcile.facts import Answer, Missing
from labstore.reconcile.record import State
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import FileRefused
from labstore.reports.sources import SourceFailed
from labstore.system.clock import SystemClock
from labstore.system.credential_files import CredentialFiles
from tests.integration.dbusers.courses import COURSES, CYCLES, Course, Lab
from tests.support import mariadb
from tests.support.dbusers import site
from tests.support.killing import KILLED, Boundary, Marks, in_child
from tests.support.mariadb import PROCEDURES, MariaServer

pytestmark = pytest.mark.root
EVERY = int(os.environ.get("LABSTORE_KILL_EVERY", "8"))
"""Of so many boundaries one is taken, each course beginning with another one; the acceptance run takes each of them."""
WAYS = ((GrantType.ROLE, True), (GrantType.ROLE, False), (GrantType.LEGACY, True))
"""The three servers: with procedures, with plain rights, of the older kind."""


@pytest.fixture
def hosts(servers: list[MariaServer]) -> tuple[ReplicaSettings, ...]:
    if os.geteuid() != 0:
        pytest.skip("homes that belong to tools need root")
    for server in servers:
        server.run(f"DROP DATABASE IF EXISTS {PROCEDURES}")
    return tuple(server.set_up(*way) for server, way in zip(servers, WAYS, strict=True))


@contextmanager
def begun(
    course: Course, servers: Sequence[MariaServer], hosts: tuple[ReplicaSettings, ...], in_maria: bool = False
) -> Iterator[Lab]:
    """A site that has come to where the course begins."""
    with mariadb.scratch("killed") as root, mariadb.scratch("ledger", mariadb.memory()) as memory:
        ledger = servers[0].ledger() if in_maria else None
        made = site(root, servers, ledger, hosts=hosts)
        if ledger is None:
            made.change(ledger=mariadb.LedgerSettings(sqlite=memory / "ledger.db"))
        lab = Lab(made, servers)
        try:
            course.before(lab)
            course.act(lab)
            yield lab
        finally:
            lab.close()


def honest(lab: Lab, course: Course) -> str | None:
    """What must be so at any moment, and certainly when somebody was killed. Returns what the tool can read then."""
    password = lab.password()
    if password is None:
        return None
    row = lab.row()
    assert row is None or NativeHash.of(Secret(password)) in row.verifiers, "a password that the ledger does not know"
    if course.lets_in:
        assert lab.everywhere(password), "a file whose password is refused"
    return password


def ends_well(lab: Lab, course: Course, read: str | None) -> None:
    course.after(lab)
    if read is not None and read != lab.first:
        assert lab.password() == read, "a password that somebody may have read was thrown away"


def taken(course: Course, passed: list[Boundary]) -> list[Boundary]:
    return passed[COURSES.index(course) % EVERY :: EVERY]


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.name)
def test_the_daemon_is_killed(course: Course, servers: list[MariaServer], hosts: tuple[ReplicaSettings, ...]) -> None:
    with begun(course, servers, hosts) as lab:
        passed: list[Boundary] = lab.run(cycles=course.cycles)
        assert lab.settle().state is State.CONVERGED
        ends_well(lab, course, None)
    assert len(passed) > 2, passed
    for at in taken(course, passed):
        with begun(course, servers, hosts) as lab:
            assert lab.run(at, course.cycles) is KILLED, at
            read = honest(lab, course)
            record = lab.settle()
            assert record.state is State.CONVERGED and not record.steps, (at, record.reports)
            ends_well(lab, course, read)


# --- a database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.name)
def test_a_database_is_killed(course: Course, servers: list[MariaServer], hosts: tuple[ReplicaSettings, ...]) -> None:
    """The first server, which holds the ledger too. The daemon lives on and has to cope."""
    key = str(hosts[0].key)
    with begun(course, servers, hosts, in_maria=True) as lab:
        marks = Marks(looks=True)
        lab.site.cycle(hooks=marks.hooks).run()
    mine = [boundary for boundary in marks.passed if boundary[0].startswith((key, "ledger"))]
    assert len(mine) > 2, marks.passed
    for at in taken(course, mine):
        with begun(course, servers, hosts, in_maria=True) as lab:
            marks = Marks(at, servers[0].kill, looks=True)
            lab.site.cycle(hooks=marks.hooks).run()
            assert at in marks.passed
            servers[0].start()
            read = honest(lab, course)
            _goes_on(lab, at)
            ends_well(lab, course, read)


def _goes_on(lab: Lab, at: Boundary) -> None:
    """The same daemon, until it has converged."""
    for _ in range(CYCLES):
        lab.wait(61)
        record = lab.site.run()
        if record.state is State.CONVERGED and not record.steps:
            return
    raise AssertionError((at, record.state, record.reports))


# --- the writer ------------------------------------------------------------------------------------------------------


@dataclass
class MortalWriter:
    """The writer as a process of its own, as it is on another machine: the daemon outlives it."""

    lab: Lab
    at: Boundary | None = None
    passed: list[Boundary] = field(default_factory=list)

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        found = self._ask(lambda writer: writer.inspect(owners))
        if found is KILLED:
            missing = Missing(SourceFailed("writer", "files", "gone"), "writer", SystemClock().now())
            return {owner.user: missing for owner in owners}
        return found  # type: ignore[no-any-return]

    def publish(self, owner: FileOwner, password: Secret) -> None:
        self._do(owner, lambda writer: writer.publish(owner, password))

    def replace(self, owner: FileOwner, password: Secret) -> None:
        self._do(owner, lambda writer: writer.replace(owner, password))

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        self._do(owner, lambda writer: writer.protect(owner, verifier))

    def withdraw(self, owner: FileOwner) -> None:
        self._do(owner, lambda writer: writer.withdraw(owner))

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        return Missing(SourceFailed("writer", "homes", "none"), "writer", SystemClock().now())

    def _do(self, owner: FileOwner, act: Callable[[CredentialFiles], None]) -> None:
        if self._ask(act) is KILLED:
            raise StepFailed(FileRefused(str(owner.user), "the writer does not answer"))

    def _ask(self, act: Callable[[CredentialFiles], Any]) -> Any:
        def served() -> tuple[Any, list[Boundary]]:
            marks = Marks(self.at)
            marks.count(self.passed)
            return act(CredentialFiles(self.lab.site.settings.files, SystemClock(), marks.hooks.file)), marks.passed

        said = in_child(served)
        if said is KILLED:
            self.at = None
            return KILLED
        result, passed = said
        self.passed += passed
        return result


WRITING = [course for course in COURSES if course.name in ("issue", "rotate", "remove", "re-issue")]


@pytest.mark.parametrize("course", WRITING, ids=lambda course: course.name)
def test_the_writer_is_killed(course: Course, servers: list[MariaServer], hosts: tuple[ReplicaSettings, ...]) -> None:
    with begun(course, servers, hosts) as lab:
        writer = MortalWriter(lab)
        lab.site.writer = writer
        lab.site.cycle().run()
    assert len(writer.passed) > 1
    for at in taken(course, writer.passed):
        with begun(course, servers, hosts) as lab:
            lab.site.writer = MortalWriter(lab, at)
            lab.site.cycle().run()
            assert lab.site.writer.at is None, "it was killed"
            read = honest(lab, course)
            _goes_on(lab, at)
            ends_well(lab, course, read)
