"""The LDAP directory on a real slapd keeps the contract, and never takes a part for the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from labstore.model.accounts import AccountKind, DbUser, UidRange
from labstore.model.people import Listing
from labstore.model.secret import Secret
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.sources.ldap_directory import LdapDirectory
from labstore.system.clock import SystemClock
from tests.contracts.directory import DirectoryContract
from tests.support import slapd
from tests.support.hang import HANGS
from tests.support.slapd import GROUP, PEOPLE, TOOLS, Slapd

BASIS = (slapd.tool("first", 50001), slapd.person("alice", 2170), slapd.person("mallory", 2666), slapd.group(["alice"]))


def directory(*servers: Slapd, **changes: Any) -> LdapDirectory:
    first, *others = servers
    return LdapDirectory(first.settings(*others, **changes), UidRange(), SystemClock())


def of(answer: Answer[Listing]) -> Listing:
    assert isinstance(answer, Fact), answer
    return answer.value


def tools(made: LdapDirectory) -> Answer[Listing]:
    return made.listing()[AccountKind.TOOL]


def users(made: LdapDirectory) -> Answer[Listing]:
    return made.listing()[AccountKind.USER]


@dataclass
class LdapLab:
    server: Slapd
    directory: LdapDirectory = field(init=False)

    def __post_init__(self) -> None:
        self.directory = directory(self.server, doorbell=True)

    def add_tool(self, name: str, uid: int) -> None:
        self.server.add(slapd.tool(name, uid))

    def add_user(self, name: str, uid: int) -> None:
        self.server.add(slapd.person(name, uid))
        self.server.modify(f"dn: {GROUP}\nchangetype: modify\nadd: member\nmember: uid={name},{PEOPLE}\n")

    def remove_tool(self, name: str) -> None:
        self.server.remove(f"uid=tools.{name},{TOOLS}")

    def lock_tool(self, name: str) -> None:
        self.server.lock(f"uid=tools.{name},{TOOLS}")

    def break_it(self) -> None:
        self.server.stop()


@pytest.fixture
def one() -> Iterator[Slapd]:
    with slapd.running(1, tls=True, ldif=BASIS) as (server,):
        yield server


class TestLdapDirectory(DirectoryContract):
    @pytest.fixture
    def lab(self, one: Slapd) -> LdapLab:
        return LdapLab(one)


# --- completeness ----------------------------------------------------------------------------------------------------


def test_more_entries_than_a_page_and_than_the_servers_limit() -> None:
    """upstream #46: listings were cut short without a word."""
    many = [slapd.tool(f"t{number}", 60000 + number) for number in range(1, 701)]
    with slapd.running(1, ldif=[*BASIS, *many], sizelimit=500) as (server,):
        assert len(of(tools(directory(server, page=100))).entries) == 701


def test_a_limit_on_all_pages_together_is_missing_and_not_short() -> None:
    many = [slapd.tool(f"t{number}", 60000 + number) for number in range(1, 301)]
    with slapd.running(1, ldif=[*BASIS, *many], sizelimit=100, prtotal="200") as (server,):
        made = directory(server, page=50)
        assert isinstance(tools(made), Missing)
        assert of(users(made)).entries, "the users are few enough"


def test_a_group_that_cannot_be_read_is_missing_and_the_tools_are_not(one: Slapd) -> None:
    one.remove(GROUP)
    made = directory(one)
    assert isinstance(users(made), Missing)
    assert set(of(tools(made)).entries) == {"s50001"}


def test_a_base_that_is_not_there_is_missing(one: Slapd) -> None:
    assert isinstance(tools(directory(one, tools_base="ou=nowhere,dc=wikimedia,dc=org")), Missing)


def test_an_empty_base_is_a_complete_and_empty_answer(one: Slapd) -> None:
    """Whether that can be is for others to judge: it is what the server says."""
    one.remove(f"uid=tools.first,{TOOLS}")
    assert of(tools(directory(one))).entries == {}


def test_a_server_that_hangs_is_missing_in_time(one: Slapd) -> None:
    one.freeze()
    started = time.monotonic()
    assert isinstance(tools(directory(one, connect_deadline=1.0, deadline=1.5)), Missing)
    assert time.monotonic() - started < HANGS
    one.thaw()


