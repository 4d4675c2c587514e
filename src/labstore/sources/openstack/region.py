"""One region as it is known here: its last good view, brought up to date, and never believed about an absence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from labstore.formats.nova_servers import Listed
from labstore.model.cloud import Instance, Presence
from labstore.model.site import OpenStackSettings
from labstore.ports.clock import Clock
from labstore.ports.inventory import RegionView
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.exports import AbsenceContradicted
from labstore.reports.report import Report
from labstore.reports.sources import SourceFailed
from labstore.sources.openstack.cloud import Cloud
from labstore.sources.openstack.manners import Manners
from labstore.sources.openstack.projects import ProjectList
from labstore.sources.openstack.reports import OnlyOwnProjects, ServersVanished, ServerUnreadable
from labstore.sources.openstack.server_clock import ServerClock
from labstore.sources.openstack.servers import Found, Servers
from labstore.sources.openstack.single import NOT_TOLD, Harvest, project_by_project, whereabouts
from labstore.sources.openstack.trouble import Refused, Trouble
from labstore.system.log import Logger

log = Logger()

VANISHED_LIMIT = 200
"""Of more servers than this that vanish at once none is asked for: something is wrong with the list."""
DELETED_FOR = timedelta(days=1)
"""For how long the region's word that a server is deleted is repeated."""
VIEW_LIFE = 3600.0
"""Seconds after which a view that could not be refreshed is listed anew: deleted records may be archived by then."""

_ONE_BY_ONE = frozenset({Trouble.FORBIDDEN, Trouble.BROKEN})
"""All projects at once are not to be had, one by one they may be: policy, or one broken server that spoils the list."""


