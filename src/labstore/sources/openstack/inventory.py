"""The inventory of an OpenStack cloud: regions side by side, and what failed said where it failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from labstore.model.cloud import Instance, Presence, Project
from labstore.model.site import OpenStackSettings
from labstore.ports.clock import Clock
from labstore.ports.inventory import RegionView, Snapshot
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.report import Report
from labstore.reports.sources import SourceFailed
from labstore.sources.openstack.background import Job
from labstore.sources.openstack.cloud import Cloud, Login, ScopeUnfit
from labstore.sources.openstack.manners import Manners
from labstore.sources.openstack.projects import ProjectList, all_projects
from labstore.sources.openstack.region import Region
from labstore.sources.openstack.reports import LoginRefused, RegionNotOffered, RegionStillAnswering, WrongScope
from labstore.sources.openstack.trouble import Refused

CONFIRM_LIMIT = 500
"""Instances asked for in one `confirm`; of any more the answer is UNKNOWN."""


@dataclass(frozen=True)
class _Asked:
    """A region's job that has not ended, and since when (monotonic)."""

    job: Job
    since: float


class OpenStackInventory:
    """See ports.inventory.Inventory. Keeps one login and the last good view of every region between looks.

    Each region is asked in a thread of its own; one that takes its time is Missing meanwhile, and its answer is taken
    by the look after it has come.
    """

    def __init__(self, settings: OpenStackSettings, clock: Clock, manners: Manners | None = None) -> None:
        self._settings, self._clock, self._manners = settings, clock, manners or Manners()
        self._source = f"cloud {settings.cloud}"
        self._cloud = Cloud(settings, clock, self._manners)
        self._regions: dict[str, Region] = {}
        self._asked: dict[str, _Asked] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._projects: ProjectList | None = None
        self._projects_failed = False
        self._last: Snapshot | None = None

    @property
    def requests(self) -> int:
        """Calls made so far, also while a look goes on: for those who watch."""
        return self._cloud.meter.requests

    def listing(self) -> Snapshot:
        return self._look(True)

    def changes(self, last: Snapshot) -> Snapshot:
        """See ports.inventory.Inventory. A snapshot that is not the last one of this object gives a listing."""
        return self._look(last is not self._last)

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        presence = dict.fromkeys((instance.id for instance in instances), Presence.UNKNOWN)
        until = self._clock.monotonic() + self._settings.call_deadline
        for name, region in self._regions.items():
            asked = [each for each in list(instances)[:CONFIRM_LIMIT] if each.region == name]
            presence |= region.confirm(asked, until)
        return presence

    # --- a look -----------------------------------------------------------------------------------------------------

    def _look(self, full: bool) -> Snapshot:
        meter = self._cloud.meter
        requests, size = meter.requests, meter.bytes
        seconds = self._settings.listing_deadline if full else self._settings.call_deadline
        until = self._clock.monotonic() + seconds
        try:
            seen = self._seen(self._cloud.login(), full, until)
        except Refused as refused:
            seen = self._locked_out(refused)
        self._last = replace(seen, requests=meter.requests - requests, bytes=meter.bytes - size)
        return self._last

    def _seen(self, login: Login, full: bool, until: float) -> Snapshot:
        known = None if full or self._projects_failed else self._projects
        projects = self._told(known) if known else self._ask_projects(login, until)
        regions = self._ask_regions(login, full, until)
        now = self._clock.now()
        return Snapshot(now, self._source, projects, regions, Fact(tuple(regions), self._source, now))

    def _locked_out(self, refused: Refused) -> Snapshot:
        cloud = self._settings.cloud
        report: Report = LoginRefused(cloud, refused.reason)
        if isinstance(refused, ScopeUnfit):
            report = WrongScope(cloud, refused.scope)
        why = self._missing(report)
        regions = {name: self._region(name).blind(why) for name in self._names(())}
        return Snapshot(why.at, self._source, why, regions, why)

    def _ask_projects(self, login: Login, until: float) -> Answer[Mapping[str, Project]]:
        try:
            self._projects = all_projects(self._cloud, login, self._settings.domain, until)
            self._projects_failed = False
        except Refused as refused:
            self._projects_failed = True
            return self._missing(SourceFailed(self._source, "its projects", refused.reason))
        return self._told(self._projects)

    def _told(self, projects: ProjectList) -> Answer[Mapping[str, Project]]:
        return Fact(projects.projects, self._source, self._clock.now())

    def _missing(self, report: Report) -> Missing:
        return Missing(report, self._source, self._clock.now())

    # --- regions ----------------------------------------------------------------------------------------------------

    def _names(self, offered: Collection[str]) -> list[str]:
        """The regions to speak of: those of the site file, or else all that are or were in the catalog."""
        return sorted(self._settings.regions or {*offered, *self._regions})

    def _region(self, name: str) -> Region:
        if name not in self._regions:
            self._regions[name] = Region(name, self._cloud, self._settings, self._clock, self._manners)
        return self._regions[name]

    def _ask_regions(self, login: Login, full: bool, until: float) -> dict[str, RegionView]:
        regions = [self._region(name) for name in self._names(login.regions)]
        self._take_ended()
        impatient = not any(region.new for region in regions)
        for region in regions:
            if region.name in login.regions and region.name not in self._asked and not region.resting:
                self._ask(region, full, until)
        self._wait(until, impatient)
        return {region.name: self._view(region, login) for region in regions}

    def _ask(self, region: Region, full: bool, until: float) -> None:
        projects = self._projects

        def work() -> None:
            try:
                region.look(projects, full, until)
            finally:
                self._ended.put(region.name)

        self._asked[region.name] = _Asked(Job(f"labstore-region-{region.name}", work), self._clock.monotonic())

    def _wait(self, until: float, impatient: bool) -> None:
        """Until every region has answered; not for ever, and not long for one when another has."""
        while self._asked:
            try:
                self._end(self._ended.get(timeout=max(0.0, until - self._clock.monotonic())))
            except Empty:
                return
            if impatient:
                until = min(until, self._clock.monotonic() + self._manners.patience)

    def _take_ended(self) -> None:
        while not self._ended.empty():
            self._end(self._ended.get())

    def _end(self, name: str) -> None:
        self._asked.pop(name).job.ended(1.0)

    def _view(self, region: Region, login: Login) -> RegionView:
        if region.name not in login.regions:
            return region.blind(self._missing(RegionNotOffered(region.name)))
        asked = self._asked.get(region.name)
        if asked is not None:
            seconds = int(self._clock.monotonic() - asked.since)
            return region.blind(self._missing(RegionStillAnswering(region.name, seconds)))
        return region.view()
