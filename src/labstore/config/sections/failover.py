"""`failover:` of the site file: per cluster, how its two nodes hold one service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator

from labstore.config.fields import Section, optional, part, required, setting
from labstore.config.values import AddressText, FileText, Flag, HostText, Text, VolumeText, Whole
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.units import Unfit, duration
from labstore.model.address import Client, in_order
from labstore.model.drbd import ResourceName
from labstore.model.exports import Squash
from labstore.model.failover import (
    CANARY,
    Channel,
    Deadlines,
    FailoverSettings,
    Fence,
    Fencing,
    InterfaceName,
    Rates,
    Replication,
    Resource,
    UnitName,
    WriteProtocol,
    state_directory,
)
from labstore.model.names import ClusterName, ExportPath, HostName, ShareName, VolumeName, shown
from labstore.model.site import BackendKind, Cluster, FsidFrom, PublicShare, SharePolicy, WantedExport

HERE = "127.0.0.1"
_KIB = {"K": 1, "M": 1024, "G": 1024 * 1024}
_RATE = r"^[0-9]{1,6}[KMG]$"


def _rate(text: str) -> int:
    if not isinstance(text, str) or re.fullmatch(_RATE, text) is None:
        raise Unfit(f"{shown(text)} is not a rate", "write bytes per second with their unit: 500K, 100M, 1G")
    return int(text[:-1]) * _KIB[text[-1]]


def _seconds(least: float, most: float) -> Any:
    def make(text: str) -> float:
        found = duration(text)
        if not least <= found <= most:
            raise Unfit(f"{shown(text)} is not a sensible time here", f"write {least:g}s to {most:g}s")
        return found

    return make


def _word(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9/._+@%:,=-]{1,200}", text) is None:
        raise ValueError(f"{shown(text)} is not a plain word of a command")
    return text


def _mount_option(text: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]{0,30}(?:=[A-Za-z0-9._-]{1,60})?", text) is None:
        raise ValueError(f"{shown(text)} is not a mount option")
    return text


def _algorithm(text: str) -> str:
    if re.fullmatch(r"[a-z0-9-]{1,32}", text) is None:
        raise ValueError(f"{shown(text)} is not the name of a digest")
    return text


RateText = Annotated[int, Text(_rate, "a rate", "100M", _RATE, unit="K, M, G (bytes per second)")]
ShortTime = Annotated[float, Text(_seconds(0.1, 300), "a duration", "6s", unit="ms, s, m")]
StepTime = Annotated[float, Text(_seconds(1, 3600), "a duration", "30s", unit="s, m")]
ResourceText = Annotated[ResourceName, Text(ResourceName, "a resource's name", "tools", slot="resource")]
InterfaceText = Annotated[InterfaceName, Text(InterfaceName, "an interface", "eth0")]
UnitText = Annotated[UnitName, Text(UnitName, "a systemd unit", "labstore-exports.service")]
WordOfCommand = Annotated[str, Text(_word, "a word of a command", "/usr/local/sbin/fence")]
MountOption = Annotated[str, Text(_mount_option, "a mount option", "noatime")]
AlgorithmText = Annotated[str, Text(_algorithm, "the name of a digest", "sha1")]
UserText = Annotated[str, Text(_word, "a user", "root")]


def _for_both(value: object) -> object:
    """One value for all nodes may be written as it is."""
    return {"*": value} if isinstance(value, str) else value


def _node(text: str) -> str:
    return "*" if text == "*" else HostName(text)


NodeOrBoth = Annotated[str, Text(_node, "a host name", "labstore1004", slot="host")]
DiskText = Annotated[dict[NodeOrBoth, FileText], BeforeValidator(_for_both, json_schema_input_type=FileText)]
Interfaces = Annotated[dict[NodeOrBoth, InterfaceText], BeforeValidator(_for_both, json_schema_input_type=str)]


class ResourceFile(Section):
    volume: VolumeText | None = optional("the volume that lies on it", "the volume of the resource's name")
    minor: Whole = required("N of /dev/drbdN, the same on both nodes", ge=0, le=255)
    port: Whole = required("its TCP port on the replication link", ge=1024, le=65535)
    disk: DiskText = required("the backing device: one path, or one by node")


class ReplicationFile(Section):
    resources: dict[ResourceText, ResourceFile] = required("the DRBD resources by name", min_length=1)
    addresses: dict[HostText, AddressText] = required("the nodes' ends of the replication link", min_length=2)
    protocol: WriteProtocol = setting(
        "C", "when a write is done: `C` on both disks; `B` and `A` can lose acknowledged writes"
    )
    secret_file: FileText | None = setting(
        "/etc/labstore/drbd.secret", "holds the secret with which the peers prove themselves: one line, 16 to 63 signs"
    )
    authenticate: Flag = setting(True, "false to let the peers connect without a secret")
    fencing: Fencing = setting(
        "resource-only", "what a node does that loses its partner while it serves: mark the partner's data outdated"
    )
    rate_most: RateText = setting("100M", "the most that a resync takes of the link")
    rate_least: RateText = setting("4M", "what a resync gets however busy the disks are")
    verify_alg: AlgorithmText = setting("sha1", "the digest of an online verify")
    max_buffers: Whole = setting(8000, "buffers for what is under way, in pages", ge=32, le=131072)
    timeout: ShortTime = setting("6s", "how long a partner may be silent")
    ping_interval: ShortTime = setting("10s", "how often an idle partner is asked whether it is there")
    ping_timeout: ShortTime = setting("500ms", "how long it may take to answer that")
    connect_wait: ShortTime = setting("20s", "how long a node waits for its partner before it goes on alone")
    resync_snapshots: Flag = setting(False, "take an LVM snapshot of a side before a resync overwrites it")


class ChannelFile(Section):
    user: UserText = setting("root", "the user that labstore is there")
    port: Whole = setting(22, "the port of its ssh server", ge=1, le=65535)
    key_file: FileText = setting("/etc/labstore/failover_key", "the private key, for this alone")
    known_hosts: FileText = setting("/etc/labstore/failover_known_hosts", "the partner's host keys")
    command: list[WordOfCommand] = setting(
        ["labstore", "failover", "agent"], "what is run there; a forced command takes its place", min_length=1
    )
    connect_deadline: ShortTime = setting("10s", "how long connecting may take")
    answer_deadline: ShortTime = setting("60s", "how long an answer may take")


class FenceFile(Section):
    command: list[WordOfCommand] = required(
        "ends with status 0 only if the node, whose name is added, is off for certain", min_length=1
    )
    deadline: StepTime = setting("60s", "how long it may take")


class DeadlinesFile(Section):
    units: StepTime = setting("60s", "starting or stopping the units of the active node")
    server: StepTime = setting("60s", "starting or stopping the NFS server")
    unmount: StepTime = setting("30s", "unmounting one volume, busy or not")
    mount: StepTime = setting("2m", "mounting one volume, its journal replayed")
    promote: StepTime = setting("30s", "promoting one resource")
    demote: StepTime = setting("30s", "demoting one resource")
    exports: StepTime = setting("60s", "putting the exports in place")
    verify: StepTime = setting("2m", "mounting, writing and locking through the service address")


class FailoverFile(Section):
    state: VolumeText = required("the volume for what must go where the service goes (client records, exports)")
    replication: ReplicationFile = required("DRBD")
    scope: HostText | None = optional("what the NFS server calls itself on either node", "the cluster's name")
    interfaces: Interfaces = setting(
        {}, "where the service addresses go: one name, or one by node; else where their network is"
    )
    threads: Whole = setting(64, "threads of the NFS server", ge=1, le=4096)
    lease: Whole = setting(90, "seconds after which a silent client may lose its locks", ge=10, le=3600)
    grace: Whole = setting(90, "seconds that clients have to take back their locks", ge=10, le=3600)
    manage_gids: Flag = setting(True, "groups of users come from this server, not from the client")
    mount_options: list[MountOption] = setting(["noatime"], "options of the volumes' mounts")
    units: list[UnitText] = setting(
        ["labstore-exportd.service"],
        "systemd units that run on the active node only; one that is not there is passed over",
    )
    serve_at_boot: Flag = setting(
        True, "after a power cut of both, the node that served last serves again if its partner comes within 10 minutes"
    )
    fence: FenceFile | None = optional("a command that proves that a node is off", "a person has to say so")
    channel: ChannelFile = part(ChannelFile, "how the nodes reach each other: ssh")
    deadlines: DeadlinesFile = part(DeadlinesFile, "how long steps may take")


# --- to the model ----------------------------------------------------------------------------------------------------

T = TypeVar("T")


def resolved(
    findings: Findings, name: ClusterName, file: FailoverFile, cluster: Cluster | None
) -> FailoverSettings | None:
    """The settings of one cluster; None, and problems, where the site's parts do not fit together."""
    where = ("failover", name)
    if cluster is None:
        findings.problem(where, f"failover: there is no cluster {name}", "name it under clusters:", at_key=True)
        return None
    before = len(findings.problems)
    _check_cluster(findings, where, cluster)
    nodes = [node.name for node in cluster.nodes]
    resources = _resources(findings, where, file, cluster, nodes)
    _check_addresses(findings, where, file, cluster, nodes)
    if file.state not in {resource.volume for resource in resources}:
        advice = did_you_mean(file.state, [resource.volume for resource in resources])
        findings.problem((*where, "state"), f"volume {file.state} lies on no resource of {name}", advice)
    interfaces = _by_node(findings, (*where, "interfaces"), file.interfaces, nodes, "an interface", whole=False)
    if len(findings.problems) > before:
        return None
    return FailoverSettings(
        cluster=name,
        state=file.state,
        replication=_replication(file.replication, resources),
        scope=file.scope or HostName(name),
        interfaces=interfaces,
        threads=file.threads,
        lease=file.lease,
        grace=file.grace,
        manage_gids=file.manage_gids,
        mount_options=tuple(file.mount_options),
        units=tuple(file.units),
        fence=Fence(tuple(file.fence.command), file.fence.deadline) if file.fence else None,
        channel=Channel(**_values(file.channel, command=tuple(file.channel.command))),
        deadlines=Deadlines(**_values(file.deadlines)),
        serve_at_boot=file.serve_at_boot,
    )


