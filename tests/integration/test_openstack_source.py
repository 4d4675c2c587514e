"""The OpenStack source over real HTTP, each trap of tests/openstack/README.md by its name.

What is asked in every one: does anything that fails look like an absence? (upstream #1, #2)
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from labstore.model.cloud import AddressKind, Instance, Presence
from labstore.ports.inventory import Snapshot
from labstore.reconcile.facts import Fact, Missing
from labstore.sources.openstack import OpenStackInventory
from labstore.sources.openstack.exchange import PAUSES
from labstore.sources.openstack.manners import Manners
from labstore.sources.openstack.region import VANISHED_LIMIT
from labstore.sources.openstack.reports import (
    LoginRefused,
    OnlyOwnProjects,
    RegionNotOffered,
    RegionStillAnswering,
    ServersVanished,
    ServerUnreadable,
    WrongScope,
)
from labstore.sources.openstack.single import HOPELESS
from labstore.system.clock import SystemClock
from tests.support.fake_cloud import REGION, FakeCloud, World, serving
from tests.support.hang import HANGS

OTHER = "codfw1dev-r"


class Site:
    """A cloud with three projects, and the inventory that looks at it."""

    def __init__(self, cloud: FakeCloud, directory: Path) -> None:
        self.cloud, self.world, self.directory = cloud, cloud.world, directory
        self.pauses: list[float] = []
        self.inventory = self.another()
        for number in range(4):
            self.world.boot(
                "tools", f"tools-{number}", f"172.16.1.{number + 1}", floating=["203.0.113.9"] * (number == 0)
            )
        for number in range(3):
            self.world.boot("maps", f"maps-{number}", f"172.16.2.{number + 1}")
        self.world.enrol("noinstances")

    def another(self, manners: Manners | None = None, **settings: Any) -> OpenStackInventory:
        """An inventory that has seen nothing yet."""
        wanted = self.cloud.settings(self.directory, **settings)
        return OpenStackInventory(wanted, SystemClock(), manners or Manners(pause=self.pauses.append))

    def id(self, project: str) -> str:
        return self.world.project(project).id

    def rules(self, *rules: dict[str, Any]) -> None:
        self.cloud.rules = rules


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(World()) as cloud:
        yield Site(cloud, tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Site]:
    """A site with a second region, in which maps has an instance too."""
    with serving(World([REGION, OTHER])) as cloud:
        site = Site(cloud, tmp_path)
        site.world.boot("maps", "maps-far", "172.17.2.1", region=OTHER)
        yield site


def seen(snapshot: Snapshot) -> dict[str, Instance]:
    return {instance.name: instance for instance in snapshot.instances()}


def names(snapshot: Snapshot, region: str = REGION, project: str = "") -> set[str]:
    """The instances that are known for a fact; raises AssertionError where it is not one."""
    answer = snapshot.regions[region].of(project)
    assert isinstance(answer, Fact), answer
    return {instance.name for instance in answer.value}


def texts(instance: Instance) -> set[str]:
    return {str(entry.address) for entry in instance.addresses or ()}


def why(snapshot: Snapshot, project: str = "nobody", region: str = REGION) -> str:
    """Why the instances of a project are not known; raises AssertionError where they are."""
    answer = snapshot.regions[region].of(project)
    assert isinstance(answer, Missing), answer
    return answer.report.message()


ALL = {"tools-0", "tools-1", "tools-2", "tools-3", "maps-0", "maps-1", "maps-2"}


# --- the good case ---------------------------------------------------------------------------------------------------


def test_one_login_and_one_listing_for_all_projects_and_looks(site: Site) -> None:
    snapshot = site.inventory.listing()
    assert set(seen(snapshot)) == ALL
    for _ in range(3):
        snapshot = site.inventory.changes(snapshot)
    assert site.cloud.count("auth/tokens") == 1
    assert site.cloud.count("servers/detail") == 4
    assert site.cloud.count() == 7  # with one look at the versions of Keystone
    assert (snapshot.requests, snapshot.missing()) == (1, ())


def test_nothing_changed_gives_the_very_same_view(site: Site) -> None:
    first = site.inventory.listing()
    second = site.inventory.changes(first)
    assert second.regions[REGION].instances is first.regions[REGION].instances


def test_fixed_and_floating_addresses_both_or_as_the_site_says(site: Site) -> None:
    assert texts(seen(site.inventory.listing())["tools-0"]) == {"172.16.1.1", "203.0.113.9"}
    fixed = site.another(addresses=frozenset({AddressKind.FIXED})).listing()
    assert texts(seen(fixed)["tools-0"]) == {"172.16.1.1"}
    floating = seen(site.another(addresses=frozenset({AddressKind.FLOATING})).listing())
    assert floating["tools-1"].addresses == ()


def test_pages_are_followed_by_marker_whatever_host_their_links_name(site: Site) -> None:
    site.world.most = 2
    snapshot = site.inventory.listing()
    assert set(seen(snapshot)) == ALL
    assert site.cloud.count("marker=") == 3
    assert snapshot.missing() == ()


def test_several_regions_side_by_side(two: Site) -> None:
    two.cloud.latency = 0.2
    started = time.monotonic()
    snapshot = two.inventory.listing()
    assert time.monotonic() - started < HANGS
    assert names(snapshot, OTHER, two.id("maps")) == {"maps-far"}
    assert names(snapshot, REGION, two.id("maps")) == {"maps-0", "maps-1", "maps-2"}
    assert names(snapshot, OTHER, two.id("tools")) == set()


def test_only_the_regions_that_the_site_names(two: Site) -> None:
    snapshot = two.another(regions=(OTHER,)).listing()
    assert list(snapshot.regions) == [OTHER]


def test_a_configured_region_that_the_catalog_lacks_is_missing(site: Site) -> None:
    snapshot = site.another(regions=(REGION, "closed-r")).listing()
    answer = snapshot.regions["closed-r"].others
    assert isinstance(answer, Missing)
    assert isinstance(answer.report, RegionNotOffered)


def test_a_region_that_leaves_the_catalog_is_missing_not_empty(two: Site) -> None:
    inventory = two.another(Manners(fresh_token=0.0))
    first = inventory.listing()
    two.world.regions.remove(OTHER)
    two.world.revoke()
    second = inventory.changes(first)
    third = inventory.changes(second)
    assert OTHER in why(third, two.id("maps"), OTHER)
    assert names(third, REGION, two.id("maps")) == {"maps-0", "maps-1", "maps-2"}


def test_projects_of_other_domains_are_not_ours(site: Site) -> None:
    site.world.enrol("tools-of-others", domain="other")
    projects = site.inventory.listing().projects
    assert isinstance(projects, Fact)
    assert {project.name for project in projects.value.values()} == {"home", "tools", "maps", "noinstances"}
    assert isinstance(site.another(domain="nowhere").listing().projects, Missing)


# --- wrong token scope -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "words"),
    [({"system_scope": "all"}, "system"), ({"domain_id": "default"}, "domain"), ({"user_domain_id": "default"}, "no")],
)
def test_wrong_token_scope_is_refused_and_a_corrected_file_is_taken(site: Site, scope: Any, words: str) -> None:
    site.cloud.clouds_file(site.directory, **scope)
    for _ in range(2):
        snapshot = site.inventory.listing()
        assert isinstance(snapshot.projects, Missing)
        assert snapshot.projects.report == WrongScope("fake", words)
        assert isinstance(snapshot.regions_known, Missing)
    assert site.cloud.count("servers") == 0
    site.cloud.clouds_file(site.directory)
    assert set(seen(site.inventory.listing())) == ALL


# --- logins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "{", "clouds: {}", "clouds: {fake: {auth_type: none}}", "\x00"], ids=repr)
def test_a_clouds_file_that_is_of_no_use_is_a_login_refused(site: Site, text: str | None) -> None:
    path = site.cloud.clouds_file(site.directory)
    path.unlink() if text is None else path.write_text(text)
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Missing)
    assert isinstance(snapshot.projects.report, LoginRefused)


def test_the_2019_outage_401_for_everything_takes_nothing_away_and_does_not_hammer(site: Site) -> None:
    snapshot = site.inventory.listing()
    site.rules({"status": 401})
    asked = site.cloud.count()
    for _ in range(20):
        snapshot = site.inventory.changes(snapshot)
        assert snapshot.missing()
        assert seen(snapshot) == {}
        assert isinstance(snapshot.regions[REGION].others, Missing)
    assert site.cloud.count() - asked <= 20 * 4
    assert set(site.inventory.confirm([Instance("x", "x", "p", REGION, "ACTIVE", ())]).values()) == {Presence.UNKNOWN}
    site.rules()
    assert set(seen(site.inventory.listing())) == ALL


def test_401_for_everything_from_the_start_does_not_hang(site: Site) -> None:
    """keystoneauth waits for its own lock for ever where even the list of versions answers 401 (seen)."""
    site.rules({"status": 401})
    started = time.monotonic()
    snapshot = site.inventory.listing()
    assert time.monotonic() - started < HANGS
    assert isinstance(snapshot.projects, Missing)
    site.rules()
    assert set(seen(site.inventory.listing())) == ALL


def test_a_token_that_dies_is_replaced_once(site: Site) -> None:
    inventory = site.another(Manners(fresh_token=0.0))
    snapshot = inventory.listing()
    site.world.revoke()
    snapshot = inventory.changes(snapshot)
    assert snapshot.missing() == ()
    assert site.cloud.count("auth/tokens") == 2


def test_servers_of_a_project_whose_tokens_died_are_not_gone(tmp_path: Path) -> None:
    """Several are asked at a time, and each meets the 401: none may go on with the login's token, with which Nova has
    never heard of a server of another project."""
    with serving(World(), latency=0.01) as cloud:
        site = Site(cloud, tmp_path)
        living = site.inventory.listing().instances()
        assert set(site.inventory.confirm(living).values()) == {Presence.PRESENT}
        for token in [token for token in site.world.tokens if token != next(iter(site.world.tokens))]:
            del site.world.tokens[token]
        assert len(site.world.tokens) == 1, "the login's"
        assert set(site.inventory.confirm(living).values()) == {Presence.PRESENT}


def test_a_fresh_token_that_is_refused_is_not_replaced(site: Site) -> None:
    snapshot = site.inventory.listing()
    site.rules({"service": "nova", "status": 401})
    for _ in range(3):
        snapshot = site.inventory.changes(snapshot)
        assert "HTTP 401" in why(snapshot)
    assert site.cloud.count("auth/tokens") == 1


def test_a_changed_password_is_missing_until_the_file_has_it(site: Site) -> None:
    inventory = site.another(Manners(fresh_token=0.0))
    inventory.listing()
    site.world.password = "changed"
    site.world.revoke()
    snapshot = inventory.listing()
    assert "HTTP 401" in why(snapshot, site.id("tools"))
    site.cloud.clouds_file(site.directory)
    assert set(seen(inventory.listing())) == ALL


def test_keystone_down_is_missing_from_the_start_and_in_between(site: Site) -> None:
    site.rules({"service": "keystone", "status": 503})
    assert isinstance(site.inventory.listing().projects, Missing)
    site.rules()
    snapshot = site.inventory.listing()
    site.rules({"service": "keystone", "status": 503})
    assert set(seen(site.inventory.changes(snapshot))) == ALL  # the token lives, and Nova is asked alone


def test_nothing_listens_at_keystone(tmp_path: Path) -> None:
    with serving(World()) as cloud:
        site = Site(cloud, tmp_path)
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Missing)
    assert isinstance(snapshot.projects.report, LoginRefused)


# --- projects --------------------------------------------------------------------------------------------------------


def test_the_list_of_projects_alone_fails(site: Site) -> None:
    site.rules({"service": "keystone", "path": "/v3/projects", "status": 503})
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Missing)
    assert set(seen(snapshot)) == ALL
    assert names(snapshot, project=site.id("noinstances")) == set()


def test_a_list_of_projects_that_keystone_cut_short_is_missing(site: Site) -> None:
    site.world.list_limit = 2
    answer = site.inventory.listing().projects
    assert isinstance(answer, Missing)
    assert "list_limit" in answer.report.message()


def test_a_sudden_empty_list_of_projects_is_missing(site: Site) -> None:
    site.inventory.listing()
    site.rules({"service": "keystone", "path": "/v3/projects", "empty": True})
    assert isinstance(site.inventory.listing().projects, Missing)


def test_a_disabled_project_stays_listed(site: Site) -> None:
    site.world.project("maps").enabled = False
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Fact)
    assert not snapshot.projects.value[site.id("maps")].enabled
    assert names(snapshot, project=site.id("maps")) == {"maps-0", "maps-1", "maps-2"}


def test_orphans_of_a_deleted_project_stay_listed_under_its_id(site: Site) -> None:
    site.inventory.listing()
    site.world.project("maps").gone = True
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Fact)
    assert site.id("maps") not in snapshot.projects.value
    assert names(snapshot, project=site.id("maps")) == {"maps-0", "maps-1", "maps-2"}


# --- policy: project by project --------------------------------------------------------------------------------------


def test_where_policy_forbids_all_tenants_projects_are_asked_one_by_one_a_few_at_a_time(site: Site) -> None:
    for number in range(40):
        site.world.boot(f"extra-{number}", f"extra-{number}", f"172.16.9.{number + 1}")
    site.world.may_list_all = False
    site.cloud.latency = 0.02
    snapshot = site.inventory.listing()
    assert snapshot.missing() == ()
    assert set(seen(snapshot)) == {*ALL, *(f"extra-{number}" for number in range(40))}
    assert 2 <= site.cloud.busiest <= 8
    assert names(snapshot, project=site.id("noinstances")) == set()


def test_one_by_one_new_and_deleted_instances_are_seen_in_between(site: Site) -> None:
    site.world.may_list_all = False
    snapshot = site.inventory.listing()
    logins = site.cloud.count("auth/tokens")
    site.world.boot("maps", "maps-new", "172.16.2.9")
    gone = site.world.boot("maps", "maps-brief", "172.16.2.10")
    site.world.delete(gone)
    snapshot = site.inventory.changes(snapshot)
    assert names(snapshot, project=site.id("maps")) == {"maps-0", "maps-1", "maps-2", "maps-new"}
    assert gone.id in snapshot.regions[REGION].deleted
    assert site.cloud.count("auth/tokens") == logins


def test_401_for_one_project_is_that_projects_own_trouble(site: Site) -> None:
    """upstream #3: a deleted or closed project answers 401 like everything else"""
    site.world.may_list_all = False
    site.world.project("maps").role = False
    snapshot = site.inventory.listing()
    assert "maps" in why(snapshot, site.id("maps"))
    assert names(snapshot, project=site.id("tools")) == {"tools-0", "tools-1", "tools-2", "tools-3"}
    assert site.cloud.count("auth/tokens") <= 5


