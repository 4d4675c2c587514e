"""Which projects there are, as far as Keystone lets its user see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from labstore.formats.json_api import Unreadable
from labstore.formats.keystone_projects import Entry, domain_ids, project_page
from labstore.model.cloud import Project
from labstore.sources.openstack.cloud import Cloud, Login
from labstore.sources.openstack.trouble import Refused, Trouble

MOST_PAGES = 1000


@dataclass(frozen=True)
class ProjectList:
    """Projects by id. Not `complete`: only those in which our user has a role; then a project that is not here may
    exist all the same."""

    projects: Mapping[str, Project]
    complete: bool


def all_projects(cloud: Cloud, login: Login, domain: str, until: float) -> ProjectList:
    """The projects of a domain (by name or id); where policy forbids that, our user's own. Raises Refused."""
    try:
        entries, complete = _entries(cloud, "projects", until), True
    except Refused as refused:
        if refused.trouble is not Trouble.FORBIDDEN:
            raise
        entries, complete = _entries(cloud, "auth/projects", until), False
    wanted = _domain(cloud, login, domain, until)
    projects = {entry.project.id: entry.project for entry in entries if entry.domain_id == wanted}
    if not projects:
        raise Refused(Trouble.UNUSABLE, f"there is no project in domain {domain}")
    return ProjectList(projects, complete)


def _entries(cloud: Cloud, what: str, until: float) -> list[Entry]:
    base = f"{cloud.identity()}/{what}"
    entries: list[Entry] = []
    query = ""
    for _ in range(MOST_PAGES):
        try:
            page = project_page(cloud.get(base + query, until).body)
        except Unreadable as error:
            raise Refused(Trouble.UNREADABLE, str(error)) from None
        entries.extend(page.entries)
        if page.next is None:
            return entries
        query = f"?{urlsplit(page.next).query}"
    raise Refused(Trouble.UNREADABLE, f"the list has more than {MOST_PAGES} pages")


def _domain(cloud: Cloud, login: Login, domain: str, until: float) -> str:
    """The id of a domain. Names compare without regard to case, as in Keystone's database."""
    if domain.casefold() in (known.casefold() for known in login.domain):
        return login.domain[0]
    try:
        found = domain_ids(cloud.get(f"{cloud.identity()}/domains?name={quote(domain, safe='')}", until).body)
    except Unreadable as error:
        raise Refused(Trouble.UNREADABLE, str(error)) from None
    except Refused as refused:
        if refused.trouble is not Trouble.FORBIDDEN:
            raise
        found = ()
    return found[0] if len(found) == 1 else domain
