"""The only place where a site becomes concrete objects."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labstore.config.load import DEFAULT, load
from labstore.exports.backends.knfsd import Knfsd, KnfsdPaths
from labstore.exports.cycle import ExportCycle
from labstore.exports.history import History
from labstore.exports.observe import Observer
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.failover import state_directory
from labstore.model.names import ClusterName
from labstore.model.site import BackendKind, Cluster, InventoryKind, InventorySettings, Site
from labstore.ports.clock import Clock
from labstore.ports.export_server import ExportServer, Served
from labstore.ports.inventory import Inventory
from labstore.ports.node import Node, VolumeState
from labstore.reconcile.facts import Answer, Fact
from labstore.reports.in_file import BadFile, Origin
from labstore.reports.report import Report
from labstore.system import locks
from labstore.system.clock import SystemClock
from labstore.system.exportfs import RootExportfs, SudoExportfs
from labstore.system.files import make_directory
from labstore.system.identity import node_name
from labstore.system.run import LocalHost

RETRY = 15.0
"""Seconds after which files that could not be taken are tried again although their stat is the same: what was wrong
may have been another file."""
SEPARATE = "-failover"
"""Ends the names of the directories that are root's."""
Signature = tuple[int, int, int] | None


# --- the site, as its files say now ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SiteFiles:
    """A site with the files that it was read from, and what is worth knowing about them."""

    site: Site
    files: tuple[Path, ...]
    notices: tuple[Report, ...] = ()
    accounts: DbusersSettings | None = None
    """Read for the room of accounts alone: passwords are in it."""


def from_site_file(path: Path = DEFAULT) -> Callable[[], SiteFiles]:
    """Reads the site file and the mounts files it names. The reader raises BadFile."""

    def read() -> SiteFiles:
        loaded = load(path)
        return SiteFiles(loaded.site, (path, *(Path(mounts.name) for mounts in loaded.mounts)), loaded.notices)

    return read