def test_many_closed_projects_do_not_close_the_others(site: Site) -> None:
    closed = [site.world.enrol(f"a-closed-{number}", role=False) for number in range(2 * HOPELESS)]
    site.world.projects = {project.id: project for project in closed} | site.world.projects
    site.world.may_list_all = False
    assert set(seen(site.inventory.listing())) == ALL


def test_a_disabled_project_cannot_be_asked_one_by_one(site: Site) -> None:
    site.world.may_list_all = False
    site.world.project("maps").enabled = False
    snapshot = site.inventory.listing()
    assert "disabled" in why(snapshot, site.id("maps"))
    assert site.cloud.count("POST") == 3  # home, tools, noinstances; home is where the login is


def test_where_only_own_projects_are_shown_the_others_are_missing(site: Site) -> None:
    site.world.may_list_all = site.world.may_list_projects = False
    site.world.project("maps").role = False
    snapshot = site.inventory.listing()
    assert isinstance(snapshot.projects, Fact)
    assert {project.name for project in snapshot.projects.value.values()} == {"home", "tools", "noinstances"}
    answer = snapshot.regions[REGION].of(site.id("maps"))
    assert isinstance(answer, Missing)
    assert answer.report == OnlyOwnProjects("fake")
    assert names(snapshot, project=site.id("noinstances")) == set()


