"""Keystone's lists of projects (GET /v3/projects, GET /v3/auth/projects): JSON to projects. Raw dicts stop here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labstore.formats.json_api import Unreadable, document, kind
from labstore.model.cloud import Project
from labstore.model.names import shown

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A project and the domain it is in."""

    project: Project
    domain_id: str


@dataclass(frozen=True)
class ProjectPage:
    """One page; `next` is the address of the following one, None on the last."""

    entries: tuple[Entry, ...]
    next: str | None = None


def project_page(body: bytes) -> ProjectPage:
    """The projects in `body`, without those that are domains. Raises Unreadable.

    A list that Keystone cut short (`truncated`, its list_limit) is no list: what it lacks would look deleted.
    """
    page = document(body)
    rows = page.get("projects")
    if not isinstance(rows, list):
        raise Unreadable(f"no list of projects, but {kind(rows)}")
    if page.get("truncated"):
        raise Unreadable("Keystone says that it cut the list short (its list_limit)")
    entries = tuple(_entry(row) for row in rows if not (isinstance(row, dict) and row.get("is_domain") is True))
    links = page.get("links")
    following = links.get("next") if isinstance(links, dict) else None
    if following is not None and not isinstance(following, str):
        raise Unreadable(f"the link to the next page is {shown(following)}")
    return ProjectPage(entries, following)


def _entry(row: object) -> Entry:
    if not isinstance(row, dict):
        raise Unreadable(f"a project is {kind(row)}")
    identity, name, enabled, domain = (row.get(key) for key in ("id", "name", "enabled", "domain_id"))
    if not isinstance(identity, str) or _ID.fullmatch(identity) is None:
        raise Unreadable(f"the id of a project is {shown(identity)}")
    if not isinstance(name, str) or not name or len(name) > NAME_LIMIT:
        raise Unreadable(f"the name of project {identity} is {shown(name)}")
    if not isinstance(enabled, bool) or not isinstance(domain, str):
        raise Unreadable(f"project {identity}: enabled is {shown(enabled)}, domain_id is {shown(domain)}")
    return Entry(Project(identity, name, enabled), domain)


def domain_ids(body: bytes) -> tuple[str, ...]:
    """The ids of the domains in the answer to GET /v3/domains?name=... Raises Unreadable."""
    rows = document(body).get("domains")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        raise Unreadable(f"no list of domains, but {kind(rows)}")
    return tuple(row["id"] for row in rows)