class SiteSource:
    """The site, read again when the stat of one of its files changes.

    A reload that fails, or whose site `fits` refuses by raising BadFile, changes nothing: the last good site stays and
    `concerns` says what is wrong, until it is put right (upstream #3, #6). The first reading raises BadFile.
    """

    def __init__(
        self,
        read: Callable[[], SiteFiles],
        path: Path,
        fits: Callable[[Site], None] = lambda _site: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._path, self.fits, self._monotonic = read, path, fits, monotonic
        self._seen = self._signatures((path,))
        self._good = self._fitting()
        self._seen = self._seen | self._signatures(self._good.files)
        self._concerns: tuple[Report, ...] = ()
        self._tried = monotonic()

    def __call__(self) -> Site:
        if self._due():
            self.reload()
        return self._good.site

    @property
    def notices(self) -> tuple[Report, ...]:
        return self._good.notices

    def accounts(self) -> DbusersSettings:
        """How database accounts work now; for a source that reads them."""
        self()
        assert self._good.accounts is not None, "this source reads no accounts"
        return self._good.accounts

    def concerns(self) -> tuple[Report, ...]:
        """What keeps the files from being taken as they are now; empty where they were."""
        return self._concerns

    def reload(self) -> bool:
        """Read the files now, whatever their stat says; whether they could be taken."""
        self._tried = self._monotonic()
        seen = self._signatures((self._path, *self._good.files))
        try:
            self._good = self._fitting()
        except BadFile as error:
            self._seen, self._concerns = seen, error.reports
            return False
        self._seen, self._concerns = seen | self._signatures(set(self._good.files) - seen.keys()), ()
        return True

    def _fitting(self) -> SiteFiles:
        read = self._read()
        self.fits(read.site)
        return read

    def _due(self) -> bool:
        if self._concerns and self._monotonic() - self._tried >= RETRY:
            return True
        return self._signatures(self._seen) != self._seen

    def _signatures(self, paths: Iterable[Path]) -> dict[Path, Signature]:
        return {path: _signature(path) for path in paths}


def _signature(path: Path) -> Signature:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def cluster_here(site: Site, name: str | None = None, node: str | None = None, file: str = "site file") -> Cluster:
    """The cluster that is meant: by its name, or the only one to which this node belongs. Raises BadFile."""
    if name is not None:
        try:
            return site.cluster(name)
        except KeyError:
            known = ", ".join(cluster.name for cluster in site.clusters)
            raise BadFile([Origin(file).problem(f"there is no cluster {name}", f"known are: {known}")]) from None
    node = node or node_name()
    here = site.clusters_of(node)
    if not here and len(site.clusters) == 1 and not site.clusters[0].nodes:
        here = site.clusters
    if len(here) == 1:
        return here[0]
    names = ", ".join(cluster.name for cluster in here or site.clusters)
    problem = f"node {node} belongs to {f'{len(here)} clusters' if here else 'none of the clusters'}: {names}"
    raise BadFile([Origin(file).problem(problem, "say which with --cluster NAME, or name the node under its cluster")])


# --- places ----------------------------------------------------------------------------------------------------------


def exports_state(site: Site, cluster: str) -> Path:
    """Where the exports of a cluster are remembered: for a pair, on the volume that goes where the service goes, so
    that a node that takes over serves what was last known good on the other."""
    pair = site.failover.get(ClusterName(cluster))
    if pair is not None:
        return state_directory(site.cluster(cluster), pair) / "exports"
    return site.state_dir / "exports" / cluster


def history_file(site: Site, cluster: str) -> Path:
    return exports_state(site, cluster) / "history.sqlite"


def alive_file(site: Site, cluster: str) -> Path:
    """Locked by the cluster's daemon for as long as it lives."""
    return site.run_dir / "exports" / f"{cluster}.daemon"


@contextlib.contextmanager
def exports_lock(
    site: Site, cluster: str, what: str, patience: float = 0.0, pause: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the lock of a cluster's exports, waiting up to `patience` seconds for it. Raises Locked, OSError."""
    path = site.run_dir / "exports" / f"{cluster}.lock"
    make_directory(path.parent)
    until = time.monotonic() + patience
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(locks.exclusive(path, what))
                break
            except locks.Locked:
                if time.monotonic() >= until:
                    raise
                pause(0.05)
        yield


def private_run(site: Site) -> Path:
    """Where what root alone may touch keeps its locks: the site's own run directory belongs to the user of its
    daemons."""
    return site.run_dir.with_name(site.run_dir.name + SEPARATE)


def failover_lock(site: Site, cluster: str) -> Path:
    """Held by whoever moves the service of a cluster to or from this node."""
    return private_run(site) / f"{cluster}.lock"


# --- exports ---------------------------------------------------------------------------------------------------------


def inventory_of(settings: InventorySettings, clock: Clock) -> Inventory:
    """The source of projects and instances."""
    if settings.source is InventoryKind.FILE:
        from labstore.sources.static import FileInventory  # noqa: PLC0415 - heavy, and not for every site

        assert settings.file is not None, "the site file's check lets no file source without a file through"
        return FileInventory(settings.file, clock)
    from labstore.sources.openstack import OpenStackInventory  # noqa: PLC0415 - heavy, and not for every site

    return OpenStackInventory(settings.openstack, clock)


def local_node(clock: Clock) -> Node:
    from labstore.system.node import LocalNode  # noqa: PLC0415 - netlink is heavy, and only cycles ask it

    return LocalNode(clock)


def server_of(site: Site, cluster: Cluster, clock: Clock) -> ExportServer:
    """The NFS server of a cluster on this node."""
    state = exports_state(site, cluster.name)
    if cluster.backend is BackendKind.GANESHA:
        from labstore.exports.backends.ganesha import NfsGanesha  # noqa: PLC0415 - heavy, and not for every site
        from labstore.system.ganesha import Ganesha  # noqa: PLC0415 - heavy, and not for every site

        return NfsGanesha(state / "ganesha", Ganesha(clock, _socket(cluster.ganesha.bus)), clock)
    return knfsd_of(site, cluster, clock)


def _socket(bus: str) -> Path:
    """Where a D-Bus address (`unix:path=...`, `unix:abstract=...`) is connected to."""
    return Path(bus.removeprefix("unix:path=").replace("unix:abstract=", "\0"))


def knfsd_of(site: Site, cluster: Cluster, clock: Clock) -> Knfsd:
    """The kernel's server, whose exportfs runs as root: with our own rights, or through the sudo rule."""
    host = LocalHost()
    runner = RootExportfs(host) if os.geteuid() == 0 else SudoExportfs(host)
    store = exports_state(site, cluster.name) / "knfsd"
    return Knfsd(store, runner, clock, KnfsdPaths(exports_dir=cluster.exports_dir))


def server_name(cluster: Cluster) -> str:
    return {BackendKind.KNFSD: "the kernel's NFS server", BackendKind.GANESHA: "NFS-Ganesha"}[cluster.backend]


class StateElsewhere(Exception):
    """The volume on which a pair remembers its exports is not mounted here: the other node has it, or nobody."""

    def __init__(self, volume: str, found: str) -> None:
        self.volume, self.found = volume, found
        super().__init__(f"volume {volume}, on which the exports are remembered: {found}")


@dataclass(frozen=True)
class Hands:
    """What makes the parts of a site concrete: the real things, unless somebody hands in others."""

    clock: Clock = field(default_factory=SystemClock)
    inventory: Callable[[InventorySettings, Clock], Inventory] = inventory_of
    server: Callable[[Site, Cluster, Clock], ExportServer] = server_of
    node: Callable[[Clock], Node] = local_node


@dataclass
class ExportsRoom:
    """One cluster's exports on this node, put together from the site, and anew when the site changes a part of it.

    `wrap` may put something around the inventory (a daemon that wants to be interruptible). A `dry` one leaves no
    trace: it can propose, and not carry out. Making it raises StateElsewhere, OSError, sqlite3.Error.
    """

    source: SiteSource
    cluster: str
    who: str
    wrap: Callable[[Inventory], Inventory] = lambda inventory: inventory
    dry: bool = False
    node: str = field(default_factory=node_name)
    hands: Hands = field(default_factory=Hands)
    _made: tuple[tuple[object, ...], ExportCycle] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.source.fits = self._still_there

    @property
    def clock(self) -> Clock:
        return self.hands.clock

    def cycle(self) -> ExportCycle:
        """The reconciler as the site wants it now; the same object as long as that is the same."""
        site = self.source()
        cluster = site.cluster(self.cluster)
        key = (cluster, site.inventory, site.state_dir)
        if self._made is None or self._made[0] != key:
            before = self._made[1] if self._made else None
            self._made = (key, self._make(site, cluster))
            if before is not None:
                self._made[1].number = before.number
                before.observer.history.close()
        return self._made[1]

    def serve_files(self) -> Answer[Served]:
        """See that the server says what its files say, where this node is not known to be a standby: for when there is
        no history to be had. Returns what was found. Raises StepFailed."""
        site = self.source()
        cluster = site.cluster(self.cluster)
        server = self.hands.server(site, cluster, self.clock)
        served, role = server.observe(), self.hands.node(self.clock).holds(cluster.service_addresses)
        standby = isinstance(role, Fact) and not role.value
        if isinstance(served, Fact) and served.value.drift and not standby:
            server.apply(served.value.stored, served.value.generation or 0)
        return served

    def close(self) -> None:
        if self._made is not None:
            self._made[1].observer.history.close()
            self._made = None

    def _make(self, site: Site, cluster: Cluster) -> ExportCycle:
        observer = Observer(
            cluster=cluster,
            inventory=self.wrap(self.hands.inventory(site.inventory, self.clock)),
            server=self.hands.server(site, cluster, self.clock),
            node=self.hands.node(self.clock),
            history=self._history(site, cluster),
            clock=self.clock,
        )
        return ExportCycle(self.source, observer, self.who, server_name(cluster), concerns=self.source.concerns)

    def _history(self, site: Site, cluster: Cluster) -> History:
        self._volume_is_here(site, cluster)
        path = history_file(site, cluster.name)
        if self.dry:
            return History(path, read_only=True) if path.exists() else History(Path(":memory:"))
        make_directory(path.parent, 0o750)
        return History(path)

    def _volume_is_here(self, site: Site, cluster: Cluster) -> None:
        """Nothing is written below the mount point of a volume that is not mounted."""
        pair = site.failover.get(cluster.name)
        if pair is None:
            return
        volume = cluster.volume(pair.state)
        answer = self.hands.node(self.clock).volume(volume)
        found = answer.value.value if isinstance(answer, Fact) else answer.report.message()
        if not (isinstance(answer, Fact) and answer.value is VolumeState.FIT):
            raise StateElsewhere(volume.name, found)

    def _still_there(self, site: Site) -> None:
        if self.cluster not in {cluster.name for cluster in site.clusters}:
            problem = f"cluster {self.cluster}, which is served here, is no longer there"
            raise BadFile([Origin("site file").problem(problem, "put it back, or stop its daemon")])


def exports_cycle(source: SiteSource, cluster: str, who: str) -> ExportCycle:
    """The reconciler of one cluster's exports on this node, for one run. Raises as ExportsRoom does."""
    return ExportsRoom(source, cluster, who).cycle()
