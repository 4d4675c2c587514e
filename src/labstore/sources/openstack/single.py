"""Servers one by one, and projects one by one: where a list is not to be had, or not to be believed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from labstore.formats.nova_servers import Listed
from labstore.model.cloud import Instance, Presence, Project
from labstore.reports.report import Report
from labstore.reports.sources import SourceFailed
from labstore.sources.openstack.background import side_by_side
from labstore.sources.openstack.servers import Found, Servers
from labstore.sources.openstack.trouble import Refused, Trouble

HOPELESS = 5
"""Where so many projects were asked and none answered, the others are not asked."""

_OWN = frozenset({Trouble.UNAUTHORIZED, Trouble.FORBIDDEN, Trouble.NOT_FOUND, Trouble.UNREADABLE})
"""Troubles that one project can have alone."""


@dataclass(frozen=True)
class Whereabouts:
    """What one server's region says of it; `listed` is its record, where one was shown."""

    presence: Presence
    listed: Listed | None = None


NOT_TOLD = Whereabouts(Presence.UNKNOWN)


def whereabouts(
    servers: Servers, instances: Collection[Instance], threads: int, until: float, records: bool
) -> dict[str, Whereabouts]:
    """By id. `records`: whether policy lets us look into the region's records of all projects, too."""
    found: dict[str, Whereabouts] = {}

    def ask(instance: Instance) -> None:
        found[instance.id] = _where_is(servers, instance, until, records)

    side_by_side(instances, ask, threads)
    return found


def _where_is(servers: Servers, instance: Instance, until: float, records: bool) -> Whereabouts:
    """Asked as its own project, whose 404 is an answer; where that is closed to us, from the records."""
    try:
        if instance.project_id:
            listed = servers.one(instance.id, instance.project_id, until)
            return Whereabouts(Presence.PRESENT, listed) if listed else Whereabouts(Presence.GONE)
    except Refused:
        pass
    try:
        record = servers.record(instance.id, until) if records else None
    except Refused:
        return NOT_TOLD
    if record is None:
        return NOT_TOLD
    return Whereabouts(Presence.GONE if record.deleted else Presence.PRESENT, record)


@dataclass
class Harvest:
    """What asking project by project gave: servers, and why those of some projects are not known."""

    found: Found = field(default_factory=Found)
    doubts: dict[str, Report] = field(default_factory=dict)


def project_by_project(
    source: str, projects: Mapping[str, Project], ask: Callable[[str], Found], threads: int
) -> Harvest:
    """`ask` each project by its id. One project's failure is its own; raises Refused where not one answered."""
    errand = _Errand(source, ask)
    side_by_side(projects.values(), errand.go, threads)
    if errand.refusals and not errand.answered:
        raise next(iter(errand.common()), errand.refusals[0])
    return errand.harvest


class _Errand:
    """Used by several threads."""

    def __init__(self, source: str, ask: Callable[[str], Found]) -> None:
        self._source, self._ask = source, ask
        self._lock = threading.Lock()
        self.harvest = Harvest()
        self.refusals: list[Refused] = []
        self.answered = 0

    def go(self, project: Project) -> None:
        try:
            if not project.enabled:
                raise Refused(Trouble.UNAUTHORIZED, "the project is disabled")  # nobody can log in to it
            if self._hopeless():
                raise self.common()[0]
            found = self._ask(project.id)
        except Refused as refused:
            self._note(project, refused)
            return
        with self._lock:
            self.answered += 1
            self.harvest.found.servers.update(found.servers)
            self.harvest.found.unreadable.update(found.unreadable)

    def _note(self, project: Project, refused: Refused) -> None:
        report = SourceFailed(self._source, f"the servers of project {project.name}", refused.reason)
        with self._lock:
            self.harvest.doubts[project.id] = report
            if project.enabled:
                self.refusals.append(refused)

    def common(self) -> list[Refused]:
        """The refusals whose cause is not the project's: one that is closed to us says nothing about the others."""
        return [refused for refused in list(self.refusals) if refused.trouble not in _OWN]

    def _hopeless(self) -> bool:
        return not self.answered and len(self.common()) >= HOPELESS