def test_a_wrong_password_is_missing(one: Slapd) -> None:
    assert isinstance(tools(directory(one, password=Secret("wrong"))), Missing)


def test_a_reader_that_may_not_see_the_group_gets_no_users(one: Slapd) -> None:
    made = directory(one, bind_dn="", password=Secret(""))
    assert all(isinstance(answer, Missing) for answer in made.listing().values())


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_a_certificate_of_another_authority_is_refused(one: Slapd, tmp_path: Path) -> None:
    other, _ = slapd.certificate(tmp_path)
    assert isinstance(tools(directory(one, ca_file=other)), Missing)
    assert isinstance(tools(directory(one, ca_file=None)), Missing), "nor are the system's authorities enough"
    assert of(tools(directory(one))).entries


def test_a_server_without_tls_gets_no_password() -> None:
    with slapd.running(1, ldif=BASIS) as (server,):
        settings = replace(server.settings(), tls=slapd.Tls.VERIFY)
        assert isinstance(tools(LdapDirectory(settings, UidRange(), SystemClock())), Missing)


# --- members ---------------------------------------------------------------------------------------------------------


def test_users_are_the_people_who_are_members(one: Slapd) -> None:
    assert set(of(users(directory(one))).entries) == {"u2170"}


def test_members_are_compared_as_names_and_not_as_text(one: Slapd) -> None:
    one.add(slapd.person("bob", 2171))
    one.modify(f"dn: {GROUP}\nchangetype: modify\nadd: member\nmember: UID=Bob , OU=People, DC=wikimedia,DC=org\n")
    assert set(of(users(directory(one))).entries) == {"u2170", "u2171"}


def test_a_member_from_elsewhere_is_said_and_not_followed(one: Slapd) -> None:
    one.modify(f"dn: {GROUP}\nchangetype: modify\nadd: member\nmember: uid=evil,ou=elsewhere,dc=example,dc=com\n")
    found = of(users(directory(one)))
    assert set(found.entries) == {"u2170"}
    assert any("elsewhere" in rejected.shown for rejected in found.rejected)


def test_two_entries_with_one_number_are_both_rejected(one: Slapd) -> None:
    one.add(slapd.tool("twin", 50001))
    found = of(tools(directory(one)))
    assert not found.entries and len(found.rejected) == 2


# --- two servers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[list[Slapd]]:
    with slapd.running(2, tls=True, ldif=BASIS) as servers:
        yield servers


def test_both_agree(pair: list[Slapd]) -> None:
    found = of(tools(directory(*pair)))
    assert found.agreed and len(found.servers) == 2 and set(found.entries) == {"s50001"}


@pytest.mark.parametrize("silent", [0, 1])
def test_with_one_silent_nobody_is_absent_and_newcomers_are_seen(pair: list[Slapd], silent: int) -> None:
    pair[1 - silent].add(slapd.tool("second", 50002))
    pair[silent].stop()
    found = of(tools(directory(*pair)))
    assert set(found.entries) == {"s50001", "s50002"}
    assert not found.agreed and "did not give" in found.doubt


@pytest.mark.parametrize("behind", [0, 1])
def test_with_one_behind_nobody_is_absent(pair: list[Slapd], behind: int) -> None:
    """What one server still has, or has already, is there."""
    pair[1 - behind].remove(f"uid=tools.first,{TOOLS}")
    pair[1 - behind].add(slapd.tool("second", 50002))
    found = of(tools(directory(*pair)))
    assert set(found.entries) == {"s50001", "s50002"}
    assert not found.agreed and f"{pair[behind].url} lacks 1 of 2 entries" in found.doubt


def test_with_one_behind_nobody_is_locked_or_unlocked(pair: list[Slapd]) -> None:
    pair[0].lock(f"uid=tools.first,{TOOLS}")
    assert of(tools(directory(*pair))).entries[DbUser("s50001")].locked is None
    pair[1].lock(f"uid=tools.first,{TOOLS}")
    assert of(tools(directory(*pair))).entries[DbUser("s50001")].locked is True