def test_policy_that_comes_back_is_used_again(site: Site) -> None:
    site.world.may_list_all = False
    site.inventory.listing()
    site.world.may_list_all = True
    site.cloud.asked.clear()
    assert set(seen(site.inventory.listing())) == ALL
    assert site.cloud.count("servers/detail") == 1


# --- one broken server -----------------------------------------------------------------------------------------------


def test_one_broken_server_does_not_blind_all(site: Site) -> None:
    broken = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    broken.broken = True
    site.world.changed(broken, stamp=False)
    snapshot = site.inventory.listing()
    assert "HTTP 500" in why(snapshot, site.id("maps"))
    assert names(snapshot, project=site.id("tools")) == {"tools-0", "tools-1", "tools-2", "tools-3"}
    broken.broken = False
    site.world.changed(broken, stamp=False)
    assert set(seen(site.inventory.listing())) == ALL


def test_one_server_that_breaks_in_between_too(site: Site) -> None:
    snapshot = site.inventory.listing()
    broken = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    broken.broken = True
    site.world.changed(broken)
    snapshot = site.inventory.changes(snapshot)
    assert "HTTP 500" in why(snapshot, site.id("maps"))
    assert names(snapshot, project=site.id("tools")) == {"tools-0", "tools-1", "tools-2", "tools-3"}