class Region:
    """One job at a time calls `look`; `confirm` may be called beside it."""

    def __init__(self, name: str, cloud: Cloud, settings: OpenStackSettings, clock: Clock, manners: Manners) -> None:
        self.name = name
        self._settings, self._clock, self._manners = settings, clock, manners
        self._source = f"cloud {settings.cloud}, region {name}"
        self._server_clock = ServerClock(clock)
        self._servers = Servers(name, cloud, self._server_clock, settings.addresses)
        self._together = True
        self._good: RegionView | None = None
        self._seen = 0.0
        self._failure: Missing | None = None
        self._slow_failures = 0
        self._rests_until = 0.0
        self._known: dict[str, Instance] = {}
        self._deleted: dict[str, datetime] = {}
        self._notes: tuple[Report, ...] = ()

    @property
    def new(self) -> bool:
        """Whether there was no look yet, good or bad."""
        return self._good is None and self._failure is None

    @property
    def resting(self) -> bool:
        """Whether it is left alone for a while, after failures that took long."""
        return self._clock.monotonic() < self._rests_until

    def view(self) -> RegionView:
        """What the last look gave."""
        if self._failure is None and self._good is not None:
            return self._good
        return self.blind(self._failure or self.missing(SourceFailed(self._source, "its servers", "not asked yet")))

    def blind(self, why: Missing) -> RegionView:
        """The view where nothing is known but what the region once said was deleted."""
        return RegionView(self.name, {}, why, dict(self._deleted), self._good.listing if self._good else 0)

    def missing(self, report: Report) -> Missing:
        return Missing(report, self._source, self._clock.now())

    def _unreadable(self, project: str, reason: str) -> Report:
        return ServerUnreadable(project, self.name, reason)

    def look(self, projects: ProjectList | None, full: bool, until: float) -> None:
        """List everything (`full`, or where that must be), or ask for what changed since the last good look.

        `view` says what came of it. `projects` is None where Keystone did not tell; `until` is monotonic.
        """
        started = self._clock.monotonic()
        try:
            if full or self._good is None or started - self._seen > VIEW_LIFE:
                self._good = self._listed(projects, until)
            else:
                self._good = self._refreshed(self._good, projects, until)
        except Refused as refused:
            self._failed(refused, started)
        else:
            self._seen, self._failure, self._slow_failures = started, None, 0

    def confirm(self, instances: Collection[Instance], until: float) -> dict[str, Presence]:
        """Presence by id, asked one by one, several at a time."""
        if self.resting:
            return {}
        found = whereabouts(self._servers, instances, self._settings.concurrency, until, self._together)
        return {id_: answer.presence for id_, answer in found.items()}

    def _failed(self, refused: Refused, started: float) -> None:
        self._failure = self.missing(SourceFailed(self._source, "its servers", refused.reason))
        now = self._clock.monotonic()
        rest = self._manners.rest
        if now - started > self._manners.slow or refused.retry_after is not None:
            named = min(refused.retry_after or 0.0, rest[-1])
            self._rests_until = now + max(named, rest[min(self._slow_failures, len(rest) - 1)])
            self._slow_failures += 1

    # --- listing ----------------------------------------------------------------------------------------------------

    def _listed(self, projects: ProjectList | None, until: float) -> RegionView:
        harvest = self._everything(projects, until)
        for project, reason in harvest.found.unreadable.items():
            harvest.doubts[project] = self._unreadable(project, reason)
        self._note_deleted(harvest)
        self._settle(harvest, until)
        self._remember(harvest)
        return self._view(harvest, projects)

    def _everything(self, projects: ProjectList | None, until: float) -> Harvest:
        try:
            harvest, self._together = Harvest(self._servers.everywhere(until)), True
        except Refused as refused:
            if refused.trouble not in _ONE_BY_ONE or projects is None:
                raise
            log.info("asking project by project", region=self.name, reason=refused.reason)
            harvest = self._one_by_one(projects, until, None)
            self._together = refused.trouble is not Trouble.FORBIDDEN
        return harvest

    def _one_by_one(self, projects: ProjectList, until: float, since: str | None) -> Harvest:
        def ask(project: str) -> Found:
            if since is None:
                return self._servers.of_project(project, until)
            return self._servers.changed(since, until, project)

        return project_by_project(self._source, projects.projects, ask, self._settings.concurrency)

    def _view(self, harvest: Harvest, projects: ProjectList | None) -> RegionView:
        at = self._clock.now()
        nothing: Answer[tuple[Instance, ...]] = Fact((), self._source, at)
        by_project: dict[str, list[Instance]] = {}
        for listed in harvest.found.servers.values():
            by_project.setdefault(listed.instance.project_id, []).append(listed.instance)
        answers = dict.fromkeys(projects.projects if projects else (), nothing)
        answers |= {project: Fact(tuple(servers), self._source, at) for project, servers in by_project.items()}
        answers |= {project: self.missing(report) for project, report in harvest.doubts.items()}
        hidden = projects is not None and not projects.complete
        others = self.missing(OnlyOwnProjects(self._settings.cloud)) if hidden else nothing
        before = self._good.listing if self._good else 0
        return RegionView(
            self.name, answers, others, dict(self._deleted), max(before + 1, int(at.timestamp())), self._notes
        )

    # --- what is gone, and what only vanished -----------------------------------------------------------------------

    def _note_deleted(self, harvest: Harvest) -> None:
        oldest = self._clock.now() - DELETED_FOR
        self._deleted = {id_: when for id_, when in self._deleted.items() if when > oldest}
        servers = harvest.found.servers
        for id_, listed in list(servers.items()):
            if listed.deleted is not None:
                self._deleted[id_] = listed.deleted
                del servers[id_]

    def _settle(self, harvest: Harvest, until: float) -> None:
        """No list is believed about an absence: what was known, is not listed and not reported deleted is asked for.

        Lists lie in many ways (seen): Nova leaves the servers of a cell that is down out of every page but the first,
        and out of the first where the living fill it; something in between answers with an empty list.
        """
        self._notes = ()
        vanished = [each for each in self._known.values() if self._vanished(each, harvest)]
        if not vanished:
            return
        few = len(vanished) <= VANISHED_LIMIT
        threads = self._settings.concurrency
        asked = whereabouts(self._servers, vanished, threads, until, self._together) if few else {}
        lost: dict[str, list[Instance]] = {}
        lied = 0
        for instance in vanished:
            answer = asked.get(instance.id, NOT_TOLD)
            if answer.presence is Presence.GONE:
                self._deleted[instance.id] = (answer.listed.deleted if answer.listed else None) or self._clock.now()
            elif answer.listed is not None:
                harvest.found.servers[instance.id] = answer.listed
                lied += 1
            else:
                lost.setdefault(instance.project_id, []).append(instance)
        for project, servers in lost.items():
            example = servers[0].name or servers[0].id
            harvest.doubts[project] = ServersVanished(project, self.name, len(servers), example)
        self._notes = (AbsenceContradicted(self.name, lied),) if lied else ()
        if lied or lost:
            log.warning("a list lacked servers", region=self.name, there=lied, projects_in_doubt=len(lost))

    def _vanished(self, instance: Instance, harvest: Harvest) -> bool:
        listed = instance.id in harvest.found.servers or instance.id in self._deleted
        return not listed and instance.project_id not in harvest.doubts

    def _remember(self, harvest: Harvest) -> None:
        """What must not vanish unnoticed: all that was listed, and all that was known of a project now in doubt."""
        doubted = {id_: each for id_, each in self._known.items() if each.project_id in harvest.doubts}
        doubted = {id_: each for id_, each in doubted.items() if id_ not in self._deleted}
        self._known = doubted | {id_: listed.instance for id_, listed in harvest.found.servers.items()}

    # --- changes ----------------------------------------------------------------------------------------------------

    def _refreshed(self, view: RegionView, projects: ProjectList | None, until: float) -> RegionView:
        since = self._server_clock.since(self._seen)
        if since is None:
            return self._listed(projects, until)
        try:
            changed = self._changed(since, projects, until)
        except Refused as refused:
            if refused.trouble not in _ONE_BY_ONE:
                raise
            return self._listed(projects, until)
        return self._merged(view, changed)

    def _changed(self, since: str, projects: ProjectList | None, until: float) -> Harvest:
        if self._together or projects is None:
            return Harvest(self._servers.changed(since, until))
        return self._one_by_one(projects, until, since)

    def _merged(self, view: RegionView, changed: Harvest) -> RegionView:
        """The view with what changed. A project whose list is in doubt stays so until the next listing: what happened
        to it in between is not known."""
        gone = len(self._deleted)
        touched: dict[str, list[Listed]] = {}
        for listed in changed.found.servers.values():
            touched.setdefault(listed.instance.project_id, []).append(listed)
        answers: dict[str, Answer[tuple[Instance, ...]]] = {}
        for project, servers in touched.items():
            before = view.of(project)
            after = self._with(before, servers)
            if after is not before:
                answers[project] = after
        doubts = {project: self._unreadable(project, why) for project, why in changed.found.unreadable.items()}
        for project, report in {**changed.doubts, **doubts}.items():
            known = view.of(project)
            if not isinstance(known, Missing) or known.report != report:
                answers[project] = self.missing(report)
        if not answers and len(self._deleted) == gone:
            return view
        return replace(view, instances={**view.instances, **answers}, deleted=dict(self._deleted))

    def _with(self, before: Answer[tuple[Instance, ...]], servers: list[Listed]) -> Answer[tuple[Instance, ...]]:
        for listed in servers:
            if listed.deleted is not None:
                self._deleted.setdefault(listed.instance.id, listed.deleted)
                self._known.pop(listed.instance.id, None)
            else:
                self._known[listed.instance.id] = listed.instance
        if isinstance(before, Missing):
            return before
        now = {instance.id: instance for instance in before.value}
        for listed in servers:
            if listed.deleted is not None:
                now.pop(listed.instance.id, None)
            else:
                now[listed.instance.id] = listed.instance
        after = tuple(now.values())
        return before if after == before.value else Fact(after, self._source, self._clock.now())
