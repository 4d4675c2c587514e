"""A small site and a reconciler of it on fakes, for tests of the exports room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labstore.exports.cycle import ExportCycle
from labstore.exports.history import History
from labstore.exports.observe import Observer
from labstore.model.address import Client
from labstore.model.exports import ExportTable
from labstore.model.names import ClusterName, ExportPath, ProjectName, ShareName, VolumeName
from labstore.model.site import (
    Cluster,
    Expect,
    ExportsSettings,
    ProjectShare,
    PublicShare,
    SharePolicy,
    Site,
    SiteName,
    SiteProject,
    Volume,
)
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeExportServer, FakeInventory, FakeNode, instance

CLUSTER = ClusterName("primary")
MISC = Volume(VolumeName("misc"), ExportPath("/srv/misc"))


def project(name: str, gid: int, *kinds: str, expect: Expect = Expect.SOME) -> SiteProject:
    """A project with one export for all its kinds of share, as the original lays them out."""
    path = ExportPath(f"/srv/misc/shared/{name}")
    shares = tuple(
        ProjectShare(ShareName(kind), CLUSTER, MISC.name, path, SharePolicy()) for kind in kinds or ("project",)
    )
    return SiteProject(ProjectName(name), gid, shares, expect=expect)


def public(name: str, *clients: str, world: bool = False) -> PublicShare:
    path = ExportPath(f"/srv/misc/{name}")
    networks = tuple(Client(client) for client in clients)
    return PublicShare(ShareName(name), CLUSTER, MISC.name, path, SharePolicy(), networks, world)


def site(
    projects: Sequence[SiteProject], public: Sequence[PublicShare] = (), settings: ExportsSettings | None = None
) -> Site:
    cluster = Cluster(CLUSTER, service_addresses=(Client("172.16.0.10"),), volumes=(MISC,))
    return Site(SiteName("test"), (cluster,), (), tuple(projects), tuple(public), exports=settings or ExportsSettings())


def path_of(name: str) -> ExportPath:
    return ExportPath(f"/srv/misc/shared/{name}")


@dataclass
class World:
    """Everything around one ExportCycle, on fakes, in the hands of the test."""

    clock: FakeClock
    inventory: FakeInventory
    server: FakeExportServer
    node: FakeNode
    history_file: Path
    site: Site
    cycle: ExportCycle

    @classmethod
    def of(cls, directory: Path, site: Site) -> World:
        clock = FakeClock()
        parts = (clock, FakeInventory(clock), FakeExportServer(clock), FakeNode(clock))
        world = cls(*parts, directory / "history.sqlite", site, None)  # type: ignore[arg-type]
        world.start()
        return world

    def start(self) -> None:
        """A fresh process: everything in memory is forgotten."""
        history = History(self.history_file)
        cluster = self.site.clusters[0]
        observer = Observer(cluster, self.inventory, self.server, self.node, history, self.clock)
        self.cycle = ExportCycle(lambda: self.site, observer, "test@host")

    @property
    def history(self) -> History:
        return self.cycle.observer.history

    def declare(self, projects: Sequence[SiteProject] | None = None, settings: ExportsSettings | None = None) -> None:
        chosen = self.site.projects if projects is None else tuple(projects)
        self.site = replace(self.site, projects=chosen, exports=settings or self.site.exports)

    def clients(self, name: str) -> tuple[str, ...]:
        """Who may mount a project's share, by the server's own table."""
        export = self.server.live.by_path.get(path_of(name))
        return tuple(str(client) for client in export.clients) if export else ()

    def table(self) -> ExportTable:
        return self.server.live


def three_projects(directory: Path, settings: ExportsSettings | None = None) -> World:
    """tools with six instances, maps with three, cvn with one: served."""
    declared = [project("tools", 50380), project("maps", 50196), project("cvn", 50116)]
    world = World.of(directory, site(declared, settings=settings))
    for name, count, net in (("tools", 6, 1), ("maps", 3, 2), ("cvn", 1, 3)):
        id_ = world.inventory.add_project(name)
        for number in range(count):
            world.inventory.add(instance(f"{name}-{number + 1}", id_, f"172.16.{net}.{number + 11}"))
    world.clock.advance(60)
    world.cycle.run()
    world.server.calls = world.server.writes = 0
    return world