def test_500_for_every_project_is_missing_and_does_not_hammer(site: Site) -> None:
    for number in range(40):
        site.world.boot(f"extra-{number}", f"extra-{number}", f"172.16.9.{number + 1}")
    site.rules({"service": "nova", "status": 500})
    snapshot = site.inventory.listing()
    assert "HTTP 500" in why(snapshot, site.id("maps"))
    assert "HTTP 500" in why(snapshot, site.id("extra-39"))
    assert site.cloud.count("servers/detail") <= 1 + HOPELESS + 8


def test_a_server_of_an_unknown_shape_is_an_error_of_its_project(site: Site) -> None:
    """upstream #8"""
    site.world.boot("maps", "maps-odd", "172.16.2.9", shape={"addresses": {"lan": [{"ip": "172.16.2.9"}]}})
    snapshot = site.inventory.listing()
    answer = snapshot.regions[REGION].of(site.id("maps"))
    assert isinstance(answer, Missing)
    assert isinstance(answer.report, ServerUnreadable)
    assert names(snapshot, project=site.id("tools")) == {"tools-0", "tools-1", "tools-2", "tools-3"}
    assert site.inventory.changes(snapshot).regions[REGION].of(site.id("maps")) == answer


# --- servers that say little -----------------------------------------------------------------------------------------


def test_a_server_being_built_is_in_doubt_until_it_has_addresses(site: Site) -> None:
    snapshot = site.inventory.listing()
    new = site.world.boot("maps", "maps-new", status="BUILD", task="scheduling")
    snapshot = site.inventory.changes(snapshot)
    assert seen(snapshot)["maps-new"].addresses is None
    new.status, new.task, new.addresses = "ACTIVE", None, [("fixed", "172.16.2.9")]
    site.world.changed(new)
    assert texts(seen(site.inventory.changes(snapshot))["maps-new"]) == {"172.16.2.9"}


def test_a_server_without_addresses_is_in_doubt(site: Site) -> None:
    site.world.boot("maps", "maps-failed", status="ERROR")
    assert seen(site.inventory.listing())["maps-failed"].addresses is None


def test_an_empty_info_cache_is_doubt_not_loss(site: Site) -> None:
    site.inventory.listing()
    server = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    server.addresses = []
    site.world.changed(server, stamp=False)
    assert seen(site.inventory.listing())["maps-1"].addresses is None


