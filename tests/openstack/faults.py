"""Everything that is done to the cloud, by real means and on demand, and what an inventory may then not know.

One law holds in all of them: nothing that was seen before is ever absent. Beyond it each fault says what is Missing
(`Blind`), so that the test of the source, and of the daemon, can check that no more is.

    with provoked(fault, lab):
        ...
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.openstack.cloud import OBSERVER, PASSWORD, REGIONS, Lab, Undo, eventually

FIRST, SECOND = REGIONS
BOTH = frozenset(REGIONS)
BROKEN_SERVER = "maps-wma1"


@dataclass(frozen=True)
class Blind:
    """What cannot be known while a fault lasts: whole regions, single projects (in every region), the projects.

    `untold` are regions whose instances are seen but not their addresses.
    """

    regions: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    list_of_projects: bool = False
    untold: frozenset[str] = frozenset()


NOTHING = Blind()
EVERYTHING = Blind(regions=BOTH, list_of_projects=True)
SERVERS = Blind(regions=BOTH)
MAPS = Blind(projects=frozenset({"maps"}))
FAR = Blind(regions=frozenset({SECOND}))
FAR_UNTOLD = Blind(untold=frozenset({SECOND}))


@dataclass(frozen=True)
class Fault:
    """`provoke` registers how it is undone. `deadline` in seconds is what one call may take.

    `plausible`: the lie is perfect; an inventory that has not looked before takes it for the truth, and only asking for
    single instances shows it (which is why no listing alone may ever cost an instance that was once admitted).
    """

    name: str
    provoke: Callable[[Lab, Undo], None]
    blind: Blind
    deadline: float = 20.0
    plausible: bool = False


@contextmanager
def provoked(fault: Fault, lab: Lab) -> Iterator[None]:
    undo = Undo()
    try:
        fault.provoke(lab, undo)
        yield
    finally:
        undo.now()


# --- Keystone, by real means -----------------------------------------------------------------------------------------


def change_password(lab: Lab, undo: Undo) -> None:
    identity = lab.admin().identity
    user = identity.find_user(OBSERVER, domain_id="default")
    undo.later(lambda: identity.update_user(user, password=PASSWORD))
    identity.update_user(user, password="something else")


def disable_user(lab: Lab, undo: Undo) -> None:
    identity = lab.admin().identity
    user = identity.find_user(OBSERVER, domain_id="default")
    undo.later(lambda: identity.update_user(user, is_enabled=True))
    identity.update_user(user, is_enabled=False)


def take_roles(project: str) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        identity = lab.admin().identity
        user = identity.find_user(OBSERVER, domain_id="default")
        roles = [identity.find_role(name) for name in ("reader", "observer")]
        where = identity.find_project(project, domain_id="default")
        for role in roles:
            undo.later(lambda role=role: identity.assign_project_role_to_user(where, user, role))
            identity.unassign_project_role_from_user(where, user, role)

    return provoke


def disable_project(project: str) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        identity = lab.admin().identity
        where = identity.find_project(project, domain_id="default")
        undo.later(lambda: identity.update_project(where, is_enabled=True))
        identity.update_project(where, is_enabled=False)

    return provoke


def delete_project(lab: Lab, undo: Undo) -> None:
    """Its servers stay, as orphans; the seed makes another project of that name, with other servers."""
    identity = lab.admin().identity
    undo.later(lab.seed)
    identity.delete_project(identity.find_project("deleted-soon", domain_id="default"))


# --- services, by real means -----------------------------------------------------------------------------------------


def stop(service: str) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        undo.later(lambda: lab.up(service))
        lab.down(service)

    return provoke


def freeze(service: str) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        undo.later(lambda: lab.signal(service, signal.SIGCONT))
        lab.signal(service, signal.SIGSTOP)

    return provoke


# --- the database, by real means -------------------------------------------------------------------------------------


def info_cache(content: str) -> Callable[[Lab, Undo], None]:
    """Nova's cached addresses of one server of maps."""

    def provoke(lab: Lab, undo: Undo) -> None:
        server = lab.sql(f"select uuid from nova.instances where display_name='{BROKEN_SERVER}' and deleted=0")
        where = f"where instance_uuid='{server}'"
        kept = lab.sql(f"select hex(network_info) from nova.instance_info_caches {where}")
        put = "update nova.instance_info_caches set network_info={} " + where
        undo.later(lambda: lab.sql(put.format(f"unhex('{kept}')")))
        lab.sql(put.format(f"'{content}'"))

    return provoke


