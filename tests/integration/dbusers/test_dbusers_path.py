"""From an entry in a real directory to a file that logs in to real servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from labstore.dbusers import assemble
from labstore.model.accounts import AccountKind
from labstore.model.database import HostKey
from labstore.reconcile.record import State
from labstore.reports.dbusers import HostRefused
from labstore.sources.replica_hands import Refused
from tests.support import mariadb, slapd
from tests.support.dbusers import PATIENT, Hooks, Site, site
from tests.support.mariadb import MariaServer

pytestmark = pytest.mark.root


@pytest.fixture
def ldap_site(servers: list[MariaServer]) -> Iterator[tuple[Site, slapd.Slapd]]:
    people = [slapd.tool("wikibugs", 52788), slapd.person("alice", 2170), slapd.person("bob", 2171)]
    ldif = [*people, slapd.group(["alice"])]
    with slapd.running(1, tls=True, ldif=ldif) as (directory,), mariadb.scratch("site") as root:
        made = site(root, servers, servers[0].ledger(), directory=directory.settings())
        made.homes.make(AccountKind.TOOL, "wikibugs", 52788)
        made.homes.make(AccountKind.USER, "alice", 2170)
        made.homes.make(AccountKind.USER, "bob", 2171)
        yield made, directory
        made.end()


def test_a_tool_and_a_user_get_files_that_log_in_everywhere(ldap_site: tuple[Site, slapd.Slapd]) -> None:
    made, _ = ldap_site
    record = made.run()
    assert record.state is State.CONVERGED, record.reports
    assert made.works("wikibugs") == [True, True, True]
    assert made.works("alice", AccountKind.USER) == [True, True, True]
    assert not made.homes.file(AccountKind.USER, "bob").exists()
    content = made.homes.file(AccountKind.TOOL, "wikibugs").read_bytes()
    password = made.homes.credentials(AccountKind.TOOL, "wikibugs")[1]
    assert content == f"[client]\nuser = s52788\npassword = {password}\n\n".encode()
    status = made.homes.file(AccountKind.TOOL, "wikibugs").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o400, 52788, 52788)
    assert made.homes.protected(AccountKind.TOOL, "wikibugs")


def test_a_second_run_changes_nothing_and_asks_little(ldap_site: tuple[Site, slapd.Slapd]) -> None:
    made, _ = ldap_site
    made.run(2)
    statements: list[str] = []
    cycle = made.cycle()
    cycle.observer.crew.close()
    cycle.observer.crew = type(cycle.observer.crew)(
        assemble.servers(made.settings, made.clock, statements.append), made.clock
    )
    cycle.run()
    events = made.ledger().events()
    statements.clear()
    assert cycle.run().state is State.CONVERGED
    assert [
        sql for sql in statements if "digests" not in sql and "sessions" not in sql and "read_only" not in sql
    ] == []
    assert made.ledger().events() == events


def test_a_new_entry_has_its_file_after_one_more_cycle(ldap_site: tuple[Site, slapd.Slapd]) -> None:
    made, directory = ldap_site
    made.run()
    directory.add(slapd.tool("newcomer", 52790))
    made.homes.make(AccountKind.TOOL, "newcomer", 52790)
    assert made.run().state is State.CONVERGED
    assert made.works("newcomer") == [True, True, True]


def test_all_new_accounts_are_made_before_the_first_gets_its_rights(small: Site) -> None:
    """A server goes through every role that was ever granted with each account it makes; and nothing is granted to an
    account that could not be made."""
    for number in range(5):
        small.add_tool(f"t{number}", 52700 + number)
    small.change(pacing=replace(PATIENT, chunk=1))
    said: dict[HostKey, list[str]] = {}
    first, second, third = (host.key for host in small.settings.hosts)

    def heard(key: HostKey, sql: str) -> None:
        words = [word for word in ("create", "grant") if f"{word}_accounts" in sql]
        said.setdefault(key, []).extend(words)
        if words and key == first and said[key] == ["create"]:
            raise Refused(1, "not this one")

    record = small.cycle(hooks=Hooks(server=heard)).run()
    assert record.state is State.FAILED
    assert any(isinstance(report, HostRefused) for report in record.reports)
    everything = ["create"] * 5 + ["grant"] * 5
    assert said == {first: everything[:-1], second: everything, third: everything}
    assert small.run().state is State.CONVERGED
    assert all(small.works(f"t{number}") == [True, True, True] for number in range(5))


def test_the_old_readers_of_the_ledger_find_their_columns(ldap_site: tuple[Site, slapd.Slapd]) -> None:
    made, _ = ldap_site
    made.run()
    rows = made.servers[0].run(
        "SELECT a.mysql_username, a.type, a.username, a.password_hash, h.status, COUNT(*) "
        "FROM labsdbaccounts.account a JOIN labsdbaccounts.account_host h ON h.account_id = a.id "
        "WHERE a.type = 'tool' GROUP BY 1, 2, 3, 4, 5"
    )
    password = made.homes.credentials(AccountKind.TOOL, "wikibugs")[1]
    (expected,) = made.servers[0].run(f"SELECT LOWER(PASSWORD('{password}'))")[0]
    assert rows == [("s52788", "tool", "tools.wikibugs", expected.encode(), "present", 3)]
