"""What stands in the directory becomes a name of an account, a home and a row: or it is refused, and said."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.dbusers_settings import DAY, HOUR, RemovalSettings
from labstore.model.ledger import RequestVerb
from labstore.reconcile.record import State
from labstore.reports.dbusers import EntriesRejected, IdentityChanged
from labstore.reports.report import Override
from tests.support import mariadb, slapd
from tests.support.dbusers import Site, site
from tests.support.mariadb import MariaServer
from tests.support.slapd import GROUP, PEOPLE, TOOLS, Slapd

pytestmark = pytest.mark.root
EVIL_NAMES = (
    "tools.x'; DROP TABLE account; -- ",
    "tools.x' OR '1'='1",
    'tools.x"',
    "tools.x`",
    "tools.%",
    "tools._",
    "tools.x\n",
    "tools.x\0y",
    "tools.x y",
    "tools. x",
    "tools.",
    "tools..",
    "tools.../../../etc",
    "tools./etc",
    "tools.a/b",
    "tools.x*)(uid=*",
    "tools.a.b",
    "tools.X",
    "TOOLS.x",
    "tools.-x",
    "tools." + "x" * 33,
    "tools.w\u0456kibugs",  # a Cyrillic letter
    "tools.wikibugs\u200b",  # nothing to see
    "tools.w\u00eckibugs",
    "tools.wi\u0301kibugs",
    "tools.\uff57ikibugs",  # a wide letter
    "tools.wikibug\u017f",  # a long s, which is an s to a loose collation
    "tools.\u202ewikibugs",
)
EVIL_NUMBERS = (
    "0",
    "1",
    "499",
    "65534",
    "65535",
    "4294967294",
    "4294967295",
    "4294967296",
    "-1",
    "99999999999999999999",
)


def entry(number: int, name: str, uid: str, base: str = TOOLS) -> str:
    """An entry with any name at all."""
    coded = base64.b64encode(name.encode()).decode()
    return (
        f"dn: employeeNumber={number},{base}\nobjectClass: person\nobjectClass: posixAccount\n"
        f"objectClass: inetOrgPerson\nemployeeNumber: {number}\nsn: x\ncn:: {coded}\nuid:: {coded}\n"
        f"uidNumber: {uid}\ngidNumber: 1\nhomeDirectory: /etc\n"
    )


@dataclass
class World:
    site: Site
    directory: Slapd

    def rejected(self) -> int:
        record = self.site.run()
        return sum(report.count for report in record.reports if isinstance(report, EntriesRejected))

    def accounts(self) -> list[set[str]]:
        return [server.names() for server in self.site.servers]


@pytest.fixture
def world(servers: list[MariaServer]) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("homes that belong to tools need root")
    ldif = [slapd.tool("wikibugs", 52788), slapd.person("alice", 2170), slapd.group(["alice"])]
    with slapd.running(1, ldif=ldif) as (directory,), mariadb.scratch("site") as root:
        made = site(
            root, servers, servers[0].ledger(), directory=directory.settings(), removal=RemovalSettings(floor=50)
        )
        made.homes.make(AccountKind.TOOL, "wikibugs", 52788)
        made.homes.make(AccountKind.USER, "alice", 2170)
        assert made.run().state is State.CONVERGED
        yield World(made, directory)
        made.end()


def test_names_that_are_none_make_nothing_and_are_said(world: World) -> None:
    """upstream #42, #51, #54: a crafted name wrote another row; accents and case collided."""
    before = world.accounts()
    tree = sorted(str(path) for path in world.site.homes.root.rglob("*"))
    world.directory.add(*(entry(n, name, str(60000 + n)) for n, name in enumerate(EVIL_NAMES)))
    assert world.rejected() == len(EVIL_NAMES)
    assert world.accounts() == before == [{"s52788", "u2170"}] * 3
    assert sorted(str(path) for path in world.site.homes.root.rglob("*")) == tree
    rows = world.site.servers[0].run("SELECT mysql_username, username FROM labsdbaccounts.account ORDER BY 1")
    assert rows == [("s52788", "tools.wikibugs"), ("u2170", "alice")]
    assert world.site.works("wikibugs") == [True] * 3


