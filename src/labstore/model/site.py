"""A validated site: which clusters serve which shares of which projects, and how carefully."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from labstore.model.address import Client
from labstore.model.cloud import AddressKind
from labstore.model.export_tree import Bind, Place, binds, points
from labstore.model.exports import Access, ExportOptions, Fsid, Owner, Security, Squash
from labstore.model.names import ClusterName, ExportPath, HostName, Name, ProjectName, ShareName, VolumeName

if TYPE_CHECKING:
    from labstore.model.backup_settings import BackupSettings
    from labstore.model.binds import BindsSettings
    from labstore.model.failover import FailoverSettings

PUBLIC_OWNER = "public_"
"""Begins the owner (and so the file) of a public share: `public_<name>.exports`, as the original has it."""

GID_MAX = (1 << 32) - 2
"""The largest group id there is: 2^32-1 means "no group" to the kernel."""


class SiteName(Name):
    """The name of the whole installation; it goes into fsids."""

    __slots__ = ()
    what = "site name"


class BackendKind(StrEnum):
    """Which NFS server a cluster runs."""

    KNFSD = "knfsd"
    GANESHA = "ganesha"


class Expect(StrEnum):
    """What emptiness means (upstream #5): SOME: having none is suspicious and held. ANY: none is as right as some.
    NONE: none is what is wanted, so the last one may go."""

    SOME = "some"
    ANY = "any"
    NONE = "none"


class FsidFrom(StrEnum):
    """Where the fsid of an export comes from. PATH: site, cluster and path. GID: the original's form with the
    project's gid. VOLUME: not written; the server uses the file system's own UUID."""

    PATH = "path"
    GID = "gid"
    VOLUME = "volume"


class InventoryKind(StrEnum):
    OPENSTACK = "openstack"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster. `address` is where its partner and its operators reach it, None where nobody said."""

    name: HostName
    address: Client | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A block device with a file system. What is not None of `filesystem` (`ext4`) and `uuid` must be found there.

    `mounted` is False for a plain directory: then there is nothing that could be missing from `mount`.
    """

    name: VolumeName
    mount: ExportPath
    filesystem: str | None = None
    uuid: str | None = None
    mounted: bool = True


@dataclass(frozen=True, slots=True)
class Ganesha:
    """How labstore reaches NFS-Ganesha: its D-Bus address."""

    bus: str = "unix:path=/run/dbus/system_bus_socket"


@dataclass(frozen=True)
class Cluster:
    """A pair of nodes (or one) that serves under one set of addresses.

    The node that holds all of `service_addresses` is the active one; without any, every node always is.
    `service_names` are the host parts of `host:/path` in mounts files that mean this cluster; they are compared,
    never resolved (upstream #6). With an `export_root` every share is exported from a bind mount below that.
    """

    name: ClusterName
    backend: BackendKind = BackendKind.KNFSD
    service_addresses: tuple[Client, ...] = ()
    service_names: tuple[HostName, ...] = ()
    nodes: tuple[Node, ...] = ()
    volumes: tuple[Volume, ...] = ()
    exports_dir: Path = Path("/etc/exports.d")
    ganesha: Ganesha = Ganesha()
    export_root: ExportPath | None = None

    def volume(self, name: str) -> Volume:
        """Raises KeyError."""
        return self._volumes[name]

    def node(self, name: str) -> Node:
        """Raises KeyError."""
        return self._nodes[name]

    def volume_of(self, path: ExportPath) -> Volume | None:
        """The volume on which `path` lies, None where it lies on none of this cluster's."""
        parents = (path, *map(str, Path(path).parents))
        return next((self._mounts[parent] for parent in parents if parent in self._mounts), None)

    @cached_property
    def _volumes(self) -> Mapping[str, Volume]:
        return {volume.name: volume for volume in self.volumes}

    @cached_property
    def _mounts(self) -> Mapping[str, Volume]:
        return {volume.mount: volume for volume in self.volumes}

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}


@dataclass(frozen=True, slots=True)
class SharePolicy:
    """The options of a kind of share, before they meet a path; the defaults are the safe ones.

    `mountpoint_guard`: nothing is exported while the volume is not mounted (upstream #13).
    `anonuid`/`anongid`: who squashed callers become, None for the server's nobody.
    """

    access: Access = Access.RW
    squash: Squash = Squash.ROOT
    sync: bool = True
    security: tuple[Security, ...] = (Security.SYS,)
    insecure: bool = False
    crossmnt: bool = False
    nohide: bool = False
    anonuid: int | None = None
    anongid: int | None = None
    fsid: FsidFrom = FsidFrom.PATH
    mountpoint_guard: bool = True

    def options(self, domain: str, path: ExportPath, volume: Volume, gid: int | None) -> ExportOptions:
        """The export options at `path`; `domain` (site and cluster) is what makes fsids of paths unique.

        Raises ValueError where the fsid shall come from a gid that is not there or does not fit.
        """
        return ExportOptions(
            access=self.access,
            squash=self.squash,
            sync=self.sync,
            security=self.security,
            insecure=self.insecure,
            crossmnt=self.crossmnt,
            nohide=self.nohide,
            fsid=self._fsid(domain, path, gid),
            mountpoint=volume.mount if self.mountpoint_guard and volume.mounted else None,
            anonuid=self.anonuid,
            anongid=self.anongid,
        )

    def _fsid(self, domain: str, path: ExportPath, gid: int | None) -> Fsid | None:
        if self.fsid is FsidFrom.VOLUME:
            return None
        if self.fsid is FsidFrom.PATH:
            return Fsid.of_path(domain, path)
        if gid is None:
            raise ValueError("an fsid can only come from the gid where there is a project with one")
        return Fsid.of_gid(gid)


@dataclass(frozen=True, slots=True)
class ShareKind:
    """A kind of share: one mount name of the mounts file.

    `path` is the export path with `{project}` and `{gid}` still in it, below the mount of the volume. `projects`
    are the only ones that may have it, None for any. An external kind is served elsewhere: cluster, volume and path
    are None and it never gives an export.
    """

    name: ShareName
    cluster: ClusterName | None
    volume: VolumeName | None
    path: str | None
    policy: SharePolicy = SharePolicy()
    projects: frozenset[ProjectName] | None = None

    @property
    def external(self) -> bool:
        return self.cluster is None


@dataclass(frozen=True, slots=True)
class ProjectShare:
    """One share of one project, resolved: where it lies and under which options it is served."""

    share: ShareName
    cluster: ClusterName
    volume: VolumeName
    path: ExportPath
    policy: SharePolicy


@dataclass(frozen=True, slots=True)
class SiteProject:
    """A project as the site's files declare it. `gid` is the group that owns its shares.

    `external` are its shares that are served elsewhere: known, so that clients can mount them, and never exported.
    """

    name: ProjectName
    gid: int
    shares: tuple[ProjectShare, ...] = ()
    external: tuple[ShareName, ...] = ()
    expect: Expect = Expect.SOME


@dataclass(frozen=True, slots=True)
class PublicShare:
    """A share that is not a project's: for these clients, or with `world` for every address there is. A `bare` one is
    exported at its own path in a cluster with an export root too."""

    name: ShareName
    cluster: ClusterName
    volume: VolumeName
    path: ExportPath
    policy: SharePolicy = SharePolicy()
    clients: tuple[Client, ...] = ()
    world: bool = False
    bare: bool = False

    @property
    def owner(self) -> Owner:
        return Owner(PUBLIC_OWNER + self.name)


@dataclass(frozen=True, slots=True)
class WantedExport:
    """One path that a cluster shall export, merged over the kinds of share that give it. `source` is the directory
    that is seen there.

    `project` and `gid` are None for a public share, whose clients (or `world`) are fixed by the site file; the
    clients of a project's export come from the inventory, so `clients` is empty there.
    """

    owner: Owner
    path: ExportPath
    volume: Volume
    options: ExportOptions
    shares: tuple[ShareName, ...]
    project: ProjectName | None = None
    gid: int | None = None
    clients: tuple[Client, ...] = ()
    world: bool = False
    expect: Expect = Expect.SOME
    source: ExportPath | None = None

    @property
    def public(self) -> bool:
        return self.project is None

    @property
    def directory(self) -> ExportPath:
        """Where it lies on its volume."""
        return self.source or self.path


@dataclass(frozen=True, slots=True)
class BrakeLimits:
    """How many removals one batch may hold before it waits for a person (upstream #4).

    `project` and `overall` are parts (0 to 1) of the clients that a project, and the whole table, had before;
    `count` is a number of clients. Whichever is reached first holds the batch, except that a batch of at most
    `floor` clients is never held by a part: one of three instances is 33 %.
    """

    project: float
    overall: float
    count: int
    floor: int

    def holds_project(self, removed: int, before: int) -> bool:
        """Whether a project that had `before` clients may not lose `removed` of them at once."""
        return removed > self.floor and removed > self.project * before

    def holds_overall(self, removed: int, before: int) -> bool:
        """Whether a table of `before` clients may not lose `removed` of them at once."""
        return removed > self.count or (removed > self.floor and removed > self.overall * before)


@dataclass(frozen=True, slots=True)
class Brake:
    """`absent`: removals whose only proof is that two complete listings lack them, and those that a declaration
    causes. `proven`: those on the cloud's positive word; they are never slowed, only stopped when they are many."""

    absent: BrakeLimits = BrakeLimits(project=0.5, overall=0.05, count=20, floor=1)
    proven: BrakeLimits = BrakeLimits(project=1.0, overall=0.3, count=200, floor=10)


@dataclass(frozen=True, slots=True)
class ExportsSettings:
    """How the exports room works. `poll` and `listing` in seconds.

    `allow_networks`: addresses outside are reported and not exported; empty for no such rule.
    `subnets`: networks that belong wholly to a project, so that one client entry stands for all its instances.
    """

    poll: float = 3.0
    listing: float = 300.0
    keep_generations: int = 1000
    brake: Brake = Brake()
    expect_private: Expect = Expect.SOME
    expect_public: Expect = Expect.ANY
    allow_networks: tuple[Client, ...] = ()
    subnets: Mapping[ProjectName, tuple[Client, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenStackSettings:
    """How the cloud is asked. `cloud` is the entry of `clouds_file` (None: where openstacksdk looks by itself); the
    secret stays there. `regions` empty: all that Keystone lists. `domain`: whose projects are meant, by name.
    Deadlines in seconds, of one call and of one complete listing; `concurrency` is calls at a time.
    """

    cloud: str = "novaobserver"
    clouds_file: Path | None = None
    regions: tuple[str, ...] = ()
    domain: str = "default"
    addresses: frozenset[AddressKind] = frozenset(AddressKind)
    call_deadline: float = 30.0
    listing_deadline: float = 300.0
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class InventorySettings:
    """Where projects and instances are known: `file` belongs to the file source, `openstack` to the other."""

    source: InventoryKind
    file: Path | None = None
    openstack: OpenStackSettings = OpenStackSettings()


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Where Prometheus finds the daemon; None for no listener."""

    host: str = "127.0.0.1"
    port: int = 9311


@dataclass(frozen=True)
class Site:
    """Everything the site file and the mounts files it names say, checked against each other."""

    name: SiteName
    clusters: tuple[Cluster, ...]
    shares: tuple[ShareKind, ...] = ()
    projects: tuple[SiteProject, ...] = ()
    public: tuple[PublicShare, ...] = ()
    inventory: InventorySettings = InventorySettings(InventoryKind.OPENSTACK)
    exports: ExportsSettings = ExportsSettings()
    failover: Mapping[ClusterName, FailoverSettings] = field(default_factory=dict)
    binds: BindsSettings | None = None
    backup: BackupSettings | None = None
    metrics: MetricsSettings | None = MetricsSettings()
    state_dir: Path = Path("/var/lib/labstore")
    run_dir: Path = Path("/run/labstore")

    def cluster(self, name: str) -> Cluster:
        """Raises KeyError."""
        return self._clusters[name]

    def project(self, name: str) -> SiteProject:
        """Raises KeyError."""
        return self._projects[name]

    def share(self, name: str) -> ShareKind:
        """Raises KeyError."""
        return self._shares[name]

    def clusters_of(self, node: str) -> tuple[Cluster, ...]:
        """The clusters to which a machine of this name belongs; a full host name also finds its first label."""
        names = {node, node.partition(".")[0]}
        return tuple(c for c in self.clusters if names & {n.name for n in c.nodes})

    def wanted(self, cluster: str) -> tuple[WantedExport, ...]:
        """What a cluster shall export, one per path, in order of the path. Raises KeyError for an unknown cluster."""
        here = self.cluster(cluster)
        exports = [*self._private(here), *self._public(here)]
        if here.export_root is not None:
            at = points(here.export_root, self._places(here))
            exports = [
                replace(each, path=at[each.path], source=each.path) if each.path in at else each for each in exports
            ]
        return tuple(sorted(exports, key=lambda wanted: wanted.path))

    def binds_of(self, cluster: str) -> tuple[Bind, ...]:
        """The bind mounts that a cluster with an export root needs. Raises KeyError for an unknown cluster."""
        here = self.cluster(cluster)
        return () if here.export_root is None else binds(here.export_root, self._places(here))

    def _places(self, cluster: Cluster) -> tuple[Place, ...]:
        """The directories that go into the export tree of a cluster."""
        private = {
            share.path: Place(Owner(project.name), project.name, share.path, share.volume, project.name)
            for project in self.projects
            for share in project.shares
            if share.cluster == cluster.name
        }
        public = {
            share.path: Place(share.owner, share.name, share.path, share.volume)
            for share in self.public
            if share.cluster == cluster.name and not share.bare
        }
        return (*private.values(), *public.values())

    def _private(self, cluster: Cluster) -> Iterable[WantedExport]:
        for project in self.projects:
            by_path: dict[ExportPath, list[ProjectShare]] = {}
            for share in project.shares:
                if share.cluster == cluster.name:
                    by_path.setdefault(share.path, []).append(share)
            for path, shares in by_path.items():
                volume = cluster.volume(shares[0].volume)
                yield WantedExport(
                    owner=Owner(project.name),
                    path=path,
                    volume=volume,
                    options=shares[0].policy.options(self.fsid_domain(cluster), path, volume, project.gid),
                    shares=tuple(sorted(share.share for share in shares)),
                    project=project.name,
                    gid=project.gid,
                    expect=project.expect,
                )

    def _public(self, cluster: Cluster) -> Iterable[WantedExport]:
        for share in self.public:
            if share.cluster == cluster.name:
                volume = cluster.volume(share.volume)
                yield WantedExport(
                    owner=share.owner,
                    path=share.path,
                    volume=volume,
                    options=share.policy.options(self.fsid_domain(cluster), share.path, volume, None),
                    shares=(share.name,),
                    clients=share.clients,
                    world=share.world,
                    expect=Expect.ANY,
                )

    def fsid_domain(self, cluster: Cluster) -> str:
        """What makes the fsid of a path this site's and this cluster's: the same on both nodes."""
        return f"{self.name}/{cluster.name}"

    @cached_property
    def _clusters(self) -> Mapping[str, Cluster]:
        return {cluster.name: cluster for cluster in self.clusters}

    @cached_property
    def _projects(self) -> Mapping[str, SiteProject]:
        return {project.name: project for project in self.projects}

    @cached_property
    def _shares(self) -> Mapping[str, ShareKind]:
        return {share.name: share for share in self.shares}