def _values(section: Section, **changed: Any) -> dict[str, Any]:
    return {name: changed.get(name, getattr(section, name)) for name in type(section).model_fields}


def _check_cluster(findings: Findings, where: tuple[str, ...], cluster: Cluster) -> None:
    if cluster.backend is not BackendKind.KNFSD:
        problem = f"cluster {cluster.name} runs {cluster.backend}, and only the kernel's NFS server is moved"
        findings.problem(where, problem, "write `backend: knfsd` for it, or take this out", at_key=True)
    if len(cluster.nodes) != 2:
        problem = f"cluster {cluster.name} has {len(cluster.nodes)} nodes; a pair has two"
        findings.problem(where, problem, "name two under its nodes:", at_key=True)
    if not cluster.service_addresses:
        problem = f"cluster {cluster.name} has no service address that could move"
        findings.problem(where, problem, "write its service_addresses:", at_key=True)


def _resources(
    findings: Findings, where: tuple[str, ...], file: FailoverFile, cluster: Cluster, nodes: list[HostName]
) -> tuple[Resource, ...]:
    found: list[Resource] = []
    volumes = {volume.name: volume for volume in cluster.volumes}
    for name, each in file.replication.resources.items():
        place = (*where, "replication", "resources", name)
        volume = each.volume or _named(name)
        if volume is None or volume not in volumes:
            advice = did_you_mean(str(volume), volumes)
            findings.problem(place, f"resource {name}: cluster {cluster.name} has no volume {volume}", advice, True)
            continue
        if not volumes[volume].mounted:
            problem = f"resource {name}: volume {volume} is a plain directory (mounted: false)"
            findings.problem(place, problem, "take out `mounted: false`", at_key=True)
        disks = _by_node(findings, (*place, "disk"), each.disk, nodes, "a disk", whole=True)
        found.append(Resource(name, volume, each.minor, each.port, disks))
    for what in ("minor", "port", "volume"):
        _each_once(findings, (*where, "replication", "resources"), found, what)
    return tuple(found)


