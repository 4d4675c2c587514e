"""Requests to answers: Keystone's and Nova's rules, as far as they were seen."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.fake_cloud.world import Booted, World

USER = "observer"
DOMAIN = {"id": "default", "name": "Default"}


@dataclass(frozen=True)
class Request:
    """A request, taken apart. `service` is `keystone` or `nova`; `path` is what follows the API version."""

    method: str
    service: str
    region: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    url: str = ""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(status: int, value: object, **headers: str) -> Answer:
    kept = {"Content-Type": "application/json", **{key.replace("_", "-"): text for key, text in headers.items()}}
    return Answer(status, json.dumps(value).encode(), kept)


def error(status: int, key: str, message: str, **headers: str) -> Answer:
    return answer(status, {key: {"code": status, "message": message}}, **headers)


UNAUTHORIZED = error(401, "error", "The request you have made requires authentication.")


class Cloud:
    """Answers for one world, at one address."""

    def __init__(self, world: World, base: str = "") -> None:
        self.world, self.base = world, base
        self._pages: dict[tuple[Any, ...], bytes] = {}
        self._lists: dict[tuple[Any, ...], tuple[list[Booted], dict[str, int]]] = {}
        self._pages_of = -1

    def answer(self, request: Request) -> Answer:
        if request.service == "keystone":
            return self._keystone(request)
        return self._nova(request)

    def project_of(self, request: Request) -> str | None:
        """The project of a request's token, or the one that a login asks for: what fault rules may name."""
        if request.path == "/auth/tokens":
            scope = self._scope(request.body)
            return scope.get("project", {}).get("id") if isinstance(scope, dict) else None
        return self.world.tokens.get(request.headers.get("x-auth-token", ""))

    # --- Keystone ---------------------------------------------------------------------------------------------------

    def _keystone(self, request: Request) -> Answer:
        if request.path in ("", "/"):
            version = {
                "id": "v3.14",
                "status": "stable",
                "links": [{"rel": "self", "href": f"{self.base}/identity/v3/"}],
            }
            return answer(200, {"version": version})
        if request.path == "/auth/tokens":
            return self._login(request)
        token = request.headers.get("x-auth-token", "")
        if token not in self.world.tokens:
            return UNAUTHORIZED
        if request.path == "/domains":
            return answer(200, {"domains": [DOMAIN] if request.query.get("name") == "Default" else []})
        if request.path not in ("/projects", "/auth/projects"):
            return error(404, "error", "not here")
        if request.path == "/projects" and not self.world.may_list_projects:
            return error(
                403, "error", "You are not authorized to perform the requested action: identity:list_projects."
            )
        return self._projects(own=request.path == "/auth/projects")

    def _projects(self, own: bool) -> Answer:
        listed = [each for each in self.world.projects.values() if not each.gone and (each.role or not own)]
        rows = [
            {
                "id": each.id,
                "name": each.name,
                "domain_id": each.domain,
                "description": "",
                "enabled": each.enabled,
                "parent_id": each.domain,
                "is_domain": False,
                "tags": [],
                "options": {},
                "links": {"self": f"{self.base}/identity/v3/projects/{each.id}"},
            }
            for each in listed
        ]
        document: dict[str, Any] = {"projects": rows[: self.world.list_limit]}
        document["links"] = {"next": None, "self": f"{self.base}/identity/v3/projects", "previous": None}
        return answer(200, document | ({"truncated": True} if len(rows) > (self.world.list_limit or len(rows)) else {}))

    def _login(self, request: Request) -> Answer:
        try:
            identity = json.loads(request.body)["auth"]["identity"]
        except (ValueError, KeyError):
            return error(400, "error", "no auth")
        if not self._known(identity):
            return UNAUTHORIZED
        scope = self._scope(request.body)
        project = self._project(scope)
        if "project" in scope and project is None:
            return UNAUTHORIZED
        token = f"token-{uuid.uuid4().hex}"
        self.world.tokens[token] = project
        return answer(201, {"token": self._token(scope, project, "nocatalog" in request.query)}, X_Subject_Token=token)

    def _known(self, identity: dict[str, Any]) -> bool:
        if "token" in identity.get("methods", []):
            return identity["token"]["id"] in self.world.tokens
        user = identity.get("password", {}).get("user", {})
        return user.get("name") == USER and user.get("password") == self.world.password

    def _scope(self, body: bytes) -> dict[str, Any]:
        try:
            scope = json.loads(body)["auth"].get("scope", {})
        except (ValueError, KeyError):
            return {}
        return scope if isinstance(scope, dict) else {}

    def _project(self, scope: dict[str, Any]) -> str | None:
        wanted = scope.get("project", {})
        for each in self.world.projects.values():
            if (
                each.enabled
                and each.role
                and not each.gone
                and (wanted.get("id") or wanted.get("name"))
                in (
                    each.id,
                    each.name,
                )
            ):
                return each.id
        return None

    def _token(self, scope: dict[str, Any], project: str | None, bare: bool) -> dict[str, Any]:
        now = datetime.now(UTC)
        token: dict[str, Any] = {
            "methods": ["password"],
            "user": {"domain": DOMAIN, "id": "2e219fb29c4d4f6e937836747e57a5a2", "name": USER},
            "expires_at": f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%S.000000Z}",
            "issued_at": f"{now:%Y-%m-%dT%H:%M:%S.000000Z}",
            "roles": [{"id": "59cdf66ffb1f47f8a9aaf171200797ba", "name": "reader"}],
        }
        if project is not None:
            token["project"] = {"domain": DOMAIN, "id": project, "name": self.world.projects[project].name}
        token |= {key: value for key, value in scope.items() if key == "system"}
        if "domain" in scope:
            token["domain"] = DOMAIN
        return token if bare else token | {"catalog": self._catalog()}

    def _catalog(self) -> list[dict[str, Any]]:
        def service(kind: str, name: str, urls: dict[str, str]) -> dict[str, Any]:
            ends = [
                {"id": f"{name}-{region}", "interface": "public", "region_id": region, "region": region, "url": url}
                for region, url in urls.items()
            ]
            return {"id": name, "type": kind, "name": name, "endpoints": ends}

        regions = self.world.regions
        return [
            service("identity", "keystone", dict.fromkeys(regions, f"{self.base}/identity/v3")),
            service("compute", "nova", {region: f"{self.base}/compute/{region}/v2.1" for region in regions}),
        ]

    # --- Nova -------------------------------------------------------------------------------------------------------

    def _nova(self, request: Request) -> Answer:
        token = request.headers.get("x-auth-token", "")
        if token not in self.world.tokens:
            return UNAUTHORIZED
        version = self._version(request)
        headers = {} if self.world.drops_version else {"OpenStack_API_Version": f"compute 2.{version}"}
        if version > self.world.newest:
            return error(406, "computeFault", f"Version 2.{version} is not supported by the API.")
        with self.world.lock:
            if request.path == "/servers/detail":
                return self._listed(request, self.world.tokens[token], version, headers)
            return self._shown(request, self.world.tokens[token], version, headers)

    def _version(self, request: Request) -> int:
        text = request.headers.get("openstack-api-version", "") if not self.world.drops_version else ""
        return int(text.rpartition(".")[2]) if text else 1

    def _shown(self, request: Request, project: str | None, version: int, headers: dict[str, str]) -> Answer:
        server = self.world.by_id.get(request.path.rpartition("/")[2])
        message = f"Instance {request.path.rpartition('/')[2]} could not be found."
        if server is None or server.deleted or server.project != project or server.region != request.region:
            return error(404, "itemNotFound", message, **headers)
        if server.broken or (server.cell in self.world.down and version < 69):
            return error(500, "computeFault", "Unexpected API Error.", **headers)
        return answer(200, {"server": server.partial() if server.cell in self.world.down else server.json()}, **headers)

    def _listed(self, request: Request, project: str | None, version: int, headers: dict[str, str]) -> Answer:
        query = request.query
        if query.get("all_tenants") and (not self.world.may_list_all or project is None):
            policy = "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed."
            return error(403, "forbidden", policy, **headers)
        whose = None if query.get("all_tenants") else project
        key = (request.region, whose, *sorted(query.items()), version, frozenset(self.world.down))
        if self._pages_of != self.world.version:
            self._pages.clear()
            self._lists.clear()
            self._pages_of = self.world.version
        if key not in self._pages:
            rendered = self._page(request, whose, version)
            if isinstance(rendered, Answer):
                return Answer(rendered.status, rendered.body, {**rendered.headers, **_dashed(headers)})
            self._pages[key] = rendered
        return Answer(200, self._pages[key], {"Content-Type": "application/json", **_dashed(headers)})

    def _page(self, request: Request, project: str | None, version: int) -> bytes | Answer:
        query = request.query
        chosen, places = self._chosen(request, project)
        limit = min(int(query.get("limit", self.world.most)), self.world.most)
        if "marker" in query:
            if query["marker"] not in places:
                return error(400, "badRequest", f"marker [{query['marker']}] not found")
            chosen = chosen[places[query["marker"]] + 1 :]
        up = (each for each in chosen if each.cell not in self.world.down)
        page = list(itertools.islice(up, limit))
        if any(each.broken for each in page):
            return error(500, "computeFault", "Unexpected API Error.")
        rows = [self.world.row(each) for each in page]
        if version >= 69 and set(query) <= {"all_tenants"}:
            # seen: only without limit, marker and filters, and only as far as the page has room
            away = [each for each in chosen if each.cell in self.world.down and not each.deleted][: limit - len(page)]
            rows = [json.dumps(each.partial()).encode() for each in away] + rows
            page = away + page
        tail = b""
        if len(page) == limit and page:
            tail = b', "servers_links": ' + json.dumps([{"rel": "next", "href": _next(request, page[-1])}]).encode()
        return b'{"servers": [' + b", ".join(rows) + b"]" + tail + b"}"

    def _chosen(self, request: Request, project: str | None) -> tuple[list[Booted], dict[str, int]]:
        """What a query is about, newest first, and the place of each by its id."""
        query, region = request.query, request.region
        key = (region, project, query.get("changes-since"), query.get("uuid"))
        if key not in self._lists:
            chosen = (
                self._changed(query, region, project) if "changes-since" in query else self._living(region, project)
            )
            chosen = [each for each in chosen if query.get("uuid") in (None, each.id)]
            self._lists[key] = (chosen, {each.id: place for place, each in enumerate(chosen)})
        return self._lists[key]

    def _living(self, region: str, project: str | None) -> list[Booted]:
        return list(self.world.living(region, project))

    def _changed(self, query: Mapping[str, str], region: str, project: str | None) -> list[Booted]:
        since = datetime.fromisoformat(query["changes-since"])
        return [
            each
            for each in reversed(self.world.servers[region])
            if project in (None, each.project)
            and (each.scheduling or each.updated.replace(microsecond=0) >= since)
            and not each.hidden
        ]


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in headers.items()}


def _next(request: Request, last: Booted) -> str:
    kept = "&".join(f"{key}={value}" for key, value in request.query.items() if key != "marker")
    return f"http://nova.internal:8774/v2.1/servers/detail?{kept}&marker={last.id}"