def rename_instances(lab: Lab, undo: Undo) -> None:
    undo.later(lambda: lab.sql("rename table nova.instances_away to nova.instances"))
    lab.sql("rename table nova.instances to nova.instances_away")


def lose_cell(lab: Lab, undo: Undo) -> None:
    """The database of cell1 is out of reach for the second region's API alone."""
    kept = lab.sql("select database_connection from nova_api.cell_mappings where name='cell1'")
    put = "update nova_api.cell_mappings set database_connection='{}' where name='cell1'"

    def restart() -> None:
        lab.down("nova-api-r2")
        lab.up("nova-api-r2")

    undo.later(restart)
    undo.later(lambda: lab.sql(put.format(kept)))
    lab.sql(put.format(kept.replace("mysql.sock", "gone.sock")))
    restart()


def small_pages(lab: Lab, undo: Undo) -> None:
    """Pages of two servers, from both APIs."""

    def restart() -> None:
        lab.down("nova-api", "nova-api-r2")
        lab.up("nova-api", "nova-api-r2")

    undo.later(restart)
    undo.later(lab.knobs)
    lab.knobs(LAB_MAX_LIMIT="2")
    restart()


def fail_builds(lab: Lab, undo: Undo) -> None:
    """Two servers that no host can take: they stay in cell0, in ERROR, without addresses."""
    compute = lab.admin("maps").compute
    flavor = compute.create_flavor(name="impossible", ram=1 << 24, vcpus=1, disk=1)
    undo.later(lambda: compute.delete_flavor(flavor))
    for number in range(2):
        server = lab.boot("maps", f"failed-{number}", wait=False, flavor_id=flavor.id)
        undo.later(lambda server=server: compute.delete_server(server))
    failed = "select count(*) from nova_cell0.instances where display_name like 'failed-%' and deleted=0"
    eventually(lambda: lab.sql(failed) == "2")


def lose_cell_behind_a_full_page(lab: Lab, undo: Undo) -> None:
    """The living cell0 fills the first page, so that Nova does not show that cell1 is down."""
    fail_builds(lab, undo)
    small_pages(lab, undo)
    lose_cell(lab, undo)


def build_without_scheduler(lab: Lab, undo: Undo) -> None:
    """A server that stays in BUILD."""
    compute = lab.admin("maps").compute
    undo.later(lambda: lab.up("nova-scheduler"))
    lab.down("nova-scheduler")
    server = lab.boot("maps", "waiting", wait=False)
    undo.later(lambda: compute.delete_server(server))


def stock_policy(lab: Lab, undo: Undo) -> None:
    """Upstream's policy: no all_tenants, no list of all projects; project by project."""
    token = lab.token("tools")

    def listed() -> int:
        return lab.nova("/servers/detail?all_tenants=1&limit=1", token).status

    undo.later(lambda: eventually(lambda: listed() == 200))
    undo.later(lab.knobs)
    lab.knobs(LAB_POLICY="stock")
    eventually(lambda: listed() == 403)


# --- on demand -------------------------------------------------------------------------------------------------------


def rule(**wanted: object) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        undo.later(lab.fault)
        lab.fault(wanted)

    return provoke


def both(*provocations: Callable[[Lab, Undo], None]) -> Callable[[Lab, Undo], None]:
    def provoke(lab: Lab, undo: Undo) -> None:
        for each in provocations:
            each(lab, undo)

    return provoke