def test_a_floating_address_is_seen_by_the_next_listing_not_before(site: Site) -> None:
    site.inventory.listing()
    server = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    server.addresses.append(("floating", "203.0.113.10"))
    site.world.changed(server, stamp=False)
    time.sleep(1.1)
    assert texts(seen(site.inventory.listing())["maps-1"]) == {"172.16.2.2", "203.0.113.10"}


# --- cells -----------------------------------------------------------------------------------------------------------


def test_cell_down_shows_servers_without_addresses_and_takes_none_away(site: Site) -> None:
    site.inventory.listing()
    site.world.down = {"cell1"}
    snapshot = site.inventory.listing()
    assert len(snapshot.instances()) == len(ALL)
    assert {(each.status, each.addresses) for each in snapshot.instances()} == {("UNKNOWN", None)}
    site.world.down = set()
    assert set(seen(site.inventory.listing())) == ALL


def test_cell_down_behind_a_full_first_page_takes_none_away(site: Site) -> None:
    """Nova leaves the dead cell out although the microversion is right, and calls the list complete (seen)."""
    for number in range(4):
        site.world.boot("tools", f"tools-east-{number}", f"172.16.8.{number + 1}", cell="cell2")
    site.world.most = 2
    before = {instance.id for instance in site.inventory.listing().instances()}
    site.world.down = {"cell1"}
    snapshot = site.inventory.listing()
    assert {instance.id for instance in snapshot.instances()} == before
    dead = [instance for instance in snapshot.instances() if instance.status == "UNKNOWN"]
    assert len(dead) == len(ALL)
    assert all(instance.addresses is None for instance in dead)


def test_cell_down_in_between_changes_nothing(site: Site) -> None:
    snapshot = site.inventory.listing()
    site.world.down = {"cell1"}
    snapshot = site.inventory.changes(snapshot)
    assert set(seen(snapshot)) == ALL
    assert all(instance.addresses for instance in snapshot.instances())


def test_cell_down_is_no_proof_when_asked_for(site: Site) -> None:
    instances = site.inventory.listing().instances()
    site.world.down = {"cell1"}
    assert set(site.inventory.confirm(instances).values()) == {Presence.PRESENT}


def test_a_nova_that_cannot_say_that_a_cell_is_down_is_not_believed(site: Site) -> None:
    site.world.newest = 60
    assert "2.69" in why(site.inventory.listing()) or "406" in why(site.inventory.listing())


def test_a_proxy_that_drops_the_microversion_is_not_believed(site: Site) -> None:
    site.world.drops_version = True
    site.world.down = {"cell1"}
    assert "2.69" in why(site.inventory.listing(), site.id("tools"))


# --- lists that lie --------------------------------------------------------------------------------------------------


def test_a_sudden_empty_list_of_everything_takes_nothing_away(site: Site) -> None:
    site.inventory.listing()
    site.rules({"service": "nova", "path": r"servers/detail\?all_tenants=1$", "empty": True})
    assert set(seen(site.inventory.listing())) == ALL


def test_a_sudden_empty_list_of_one_project_takes_nothing_away(site: Site) -> None:
    site.world.may_list_all = False
    site.inventory.listing()
    site.rules({"service": "nova", "project": "maps", "path": "servers/detail", "empty": True})
    assert names(site.inventory.listing(), project=site.id("maps")) == {"maps-0", "maps-1", "maps-2"}


def test_half_a_list_takes_nothing_away(site: Site) -> None:
    site.inventory.listing()
    for server in list(site.world.by_id.values())[::2]:
        server.hidden = True
        site.world.changed(server, stamp=False)
    assert set(seen(site.inventory.listing())) == ALL


def test_what_vanished_and_cannot_be_asked_for_is_doubt(site: Site) -> None:
    site.inventory.listing()
    site.rules(
        {"service": "nova", "path": r"servers/detail\?all_tenants=1$", "empty": True},
        {"service": "nova", "path": "servers/|uuid=", "status": 500},
    )
    answer = site.inventory.listing().regions[REGION].of(site.id("maps"))
    assert isinstance(answer, Missing)
    assert isinstance(answer.report, ServersVanished)
    assert answer.report.count == 3
    site.rules({"service": "nova", "path": r"servers/detail\?all_tenants=1$", "empty": True})
    assert set(seen(site.inventory.listing())) == ALL


def test_too_many_vanish_at_once_to_ask_for_each(site: Site) -> None:
    for number in range(VANISHED_LIMIT):
        site.world.boot("many", f"many-{number}", f"172.16.{16 + number // 200}.{number % 200 + 1}")
    site.inventory.listing()
    site.cloud.asked.clear()
    site.rules({"service": "nova", "path": "servers/detail", "empty": True})
    snapshot = site.inventory.listing()
    assert "nothing says deleted" in why(snapshot, site.id("many"))
    assert "nothing says deleted" in why(snapshot, site.id("maps"))
    assert site.cloud.count("nova|compute") == 1


