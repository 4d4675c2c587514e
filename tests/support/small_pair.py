"""A pair of nodes with a state volume and a share's volume, for tests of failover."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from labstore.model.address import Client
from labstore.model.drbd import ResourceName
from labstore.model.failover import FailoverSettings, Fence, Pair, Replication, Resource, UnitName
from labstore.model.names import ClusterName, ExportPath, HostName, VolumeName
from labstore.model.site import Cluster, Node, Volume

ALPHA, BETA = HostName("alpha"), HostName("beta")
SERVICE = Client("10.77.0.10")
STATE, TOOLS = VolumeName("state"), VolumeName("tools")
UNIT = UnitName("labstore-exports.service")

CLUSTER = Cluster(
    name=ClusterName("primary"),
    service_addresses=(SERVICE,),
    nodes=(Node(ALPHA, Client("10.77.0.11")), Node(BETA, Client("10.77.0.12"))),
    volumes=(
        Volume(TOOLS, ExportPath("/srv/tools"), "ext4"),
        Volume(STATE, ExportPath("/srv/state"), "ext4"),
    ),
)


def resource(name: str, minor: int, port: int) -> Resource:
    disk = Path(f"/dev/lab/{name}")
    return Resource(ResourceName(name), VolumeName(name), minor, port, {ALPHA: disk, BETA: disk})


REPLICATION = Replication(
    resources=(resource("state", 0, 7790), resource("tools", 1, 7791)),
    addresses={ALPHA: Client("10.78.0.11"), BETA: Client("10.78.0.12")},
)
SETTINGS = FailoverSettings(
    cluster=CLUSTER.name,
    state=STATE,
    replication=REPLICATION,
    scope=HostName("nfs-tools"),
    threads=8,
    units=(UNIT,),
    fence=Fence(("/usr/local/sbin/fence",), 5.0),
)


def with_export_tree(found: Pair) -> Pair:
    """The same pair, exporting from a tree of bind mounts."""
    return replace(found, cluster=replace(found.cluster, export_root=ExportPath("/exp")))


def pair(node: HostName = ALPHA, **changes: Any) -> Pair:
    """The pair as `node` sees it, with settings changed."""
    return Pair(CLUSTER, replace(SETTINGS, **changes), node)