BY_REAL_MEANS = (
    Fault("password changed", change_password, EVERYTHING),
    Fault("user disabled", disable_user, EVERYTHING),
    Fault("no role in a project", take_roles("maps"), NOTHING),
    # its token lives on without a role: 403 for all projects at once, so each project and then each server by itself
    Fault("no role in the login's project", take_roles("tools"), NOTHING),
    Fault("project disabled", disable_project("maps"), NOTHING),
    Fault("the login's project disabled", disable_project("tools"), EVERYTHING),
    Fault("project deleted, servers orphaned", delete_project, NOTHING),
    Fault("keystone down", stop("keystone"), EVERYTHING),
    Fault("region down", stop("nova-api-r2"), FAR),
    Fault("region frozen", freeze("nova-api-r2"), FAR, deadline=5.0),
    Fault("broken info cache of one server", info_cache("{not json"), MAPS),
    Fault("empty info cache of one server", info_cache("[]"), NOTHING),
    Fault("table of instances away", rename_instances, SERVERS),
    Fault("cell down", lose_cell, FAR_UNTOLD),
    Fault("cell down behind a full page", lose_cell_behind_a_full_page, FAR_UNTOLD, plausible=True),
    Fault("builds that failed", fail_builds, NOTHING),
    Fault("build that waits", build_without_scheduler, NOTHING),
    Fault("compute node down", stop("nova-compute"), NOTHING),
    Fault("message broker down", stop("rabbitmq"), NOTHING),
    Fault("small pages", small_pages, NOTHING),
    Fault("stock policy", stock_policy, NOTHING),
    Fault("stock policy, no role in a project", both(stock_policy, take_roles("maps")), MAPS),
    Fault("stock policy, project disabled", both(stock_policy, disable_project("maps")), MAPS),
    Fault("stock policy, region down", both(stock_policy, stop("nova-api-r2")), FAR),
)  # fmt: skip

NOVA = {"service": "nova"}
ON_DEMAND = (
    *(Fault(f"{status} from every region", rule(**NOVA, status=status), SERVERS)
      for status in (401, 429, 500, 502, 503)),
    Fault("503 from one region", rule(**NOVA, region=SECOND, status=503), FAR),
    Fault("401 for everything", rule(status=401), EVERYTHING),
    Fault("only the list of projects fails", rule(service="keystone", path="/v3/projects", status=503),
          Blind(list_of_projects=True)),
    Fault("empty list of projects", rule(service="keystone", path=r"/v3/projects\?", empty=True),
          Blind(list_of_projects=True)),
    Fault("sudden empty list", rule(**NOVA, path=r"servers/detail\?all_tenants=1$", empty=True), NOTHING,
          plausible=True),
    Fault("sudden empty answers to everything", rule(**NOVA, path="servers/detail", empty=True), NOTHING,
          plausible=True),
    Fault("slow within the deadline", rule(**NOVA, path="servers", delay=2), NOTHING),
    Fault("slow beyond the deadline", rule(**NOVA, path="servers", delay=4), SERVERS, deadline=2.0),
    Fault("page 2 fails", both(small_pages, rule(**NOVA, path="marker=", status=503)), SERVERS),
    Fault("truncated", rule(**NOVA, path="servers/detail", truncate=700), SERVERS),
    Fault("200 with an object", rule(**NOVA, path="servers/detail", status=200, body={}), SERVERS),
    Fault("200 with a page", rule(**NOVA, path="servers/detail", status=200, body="<html>503</html>"), SERVERS),
    Fault("one project by itself: login 401",
          both(stock_policy, rule(service="keystone", project="maps", status=401)), MAPS),
    *(Fault(f"one project by itself: {status}", both(stock_policy, rule(**NOVA, project="maps", status=status)), MAPS)
      for status in (401, 403, 429, 500, 503)),
    Fault("one project by itself: sudden empty list",
          both(stock_policy, rule(**NOVA, project="maps", path="servers/detail", empty=True)), NOTHING, plausible=True),
    Fault("one project by itself: truncated",
          both(stock_policy, rule(**NOVA, project="maps", path="servers", truncate=700)), MAPS),
    Fault("one project by itself: slow",
          both(stock_policy, rule(**NOVA, project="maps", path="servers", delay=4)), MAPS, deadline=2.0),
)  # fmt: skip

FAULTS = (*BY_REAL_MEANS, *ON_DEMAND)