SPOILT: list[tuple[str, dict[str, Any]]] = [
    ("truncated body", {"truncate": 700}),
    ("cut after a byte", {"truncate": 1}),
    ("an object without servers", {"status": 200, "body": {}}),
    ("null", {"status": 200, "body": None}),
    ("a list", {"status": 200, "body": []}),
    ("a page", {"status": 200, "body": "<html>hello</html>"}),
    ("nothing", {"status": 200, "body": ""}),
    ("no content", {"status": 204, "body": ""}),
    ("somewhere else", {"status": 302, "body": "", "headers": {"Location": "http://127.0.0.1:1/"}}),
    ("400", {"status": 400}),
    ("401", {"status": 401}),
    ("404", {"status": 404}),
    ("429", {"status": 429}),
    ("500", {"status": 500}),
    ("502", {"status": 502, "body": "<html>Bad Gateway</html>"}),
    ("503", {"status": 503}),
    ("504", {"status": 504}),
]


@pytest.mark.parametrize(("_what", "rule"), SPOILT, ids=[what for what, _ in SPOILT])
@pytest.mark.parametrize("full", [True, False], ids=["listing", "changes"])
def test_a_spoilt_answer_is_missing_and_heals(site: Site, _what: str, rule: dict[str, Any], full: bool) -> None:
    first = site.inventory.listing()
    site.rules({"service": "nova", **rule})
    snapshot = site.inventory.listing() if full else site.inventory.changes(first)
    assert snapshot.missing()
    assert seen(snapshot) == {}
    why(snapshot, site.id("tools"))
    assert snapshot.regions[REGION].deleted == {}
    site.rules()
    healed = site.inventory.changes(snapshot)
    assert (set(seen(healed)), healed.missing()) == (ALL, ())


def test_a_token_is_not_carried_to_wherever_an_answer_points(site: Site) -> None:
    with serving(World()) as stranger:
        elsewhere = {"Location": f"{stranger.url}/compute/{REGION}/v2.1/servers/detail"}
        site.rules({"service": "nova", "status": 302, "body": "", "headers": elsewhere})
        assert "302" in why(site.inventory.listing())
        assert stranger.asked == []


def test_page_2_failing_is_no_list(site: Site) -> None:
    site.world.most = 2
    site.rules({"service": "nova", "path": "marker=", "status": 503})
    snapshot = site.inventory.listing()
    assert "503" in why(snapshot, site.id("tools"))
    assert seen(snapshot) == {}


def test_page_2_failing_for_the_one_broken_server_on_it(site: Site) -> None:
    site.world.most = 2
    site.rules({"service": "nova", "path": "all_tenants=1&marker=", "status": 500})
    assert set(seen(site.inventory.listing())) == ALL  # project by project


def test_a_marker_that_is_no_longer_known_is_no_list(site: Site) -> None:
    site.world.most = 2
    message = {"badRequest": {"code": 400, "message": "marker [x] not found"}}
    site.rules({"service": "nova", "path": "marker=", "status": 400, "body": message})
    assert "marker [x] not found" in why(site.inventory.listing())


def test_pages_that_go_round_in_a_circle_end(site: Site) -> None:
    row = next(iter(site.world.by_id.values())).json()
    link = {"rel": "next", "href": "http://nova/servers/detail?marker=same"}
    site.rules({"service": "nova", "status": 200, "body": {"servers": [row], "servers_links": [link]}})
    assert "circle" in why(site.inventory.listing())
    assert site.cloud.count("servers/detail") == 2


def test_an_answer_without_end_is_not_taken(site: Site) -> None:
    site.rules({"service": "nova", "status": 200, "body": " " * (65 << 20)})
    assert "bytes" in why(site.inventory.listing())


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_slow_answer_within_the_deadline_is_an_answer(site: Site) -> None:
    site.rules({"service": "nova", "delay": 1.0})
    assert set(seen(site.inventory.listing())) == ALL


def test_a_slow_answer_beyond_the_deadline_is_missing(site: Site) -> None:
    inventory = site.another(call_deadline=0.5)
    inventory.listing()
    site.rules({"service": "nova", "delay": 2.0})
    started = time.monotonic()
    assert "timed out" in why(inventory.listing())
    assert time.monotonic() - started < HANGS


def test_the_whole_listing_has_a_deadline(site: Site) -> None:
    site.world.most = 1
    site.rules({"service": "nova", "delay": 0.3})
    started = time.monotonic()
    snapshot = site.another(listing_deadline=1.0).listing()
    assert time.monotonic() - started < HANGS
    why(snapshot)


def test_a_server_that_sends_a_byte_now_and_then_does_not_hold_us(site: Site) -> None:
    with dribbling() as port:
        site.cloud.cloud.base = f"http://127.0.0.1:{port}"  # the catalog leads there
        inventory = site.another(call_deadline=0.6)
        started = time.monotonic()
        assert "timed out" in why(inventory.listing())
        assert time.monotonic() - started < HANGS