def _named(name: ResourceName) -> VolumeName | None:
    return VolumeName(name)


def _each_once(findings: Findings, where: tuple[str, ...], found: Iterable[Resource], what: str) -> None:
    seen: dict[object, str] = {}
    for resource in found:
        value = getattr(resource, what)
        if value in seen:
            problem = f"resources {seen[value]} and {resource.name} have the same {what}, {value}"
            findings.problem((*where, resource.name), problem, f"give each its own {what}", at_key=True)
        seen.setdefault(value, resource.name)


def _by_node(
    findings: Findings,
    where: tuple[str, ...],
    given: Mapping[str, T],
    nodes: list[HostName],
    what: str,
    whole: bool,
) -> dict[HostName, T]:
    """By node, where `*` stands for all."""
    for name in given:
        if name != "*" and name not in nodes:
            findings.problem((*where, name), f"there is no node {name}", did_you_mean(name, nodes), at_key=True)
    found = {node: given.get(node, given.get("*")) for node in nodes}
    missing = [node for node, each in found.items() if each is None]
    if whole and missing:
        findings.problem(where, f"{', '.join(missing)} has not {what}", "write one path, or one for each node", True)
    return {node: each for node, each in found.items() if each is not None}


def _check_addresses(
    findings: Findings, where: tuple[str, ...], file: FailoverFile, cluster: Cluster, nodes: list[HostName]
) -> None:
    place = (*where, "replication", "addresses")
    for node in nodes:
        if node not in file.replication.addresses:
            findings.problem(place, f"node {node} has no end of the replication link", f"write `{node}: ADDRESS`", True)
    for node, address in file.replication.addresses.items():
        if node not in nodes:
            findings.problem((*place, node), f"there is no node {node}", did_you_mean(node, nodes), at_key=True)
        if address in cluster.service_addresses:
            problem = f"{address} is a service address and cannot be an end of the replication link"
            findings.problem((*place, node), problem, "give the link addresses of its own")