def test_people_with_such_names_neither(world: World) -> None:
    evil = ("al'ice", "al\u0131ce", "-rf", "..", ".ssh", "a/b", "a b", "a\nb", "%", "\u0430lice", "")
    world.directory.add(*(entry(n, name or " ", str(61000 + n), PEOPLE) for n, name in enumerate(evil)))
    members = "".join(f"add: member\nmember: employeeNumber={n},{PEOPLE}\n-\n" for n in range(len(evil)))
    world.directory.modify(f"dn: {GROUP}\nchangetype: modify\n{members}")
    assert world.rejected() == len(evil)
    assert world.accounts() == [{"s52788", "u2170"}] * 3


def test_numbers_that_are_none_make_nothing_and_are_said(world: World) -> None:
    """chown to 2^32-1 changes nothing: the file would stay root's."""
    world.directory.add(*(entry(n, f"tools.n{n}", uid) for n, uid in enumerate(EVIL_NUMBERS)))
    for number in range(len(EVIL_NUMBERS)):
        (world.site.homes.root / "tool" / f"n{number}").mkdir()
    assert world.rejected() == len(EVIL_NUMBERS)
    assert world.accounts() == [{"s52788", "u2170"}] * 3
    assert not list(world.site.homes.root.rglob("n*/*my.cnf"))


def test_a_second_entry_with_its_number_takes_nothing_from_the_first(world: World) -> None:
    content = world.site.homes.file(AccountKind.TOOL, "wikibugs").read_bytes()
    world.directory.add(entry(1, "tools.thief", "52788"))
    world.site.homes.make(AccountKind.TOOL, "thief", 52788)
    assert world.rejected() == 2
    for hours in (2, 24, 24 * 60):
        world.site.clock.advance(hours * HOUR)
        world.site.run()
    assert world.site.homes.file(AccountKind.TOOL, "wikibugs").read_bytes() == content
    assert world.site.works("wikibugs") == [True] * 3
    assert not world.site.homes.file(AccountKind.TOOL, "thief").exists()


def test_two_newcomers_with_one_number_both_wait(world: World) -> None:
    world.directory.add(entry(1, "tools.one", "52800"), entry(2, "tools.two", "52800"))
    for name in ("one", "two"):
        world.site.homes.make(AccountKind.TOOL, name, 52800)
    assert world.rejected() == 2
    assert world.accounts() == [{"s52788", "u2170"}] * 3


def test_a_number_that_was_used_before_is_not_inherited(world: World) -> None:
    """Databases `s52788__*` outlive their account."""
    world.site.ask(RequestVerb.REMOVE, "s52788", now=True)
    world.site.run(2)
    assert world.accounts() == [{"u2170"}] * 3
    world.directory.remove(f"uid=tools.wikibugs,{TOOLS}")
    world.directory.add(entry(1, "tools.heir", "52788"))
    world.site.homes.make(AccountKind.TOOL, "heir", 52788)
    world.site.clock.advance(DAY)
    assert "a person asked" in world.site.run().untouched["s52788"], "of another owner that is said"
    world.site.ask(RequestVerb.RESTORE, "s52788")
    record = world.site.run()
    assert any(isinstance(report, IdentityChanged) for report in record.reports), record.reports
    assert world.accounts() == [{"u2170"}] * 3
    assert not world.site.homes.file(AccountKind.TOOL, "heir").exists()
    assert world.site.last is not None
    world.site.last.run(frozenset({Override.ALLOW_ACCOUNT_IDENTITY}))
    assert world.site.works("heir") == [True] * 3, "a person may say that it is the same owner"


def test_a_name_that_was_used_before_gets_a_new_account(world: World) -> None:
    """Another number: nothing of the former account is had by it."""
    old = world.site.homes.credentials(AccountKind.TOOL, "wikibugs")
    world.directory.remove(f"uid=tools.wikibugs,{TOOLS}")
    world.directory.add(slapd.tool("wikibugs", 52999))
    home = world.site.homes.root / "tool" / "wikibugs"
    world.site.run()
    assert world.site.homes.credentials(AccountKind.TOOL, "wikibugs") == old, "the former one's file is not touched"
    world.site.clock.advance(HOUR + 1)
    world.site.run()
    world.site.clock.advance(41 * DAY)
    world.site.run(2)
    os.chown(home, 52999, 52999)
    world.site.run(2)
    user = world.site.homes.credentials(AccountKind.TOOL, "wikibugs")[0]
    assert user == "s52999" and world.site.works("wikibugs") == [True] * 3
    assert not any(server.works(old[0], old[1]) for server in world.site.servers)
    assert DbUser("s52788") not in world.accounts()[0]