@contextmanager
def dribbling() -> Iterator[int]:
    """A port where every answer begins well and never ends."""
    stop = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not stop.wait(0.1):
                connection.sendall(b" ")

    def accept() -> None:
        with suppress(OSError):
            while not stop.is_set():
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        stop.set()


def test_a_region_that_is_down_leaves_the_other_alone(two: Site) -> None:
    first = two.inventory.listing()
    two.rules({"region": OTHER, "status": 503})
    two.world.boot("tools", "tools-new", "172.16.1.77")
    snapshot = two.inventory.changes(first)
    assert "503" in why(snapshot, two.id("maps"), OTHER)
    assert "tools-new" in names(snapshot, REGION, two.id("tools"))


def test_a_region_that_hangs_does_not_hold_up_the_other(two: Site) -> None:
    inventory = two.another(Manners(patience=0.3))
    snapshot = inventory.listing()
    two.rules({"region": OTHER, "delay": 2.0})
    two.world.boot("tools", "tools-new", "172.16.1.77")
    for _ in range(3):
        started = time.monotonic()
        snapshot = inventory.changes(snapshot)
        assert time.monotonic() - started < HANGS
        answer = snapshot.regions[OTHER].others
        assert isinstance(answer, Missing)
        assert isinstance(answer.report, RegionStillAnswering)
        assert "tools-new" in names(snapshot, REGION, two.id("tools"))
    two.rules()
    healed = wait_for(lambda: inventory.changes(snapshot), lambda found: not found.missing())
    assert names(healed, OTHER, two.id("maps")) == {"maps-far"}


def test_a_region_that_failed_slowly_rests_before_it_is_asked_again(two: Site) -> None:
    inventory = two.another(Manners(slow=0.2, rest=(0.8,)), call_deadline=0.4)
    snapshot = inventory.listing()
    two.rules({"region": OTHER, "delay": 1.0})
    snapshot = inventory.changes(snapshot)
    asked = two.cloud.count(OTHER)
    snapshot = inventory.changes(snapshot)
    assert two.cloud.count(OTHER) == asked
    two.rules()
    healed = wait_for(lambda: inventory.changes(snapshot), lambda found: not found.missing())
    assert names(healed, OTHER, two.id("maps")) == {"maps-far"}


def wait_for(look: Callable[[], Snapshot], good: Callable[[Snapshot], bool], seconds: float = 10.0) -> Snapshot:
    deadline = time.monotonic() + seconds
    while not good(snapshot := look()):
        assert time.monotonic() < deadline, snapshot.missing()
        time.sleep(0.1)
    return snapshot


def test_429_and_503_are_asked_again_politely(site: Site) -> None:
    site.inventory.listing()
    for status in (429, 503):
        site.cloud.asked.clear()
        site.rules({"service": "nova", "status": status})
        site.inventory.listing()
        assert site.cloud.count("servers/detail") == 1 + len(PAUSES)
    assert site.pauses == [*PAUSES, *PAUSES]


def test_retry_after_is_honoured_up_to_a_cap(site: Site) -> None:
    site.inventory.listing()
    site.rules({"service": "nova", "status": 503, "headers": {"Retry-After": "1"}})
    site.inventory.listing()
    assert site.pauses == [1.0, 1.0]
    site.cloud.asked.clear()
    site.rules({"service": "nova", "status": 503, "headers": {"Retry-After": "12"}})
    site.another().listing()
    assert site.cloud.count("servers/detail") == 1


# --- changes ---------------------------------------------------------------------------------------------------------


def test_deleted_servers_of_every_project_are_positive_proof(site: Site) -> None:
    snapshot = site.inventory.listing()
    gone = [server for server in site.world.by_id.values() if server.name in ("maps-1", "tools-3")]
    for server in gone:
        site.world.delete(server)
    snapshot = site.inventory.changes(snapshot)
    assert set(snapshot.regions[REGION].deleted) == {server.id for server in gone}
    assert set(seen(snapshot)) == ALL - {"maps-1", "tools-3"}
    assert set(site.inventory.listing().regions[REGION].deleted) == {server.id for server in gone}


def test_a_server_deleted_and_archived_between_two_listings_is_asked_for(site: Site) -> None:
    site.inventory.listing()
    gone = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    site.world.archive(gone)
    snapshot = site.inventory.listing()
    assert gone.id in snapshot.regions[REGION].deleted
    assert names(snapshot, project=site.id("maps")) == {"maps-0", "maps-2"}


def test_a_server_that_is_only_softly_deleted_is_still_there(site: Site) -> None:
    site.inventory.listing()
    server = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    server.status, server.hidden = "SOFT_DELETED", True
    site.world.changed(server)
    snapshot = site.inventory.listing()
    assert seen(snapshot)["maps-1"].status == "SOFT_DELETED"
    assert server.id not in snapshot.regions[REGION].deleted