def _replication(file: ReplicationFile, resources: tuple[Resource, ...]) -> Replication:
    return Replication(
        resources=resources,
        addresses=dict(file.addresses),
        protocol=file.protocol,
        secret_file=file.secret_file if file.authenticate else None,
        fencing=file.fencing,
        rates=Rates(file.rate_most, file.rate_least),
        verify_alg=file.verify_alg,
        max_buffers=file.max_buffers,
        timeout=file.timeout,
        ping_interval=file.ping_interval,
        ping_timeout=file.ping_timeout,
        connect_wait=file.connect_wait,
        resync_snapshots=file.resync_snapshots,
    )


def canary(cluster: Cluster, settings: FailoverSettings) -> PublicShare:
    """The share by which a node mounts itself through the service address. Its clients are the service addresses,
    since what a node sends to an address of its own comes from that address, and the node itself: the kernel answers
    nothing, not even what it is called, to an address that may mount nothing."""
    path = ExportPath(str(state_directory(cluster, settings) / "canary"))
    policy = SharePolicy(squash=Squash.NONE, fsid=FsidFrom.PATH)
    clients = in_order({*cluster.service_addresses, Client(HERE)})
    return PublicShare(ShareName(CANARY), cluster.name, settings.state, path, policy, clients, bare=True)


def hidden(findings: Findings, cluster: Cluster, settings: FailoverSettings, wanted: Iterable[WantedExport]) -> None:
    """No share may show what failover keeps on the state volume."""
    directory = str(state_directory(cluster, settings))
    for export in wanted:
        if export.owner != f"public_{CANARY}" and ExportPath(directory).under(export.directory):
            problem = f"{export.path}, which {export.owner} is given, would show {directory}"
            advice = "give failover.state a volume of its own, or put that share into a directory"
            findings.problem(("failover", cluster.name, "state"), problem, advice)
