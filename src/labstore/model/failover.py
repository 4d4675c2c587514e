"""How a pair of nodes holds one service: what the site file says about replication, takeover and the way between."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from labstore.model.address import Client
from labstore.model.drbd import ResourceName
from labstore.model.names import ClusterName, ExportPath, HostName, Name, VolumeName
from labstore.model.site import Cluster, Node, Volume

STATE_DIRECTORY = ".labstore"
CANARY = "labstore-canary"
"""The public share by which a node mounts itself through the service address, to see that it can be done."""


class WriteProtocol(StrEnum):
    """When DRBD calls a write done. C: on both disks; anything less can lose acknowledged writes."""

    A = "A"
    B = "B"
    C = "C"


class Fencing(StrEnum):
    """What a primary does when it loses its partner. RESOURCE_ONLY: it marks the partner's data as outdated, over
    another network, so that the partner cannot take over with old data. RESOURCE_AND_STONITH: it also holds all
    writes until that is done."""

    DONT_CARE = "dont-care"
    RESOURCE_ONLY = "resource-only"
    RESOURCE_AND_STONITH = "resource-and-stonith"


class InterfaceName(Name):
    """A network interface."""

    __slots__ = ()
    what = "interface name"


class UnitName(Name):
    """A systemd unit, with its kind: `labstore-exports.service`."""

    __slots__ = ()
    what = "unit name"


@dataclass(frozen=True, slots=True)
class Resource:
    """One DRBD resource with one volume. `minor` and `port` are the same on both nodes; `disk` is the backing device
    by node."""

    name: ResourceName
    volume: VolumeName
    minor: int
    port: int
    disks: Mapping[HostName, Path]

    @property
    def device(self) -> Path:
        return Path(f"/dev/drbd{self.minor}")


@dataclass(frozen=True, slots=True)
class Rates:
    """KiB/s. A resync takes what the link leaves, at most `most`, and at least `least` however busy the disks are."""

    most: int = 100 * 1024
    least: int = 4 * 1024


@dataclass(frozen=True, slots=True)
class Replication:
    """`addresses` are the nodes' ends of the replication link. `secret_file` holds the shared secret (one line); None
    leaves the peers unauthenticated. Times in seconds; `connect_wait` is how long a node waits for its partner before
    it goes on alone. `resync_snapshots`: an LVM snapshot of a side is taken before it is overwritten by a resync."""

    resources: tuple[Resource, ...]
    addresses: Mapping[HostName, Client]
    protocol: WriteProtocol = WriteProtocol.C
    secret_file: Path | None = Path("/etc/labstore/drbd.secret")
    fencing: Fencing = Fencing.RESOURCE_ONLY
    rates: Rates = Rates()
    verify_alg: str = "sha1"
    max_buffers: int = 8000
    timeout: float = 6.0
    ping_interval: float = 10.0
    ping_timeout: float = 0.5
    connect_wait: float = 20.0
    resync_snapshots: bool = False

    def resource_of(self, volume: VolumeName) -> Resource:
        """Raises KeyError."""
        for resource in self.resources:
            if resource.volume == volume:
                return resource
        raise KeyError(volume)


@dataclass(frozen=True, slots=True)
class Channel:
    """How a node reaches its partner: ssh, never over the replication link alone. `command` starts labstore there."""

    user: str = "root"
    port: int = 22
    key_file: Path | None = Path("/etc/labstore/failover_key")
    known_hosts: Path | None = Path("/etc/labstore/failover_known_hosts")
    command: tuple[str, ...] = ("labstore", "failover", "agent")
    connect_deadline: float = 10.0
    answer_deadline: float = 60.0


@dataclass(frozen=True, slots=True)
class Fence:
    """A command that proves that a node can no longer write: it ends with status 0 only if it knows. The node's name
    is its last argument."""

    command: tuple[str, ...]
    deadline: float = 60.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a step may take before the run stops and says so."""

    units: float = 60.0
    server: float = 60.0
    unmount: float = 30.0
    mount: float = 120.0
    promote: float = 30.0
    demote: float = 30.0
    exports: float = 60.0
    verify: float = 120.0


@dataclass(frozen=True)
class FailoverSettings:
    """All of it, for one cluster.

    `state` is the volume on which nfsdcld's database, the exports' history and this room's own records live, so that
    they go where the service goes. `scope` is what the server calls itself, the same on both nodes. `interfaces`
    names where the service addresses go, by node; a node that is not there finds out from its routes. `units` run on
    the active node only; they are stopped before clients are cut off.
    """

    cluster: ClusterName
    state: VolumeName
    replication: Replication
    scope: HostName
    interfaces: Mapping[HostName, InterfaceName] = field(default_factory=dict)
    threads: int = 64
    lease: int = 90
    grace: int = 90
    manage_gids: bool = True
    mount_options: tuple[str, ...] = ("noatime",)
    units: tuple[UnitName, ...] = ()
    fence: Fence | None = None
    channel: Channel = Channel()
    deadlines: Deadlines = Deadlines()
    serve_at_boot: bool = True


@dataclass(frozen=True)
class Pair:
    """A cluster with its failover settings, as one of its nodes sees it."""

    cluster: Cluster
    settings: FailoverSettings
    node: HostName

    @property
    def partner(self) -> Node:
        """The other node. Raises ValueError where there is not exactly one."""
        others = [node for node in self.cluster.nodes if node.name != self.node]
        if len(self.cluster.nodes) != 2 or len(others) != 1:
            raise ValueError(f"cluster {self.cluster.name} is not a pair with node {self.node} in it")
        return others[0]

    def from_partner(self) -> Pair:
        """The same pair with the nodes' places changed."""
        return Pair(self.cluster, self.settings, self.partner.name)

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The replicated volumes in the order in which they are mounted: the one with the state first."""
        replicated = {resource.volume for resource in self.settings.replication.resources}
        volumes = [volume for volume in self.cluster.volumes if volume.name in replicated]
        return tuple(sorted(volumes, key=lambda volume: (volume.name != self.settings.state, volume.mount)))

    @property
    def state_mount(self) -> ExportPath:
        return self.cluster.volume(self.settings.state).mount

    @property
    def state_directory(self) -> Path:
        return state_directory(self.cluster, self.settings)

    @property
    def recovery_directory(self) -> Path:
        """nfsdcld's directory."""
        return self.state_directory / "nfsdcld"

    @property
    def canary(self) -> ExportPath:
        return ExportPath(str(self.state_directory / "canary"))

    @property
    def digest(self) -> str:
        """A short name of everything here that must be the same on both nodes."""
        content = repr((self.cluster, self.settings))
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def state_directory(cluster: Cluster, settings: FailoverSettings) -> Path:
    """Where labstore keeps what must go where the service goes. It lies on the state volume, below no share."""
    return Path(cluster.volume(settings.state).mount) / STATE_DIRECTORY


@dataclass(frozen=True, slots=True)
class Proof:
    """Why it is certain that the partner no longer writes: a fence command that succeeded, or a person's word."""

    node: HostName
    how: str
    who: str
    at: str