@pytest.mark.parametrize("hours", [-2, 0, 2], ids="server {} h".format)
@pytest.mark.parametrize("dates", [True, False], ids=["Date header", "no Date header"])
def test_changes_are_asked_for_in_the_servers_own_time(tmp_path: Path, hours: int, dates: bool) -> None:
    world = World()
    world.ahead, world.dates = timedelta(hours=hours), dates
    with serving(world) as cloud:
        site = Site(cloud, tmp_path)
        snapshot = site.inventory.listing()
        site.world.boot("maps", "maps-new", "172.16.2.9")
        snapshot = site.inventory.changes(snapshot)
        site.world.delete(next(server for server in site.world.by_id.values() if server.name == "maps-new"))
        site.world.boot("maps", "maps-newer", "172.16.2.10")
        assert names(site.inventory.changes(snapshot), project=site.id("maps")) == {
            "maps-0",
            "maps-1",
            "maps-2",
            "maps-newer",
        }


def test_a_server_stamped_in_the_future_does_not_hide_later_changes(site: Site) -> None:
    odd = site.world.boot("maps", "maps-future", "172.16.2.8")
    odd.updated = site.world.now() + timedelta(hours=5)
    site.world.changed(odd, stamp=False)
    snapshot = site.inventory.listing()
    site.world.boot("maps", "maps-new", "172.16.2.9")
    assert "maps-new" in seen(site.inventory.changes(snapshot))


def test_an_empty_cloud_is_listed_again_instead(tmp_path: Path) -> None:
    with serving(World()) as cloud:
        inventory = OpenStackInventory(cloud.settings(tmp_path), SystemClock())
        snapshot = inventory.listing()
        assert snapshot.missing() == ()
        cloud.world.boot("home", "first", "172.16.1.1")
        assert set(seen(inventory.changes(snapshot))) == {"first"}


def test_a_snapshot_of_somebody_else_is_answered_with_a_listing(site: Site) -> None:
    foreign = site.another().listing()
    site.inventory.listing()
    site.cloud.asked.clear()
    site.inventory.changes(foreign)
    assert site.cloud.count("changes-since") == 0


# --- confirm ---------------------------------------------------------------------------------------------------------


def test_a_server_is_asked_for_by_its_own_project_not_by_the_logins(site: Site) -> None:
    """Nova says 404 of a server that lives when another project asks (seen): the worst of all the traps."""
    instances = site.inventory.listing().instances()
    site.rules({"service": "nova", "path": "uuid=", "status": 403})
    assert set(site.inventory.confirm(instances).values()) == {Presence.PRESENT}


def test_a_filter_that_policy_drops_is_no_answer(site: Site) -> None:
    instances = site.inventory.listing().instances()
    row = next(iter(site.world.by_id.values())).json() | {"id": "some-other-server", "status": "DELETED"}
    site.rules(
        {"service": "nova", "path": "uuid=", "status": 200, "body": {"servers": [row]}},
        {"service": "nova", "status": 500},
    )
    assert set(site.inventory.confirm(instances).values()) == {Presence.UNKNOWN}


def test_a_404_that_is_not_novas_own_is_no_proof(site: Site) -> None:
    instances = site.inventory.listing().instances()
    for body in ("<html>404 no such vhost</html>", {"error": {"code": 404}}, {}):
        site.rules(
            {"service": "nova", "path": "uuid=", "status": 403}, {"service": "nova", "status": 404, "body": body}
        )
        assert set(site.inventory.confirm(instances).values()) == {Presence.UNKNOWN}


def test_a_deleted_server_of_a_project_that_is_closed_is_known_by_its_record(site: Site) -> None:
    instances = seen(site.inventory.listing())
    gone = next(server for server in site.world.by_id.values() if server.name == "maps-1")
    site.world.delete(gone)
    site.world.project("maps").gone = True
    assert site.inventory.confirm([instances["maps-1"], instances["maps-0"]]) == {
        gone.id: Presence.GONE,
        instances["maps-0"].id: Presence.PRESENT,
    }
    site.world.archive(gone)
    assert site.inventory.confirm([instances["maps-1"]]) == {gone.id: Presence.UNKNOWN}


def test_a_region_that_is_not_known_confirms_nothing(site: Site) -> None:
    site.inventory.listing()
    stranger = Instance("x", "x", "p", "closed-r", "ACTIVE", ())
    assert site.inventory.confirm([stranger]) == {"x": Presence.UNKNOWN}


def test_confirm_keeps_its_deadline(site: Site) -> None:
    inventory = site.another(call_deadline=0.5, concurrency=2)
    instances = inventory.listing().instances()
    site.rules({"service": "nova", "delay": 2.0})
    started = time.monotonic()
    assert set(inventory.confirm(instances).values()) == {Presence.UNKNOWN}
    assert time.monotonic() - started < HANGS


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_anything_that_is_said(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    snapshot = site.inventory.listing()
    site.rules({"status": 401})
    snapshot = site.inventory.changes(snapshot)
    said = json.dumps([missing.report.to_dict() for missing in snapshot.missing()]) + "".join(capfd.readouterr())
    assert "token-" not in said
    assert site.world.password not in said
