"""Records answers of the running lab into tests/captures/openstack/zed: `python -m tests.openstack.record_captures`.

A capture is the request (lines that begin with `> `), the status line, the headers a client may look at, and the body
byte for byte. Tokens are masked. README.md beside the captures is written by the same run.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.openstack.cloud import (
    IN_DOMAIN,
    IN_SYSTEM,
    OBSERVER,
    REGIONS,
    Lab,
    Reply,
    Undo,
    eventually,
    in_project,
)

TARGET = Path(__file__).parents[1] / "captures" / "openstack" / "zed"
HEADERS = ("content-type", "content-length", "date", "retry-after", "openstack-api-version", "x-subject-token",
           "www-authenticate", "x-openstack-request-id")  # fmt: skip
DETAIL = "/servers/detail?all_tenants=1"
SECOND = REGIONS[1]
HEADING = """# Answers of a real OpenStack (Zed)

Recorded from the lab of tests/openstack (Debian 12: Keystone 22.0.2, Nova 26.2.2, uwsgi) by
`python -m tests.openstack.record_captures`, which also writes this page. Each file holds the request (`> `), the status
line, headers and the body as it came; tokens are masked. uwsgi sends no Date header.

| file | status | what produced it |
|---|---|---|
"""

Scene = Callable[["Recorder"], None]
SCENES: list[Scene] = []


def scene(function: Scene) -> Scene:
    SCENES.append(function)
    return function


class Recorder:
    def __init__(self, lab: Lab, target: Path) -> None:
        self.lab, self._target, self._rows = lab, target, []  # type: ignore[var-annotated]
        self.tools, self.maps = lab.token("tools"), lab.token("maps")

    def write(self, name: str, what: str, reply: Reply) -> Reply:
        sent = [f"> {line}" for line in reply.request if not line.startswith("X-Auth-Token")]
        headers = [f"{key}: {_masked(key, value)}" for key, value in reply.headers if key.lower() in HEADERS]
        head = "\n".join([*sent, f"HTTP/1.1 {reply.status} {reply.reason}", *headers, "", ""])
        (self._target / f"{name}.http").write_bytes(head.encode() + reply.body)
        self._rows.append((name, reply.status, what))
        return reply

    def nova(self, name: str, what: str, path: str = DETAIL, token: str = "", **how: str) -> Reply:
        return self.write(name, what, self.lab.nova(path, token or self.tools, **how))

    def keystone(self, name: str, what: str, path: str, token: str = "") -> Reply:
        return self.write(name, what, self.lab.keystone(path, token or self.tools))

    def readme(self) -> None:
        rows = "".join(f"| {name}.http | {status} | {what} |\n" for name, status, what in sorted(self._rows))
        (self._target / "README.md").write_text(HEADING + rows)


@contextmanager
def undoing() -> Iterator[Undo]:
    undo = Undo()
    try:
        yield undo
    finally:
        undo.now()


def _masked(key: str, value: str) -> str:
    return "masked" if key.lower() == "x-subject-token" else value


@scene
def logins(recorder: Recorder) -> None:
    lab = recorder.lab
    recorder.write("token", "login of the observer in project tools", lab.login(in_project("tools")))
    recorder.write("token-system", "the same, system scope", lab.login(IN_SYSTEM))
    recorder.write("token-domain", "the same, domain scope", lab.login(IN_DOMAIN))
    recorder.write("token-no-role", "login in a project where it has no role", lab.login(in_project("service")))
    recorder.write("token-no-such-project", "login in a project that is not", lab.login(in_project("nowhere")))
    recorder.nova("servers-bad-token", "a token that Keystone does not know", token="stale")


@scene
def keystone_lists(recorder: Recorder) -> None:
    recorder.keystone("projects", "all projects; policy of the lab's observer", "/projects")
    recorder.keystone("auth-projects", "the projects in which the observer may log in", "/auth/projects")
    recorder.keystone("regions", "the regions", "/regions")


@scene
def listings(recorder: Recorder) -> None:
    for version in ("2.1", "2.69", "2.93"):
        what = f"every project's servers at {version}: fixed, floating, dual stack"
        recorder.nova(f"servers-{version}", what, microversion=version)
    recorder.nova("version", "the version document", "/")
    recorder.nova("servers-406", "a microversion that is too new", microversion="2.94")
    recorder.nova("servers-maps", "one project's servers", "/servers/detail", recorder.maps)
    recorder.nova("servers-none", "a project without servers", "/servers/detail", recorder.lab.token("noinstances"))


@scene
def scopes(recorder: Recorder) -> None:
    for name, scope in (("system", IN_SYSTEM), ("domain", IN_DOMAIN)):
        token = recorder.lab.token(scope=scope)
        for version in ("2.1", "2.93"):
            what = f"{name} scope at {version}: 200 and nothing of use"
            recorder.nova(f"servers-{name}-scope-{version}", what, "/servers/detail", token, microversion=version)
        recorder.nova(f"servers-{name}-scope-all", f"{name} scope with all_tenants", token=token)


@scene
def stock_policy(recorder: Recorder) -> None:
    recorder.lab.knobs(LAB_POLICY="stock")
    with undoing() as undo:
        undo.later(recorder.lab.knobs)
        eventually(lambda: recorder.lab.nova(DETAIL, recorder.tools).status == 403)
        recorder.nova("servers-403", "all_tenants under upstream's policy")
        recorder.keystone("projects-403", "all projects under upstream's policy", "/projects")
        recorder.keystone("auth-projects-stock", "own projects under upstream's policy", "/auth/projects")
    eventually(lambda: recorder.lab.nova(DETAIL, recorder.tools).status == 200)


@scene
def pages(recorder: Recorder) -> None:
    lab = recorder.lab
    with undoing() as undo:
        lab.knobs(LAB_MAX_LIMIT="2")
        lab.down("nova-api")
        lab.up("nova-api")
        undo.later(lambda: (lab.knobs(), lab.down("nova-api"), lab.up("nova-api")))
        path, number = DETAIL, 0
        while path:
            number += 1
            page = lab.nova(path, recorder.tools)
            path = _next(page)
            if number <= 2 or not path:
                name = f"servers-page-{number}" if path else "servers-page-last"
                recorder.write(name, f"page {number} with max_limit 2" + ("" if path else ", the last"), page)
        second = _next(lab.nova(DETAIL, recorder.tools))
        with lab.faulty({"service": "nova", "path": "marker=", "status": 503}):
            recorder.nova("servers-page-2-503", "page 2 fails (fault on demand)", second)
    nowhere = "&marker=00000000-0000-0000-0000-000000000000"
    recorder.nova("servers-marker-400", "a marker that is not (or no longer) known", DETAIL + nowhere)


def _next(page: Reply) -> str:
    links = page.json().get("servers_links", [])
    return str(links[0]["href"]).split("/v2.1", 1)[1] if links else ""


@scene
def changes(recorder: Recorder) -> None:
    lab = recorder.lab
    with undoing() as undo:
        before = lab.nova(DETAIL, recorder.tools).json()["servers"]
        since = max(server["updated"] for server in before)
        recorder.nova("changes-none", "changes-since the future", f"{DETAIL}&changes-since=2099-01-01T00:00:00Z")
        gone = lab.boot("maps", "captured-gone")
        recorder.nova("server-living", "one living server, asked by its own project", f"/servers/{gone}", recorder.maps)
        what = "the same living server, asked by the observer in ANOTHER project: 404 although it lives"
        recorder.nova("server-living-other-project", what, f"/servers/{gone}")
        lab.delete("maps", gone)
        recorder.nova(
            "server-gone", "the same server deleted, asked by its own project", f"/servers/{gone}", recorder.maps
        )
        lab.down("nova-scheduler")
        undo.later(lambda: lab.up("nova-scheduler"))
        building = lab.boot("maps", "captured-building", wait=False)
        undo.later(lambda: lab.delete("maps", building, wait=False))
        what = "changes-since: one deleted server (no addresses left), one being built (none yet)"
        recorder.nova("changes", what, f"{DETAIL}&changes-since={since}")
        what = "the same filter for the one server: the record of a deleted server by its id"
        recorder.nova("changes-uuid", what, f"{DETAIL}&changes-since=1970-01-01T00:00:00Z&uuid={gone}")
        recorder.nova("servers-building", "a server in BUILD, task scheduling", DETAIL + "&name=captured-building")
    recorder.nova("changes-400", "a time that is none", f"{DETAIL}&changes-since=yesterday")


@scene
def failed_build(recorder: Recorder) -> None:
    lab, cloud = recorder.lab, recorder.lab.admin("maps")
    with undoing() as undo:
        flavor = cloud.compute.create_flavor(name="captured-impossible", ram=1 << 24, vcpus=1, disk=1)
        undo.later(lambda: cloud.compute.delete_flavor(flavor))
        server = lab.boot("maps", "captured-failed", wait=False, flavor_id=flavor.id)
        undo.later(lambda: cloud.compute.delete_server(server))
        eventually(lambda: "ERROR" in lab.nova(DETAIL + "&name=captured-failed", recorder.tools).body.decode())
        recorder.nova("servers-error", "a server in ERROR: no valid host", DETAIL + "&name=captured-failed")


@scene
def projects_that_went(recorder: Recorder) -> None:
    lab, identity = recorder.lab, recorder.lab.admin().identity
    with undoing() as undo:
        disabled = identity.create_project(name="captured-disabled", domain_id="default")
        undo.later(lambda: identity.delete_project(disabled))
        roles = {role.name: role for role in identity.roles()}
        users = {user.name: user for user in identity.users(domain_id="default")}
        for user, role in (("admin", "admin"), (OBSERVER, "observer"), (OBSERVER, "reader")):
            identity.assign_project_role_to_user(disabled, users[user], roles[role])
        server = lab.boot("captured-disabled", "captured-orphan")
        undo.later(lambda: lab.admin().compute.delete_server(server))
        identity.update_project(disabled, is_enabled=False)
        recorder.write("token-disabled", "login in a disabled project", lab.login(in_project(disabled.id)))
        recorder.keystone("projects-disabled", "a disabled project is still listed", "/projects")
        recorder.nova("servers-disabled", "its server is still listed", DETAIL + "&name=captured-orphan")
        undo.steps.pop(0)
        identity.delete_project(disabled)
        recorder.write("token-deleted", "login in a deleted project", lab.login(in_project("captured-disabled")))
        recorder.keystone("projects-deleted", "a deleted project is no longer listed", "/projects")
        recorder.nova(
            "servers-orphan", "its server still is, under the dead project id", DETAIL + "&name=captured-orphan"
        )


@scene
def broken_server(recorder: Recorder) -> None:
    lab = recorder.lab
    server = next(s for s in lab.nova(DETAIL, recorder.tools).json()["servers"] if s["name"] == "maps-wma1")
    column = f"nova.instance_info_caches set network_info = %s where instance_uuid = '{server['id']}'"
    kept = lab.sql(f"select hex(network_info) from nova.instance_info_caches where instance_uuid='{server['id']}'")
    with undoing() as undo:
        undo.later(lambda: lab.sql("update " + column % f"unhex('{kept}')"))
        lab.sql("update " + column % "'{not json'")
        recorder.nova("servers-500", "one broken info cache: all_tenants fails as a whole")
        recorder.nova("servers-500-maps", "the same: its project fails", "/servers/detail", recorder.maps)
        recorder.nova("servers-beside-500", "the same: another project is well", "/servers/detail")
        lab.sql("update " + column % "'[]'")
        recorder.nova("servers-empty-cache", "an empty info cache: {} on an ACTIVE server", DETAIL + "&name=maps-wma1")


@scene
def cell_down(recorder: Recorder) -> None:
    lab = recorder.lab
    living = next(s for s in lab.nova(DETAIL, recorder.tools).json()["servers"] if s["name"] == "maps-wma1")["id"]
    dead = lab.boot("maps", "captured-before-cell-down")
    lab.delete("maps", dead)
    kept = lab.sql("select database_connection from nova_api.cell_mappings where name='cell1'")
    put = "update nova_api.cell_mappings set database_connection='{}' where name='cell1'"
    with undoing() as undo:
        undo.later(lambda: (lab.sql(put.format(kept)), lab.down("nova-api-r2"), lab.up("nova-api-r2")))
        lab.sql(put.format(kept.replace("mysql.sock", "gone.sock")))
        lab.down("nova-api-r2")
        lab.up("nova-api-r2")
        for version in ("2.1", "2.93"):
            how = {"microversion": version, "region": SECOND}
            recorder.nova(f"cell-down-servers-{version}", f"all_tenants at {version}, cell1's database away", **how)
            what = f"one living server at {version}, cell1's database away"
            recorder.nova(f"cell-down-server-{version}", what, f"/servers/{living}", recorder.maps, **how)
            what = f"one deleted server at {version}, cell1's database away"
            recorder.nova(f"cell-down-server-gone-{version}", what, f"/servers/{dead}", recorder.maps, **how)
        path = f"{DETAIL}&changes-since=2099-01-01T00:00:00Z"
        recorder.nova("cell-down-changes", "changes-since, cell1's database away", path, region=SECOND)
        recorder.nova("cell-down-page", "the same with limit=2", DETAIL + "&limit=2", region=SECOND)


@scene
def spoilt_replies(recorder: Recorder) -> None:
    lab, path = recorder.lab, "servers/detail"
    for name, what, rule in (
        ("servers-truncated", "cut after 700 bytes", {"truncate": 700}),
        ("servers-slow", "4 s late", {"delay": 4}),
        ("servers-emptied", "a sudden empty list", {"empty": True}),
        ("servers-no-key", "200 with {} as body", {"status": 200, "body": {}}),
        ("servers-html", "200 with a page as body", {"status": 200, "body": "<html>hello</html>"}),
        ("servers-503", "503 with Retry-After", {"status": 503, "headers": {"Retry-After": "1"}}),
        ("servers-429", "429 with Retry-After", {"status": 429, "headers": {"Retry-After": "1"}}),
    ):
        with lab.faulty({"service": "nova", "path": path, **rule}):
            recorder.nova(name, f"fault on demand: {what}")
    with lab.faulty({"service": "keystone", "path": "/v3/projects", "status": 503}):
        recorder.keystone("projects-503", "fault on demand: only the project list fails", "/projects")


@scene
def keystone_away(recorder: Recorder) -> None:
    lab = recorder.lab
    lab.signal("keystone", signal.SIGTERM)
    with undoing() as undo:
        undo.later(lambda: lab.up("keystone"))
        lab.down("keystone")
        recorder.nova("servers-keystone-down", "Keystone down: Nova cannot check the token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", help="only these (the README is then left alone)")
    chosen = parser.parse_args().scenes
    TARGET.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(Lab(), TARGET)
    for each in SCENES:
        if not chosen or each.__name__ in chosen:
            print(each.__name__, flush=True)
            each(recorder)
    if not chosen:
        recorder.readme()


if __name__ == "__main__":
    main()
