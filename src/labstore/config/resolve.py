"""From the site file's shape and its mounts files to the site: every name looked up, every path made, all checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from labstore.config import checks
from labstore.config.projects import Resolver, below, find_volume, merged, policy_of
from labstore.config.schema import AbsentBrakeFile, ClusterFile, InventoryFile, ProvenBrakeFile, ShareFile, SiteFile
from labstore.config.sections import backup, binds, failover
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.mounts_file import MountsFile, PublicLine
from labstore.model.exports import ExportOptions
from labstore.model.failover import FailoverSettings
from labstore.model.names import ClusterName, ProjectName, ShareName
from labstore.model.site import (
    PUBLIC_OWNER,
    BackendKind,
    Brake,
    BrakeLimits,
    Cluster,
    ExportsSettings,
    FsidFrom,
    Ganesha,
    InventoryKind,
    InventorySettings,
    MetricsSettings,
    Node,
    OpenStackSettings,
    PublicShare,
    ShareKind,
    SharePolicy,
    Site,
    Volume,
)
from labstore.reports.in_file import Origin


def resolved(findings: Findings, file: SiteFile, mounts: Sequence[MountsFile], base: Path) -> Site:
    """The site that the files describe; meaningless where `findings` has problems afterwards.

    `base` is the directory at which relative paths start.
    """
    clusters: dict[str, Cluster] = {name: _cluster(name, each) for name, each in file.clusters.items()}
    checks.clusters(findings, clusters.values())
    _without_effect(findings, file)
    checks.directories(findings, _directories(file))
    kinds = _kinds(findings, file, clusters)
    public, public_origins = _public(findings, file, mounts, clusters)
    projects = merged(findings, file, mounts)
    _known_projects(findings, file, projects)
    names = frozenset(file.public) | {line.name for each in mounts for line in each.public}
    resolver = Resolver(findings, clusters, kinds, names, _declared(findings, "shares") | _declared(findings, "public"))
    found, placed = resolver.resolve(projects)
    exports = _exports(file)
    pairs = {name: pair for name, each in file.failover.items() if (pair := _pair(findings, name, each, clusters))}
    canaries = tuple(failover.canary(clusters[name], pair) for name, pair in pairs.items())
    offers = [checks.Offer.of(each) for each in placed]
    offers += [checks.Offer.of_public(each, public_origins[each.name]) for each in public]
    checks.offers(findings, offers)
    checks.subnets(findings, exports, projects)
    site = Site(
        name=file.site,
        clusters=tuple(clusters.values()),
        shares=tuple(kinds.values()),
        projects=found,
        public=(*public, *canaries),
        inventory=_inventory(findings, file.inventory, base),
        exports=exports,
        failover=pairs,
        binds=binds.resolved(file.binds) if file.binds else None,
        backup=backup.resolved(findings, file.backup, clusters.values()) if file.backup else None,
        metrics=MetricsSettings(file.metrics.listen.host, file.metrics.listen.port) if file.metrics.enabled else None,
        state_dir=file.state_dir,
        run_dir=file.run_dir,
    )
    for cluster in clusters.values():
        checks.export_root(findings, site, cluster)
    for name, pair in pairs.items():
        failover.hidden(findings, clusters[name], pair, site.wanted(name))
    return site


def _pair(
    findings: Findings, name: ClusterName, file: failover.FailoverFile, clusters: Mapping[str, Cluster]
) -> FailoverSettings | None:
    return failover.resolved(findings, name, file, clusters.get(name))


def _declared(findings: Findings, section: str) -> frozenset[str]:
    """The names that a section has in the file, rightly or wrongly."""
    value = findings.document.value.get(section)
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _cluster(name: ClusterName, file: ClusterFile) -> Cluster:
    return Cluster(
        name=name,
        backend=file.backend,
        service_addresses=tuple(file.service_addresses),
        service_names=tuple(file.service_names),
        nodes=tuple(Node(host, node.address) for host, node in file.nodes.items()),
        volumes=tuple(
            Volume(each, volume.mount, volume.filesystem, volume.uuid, volume.mounted)
            for each, volume in file.volumes.items()
        ),
        exports_dir=file.exports_dir,
        ganesha=Ganesha(file.ganesha.bus),
        export_root=file.export_root,
    )


def _directories(file: SiteFile) -> dict[tuple[str | int, ...], Path]:
    """The directories in which labstore writes, by their settings."""
    found: dict[tuple[str | int, ...], Path] = {("state_dir",): file.state_dir, ("run_dir",): file.run_dir}
    kernel = (name for name, cluster in file.clusters.items() if cluster.backend is BackendKind.KNFSD)
    return found | {("clusters", name, "exports_dir"): file.clusters[name].exports_dir for name in kernel}


def _without_effect(findings: Findings, file: SiteFile) -> None:
    """Settings of the server that a cluster does not run."""
    for name, cluster in file.clusters.items():
        setting = "ganesha" if cluster.backend is BackendKind.KNFSD else "exports_dir"
        if setting in cluster.model_fields_set:
            origin = findings.document.origin(("clusters", name, setting), at_key=True)
            problem = f"clusters.{name}.{setting} has no effect: its backend is {cluster.backend.value}"
            findings.notices.append(origin.notice(problem, "take it out, or change the backend"))


# --- kinds of share --------------------------------------------------------------------------------------------------


def _kinds(findings: Findings, file: SiteFile, clusters: Mapping[str, Cluster]) -> dict[ShareName, ShareKind]:
    found = {name: _kind(findings, name, each, clusters) for name, each in file.shares.items()}
    for name in file.shares.keys() & file.public.keys():
        problem = f"share {name} is declared under shares: and under public:"
        findings.problem(("public", name), problem, "it is a project's or it is public: take one out", at_key=True)
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(findings: Findings, name: ShareName, file: ShareFile, clusters: Mapping[str, Cluster]) -> ShareKind | None:
    where = ("shares", name)
    if file.external:
        for setting in sorted(file.model_fields_set - {"external"}):
            problem = f"shares.{name}.{setting} has no effect: the share is external"
            findings.problem((*where, setting), problem, "take it out, or `external: true`", at_key=True)
        return ShareKind(name, None, None, None)
    for setting, example in (("cluster", "primary"), ("volume", "misc"), ("path", '"shared/{project}"')):
        if getattr(file, setting) is None and setting not in findings.document.value["shares"][name]:
            advice = f"write `{setting}: {example}`, or `external: true` if it is served elsewhere"
            findings.problem(where, f"shares.{name}: no {setting}", advice, at_key=True)
    find_volume(findings, clusters, file.cluster, file.volume, where)
    if file.cluster is None or file.volume is None or file.path is None:
        return None
    projects = frozenset(file.projects) if file.projects is not None else None
    return ShareKind(name, file.cluster, file.volume, file.path, policy_of(SharePolicy(), file), projects)


def _known_projects(findings: Findings, file: SiteFile, projects: Mapping[ProjectName, object]) -> None:
    known = projects.keys() | _declared(findings, "projects")
    for name, share in file.shares.items():
        for at, project in enumerate(share.projects or ()):
            if project not in known:
                problem = f"shares.{name}.projects: there is no project {project}"
                findings.problem(("shares", name, "projects", at), problem, did_you_mean(project, known))


# --- public shares ---------------------------------------------------------------------------------------------------


def _public(
    findings: Findings, file: SiteFile, mounts: Sequence[MountsFile], clusters: Mapping[str, Cluster]
) -> tuple[tuple[PublicShare, ...], dict[ShareName, Origin]]:
    origins = {name: findings.document.origin(("public", name), at_key=True) for name in file.public}
    found = {name: share for name in file.public if (share := _public_share(findings, file, name, clusters))}
    for each in mounts:
        for line in each.public:
            if line.name in file.public:
                continue
            share = public_of_line(findings, each.name, line, clusters)
            if share is not None:
                found[line.name] = share
                origins[line.name] = Origin(each.name, line.place.line, line.place.column)
    for name, share in found.items():
        checks.world(findings, share, origins[name])
    return tuple(found.values()), origins


def _public_share(
    findings: Findings, file: SiteFile, name: ShareName, clusters: Mapping[str, Cluster]
) -> PublicShare | None:
    where, share = ("public", name), file.public[name]
    if len(PUBLIC_OWNER + name) > 63:
        findings.problem(where, f"public share {name} has too long a name", "at most 56 characters", at_key=True)
        return None
    if share.clients is None and not share.world and "clients" not in findings.document.value["public"][name]:
        advice = "write `clients: [172.16.0.0/21]`, or `world: true` for every address there is"
        findings.problem(where, f"public share {name} says for whom it is nowhere", advice, at_key=True)
    written = findings.document.value["public"][name].get("clients")
    if share.clients is not None and share.world and (share.clients or not written):
        problem = f"public share {name} names clients and is for everybody"
        findings.problem((*where, "world"), problem, "take out `world: true`, or the clients")
    volume = find_volume(findings, clusters, share.cluster, share.volume, where)
    if volume is None:
        return None
    if "{" in share.path:
        findings.problem((*where, "path"), f"public share {name} is no project's", "write its path without {project}")
        return None
    policy, path = policy_of(SharePolicy(), share), below(volume, share.path, "", 0)
    return PublicShare(name, share.cluster, volume.name, path, policy, tuple(share.clients or ()), share.world)


def public_of_line(
    findings: Findings, file: str, line: PublicLine, clusters: Mapping[str, Cluster]
) -> PublicShare | None:
    """The public share of an export line of a mounts file; None, and a notice, where this site does not serve it."""
    origin = Origin(file, line.place.line, line.place.column)
    if line.pseudo_root:
        problem = f"public {line.name} ({line.path}) is the NFSv4 pseudo-root, which NFS servers make by themselves"
        findings.notices.append(origin.notice(problem, "nothing to do; it is not exported"))
        return None
    for cluster in clusters.values():
        volume = cluster.volume_of(line.path)
        if volume is not None:
            return PublicShare(
                line.name, cluster.name, volume.name, line.path, policy_of_line(line.options), line.clients, line.world
            )
    problem = f"public {line.name} ({line.path}) lies on no volume of this site and is not served"
    advice = f"if it shall be, declare it under public: as `{line.name}:` in the site file"
    findings.notices.append(origin.notice(problem, advice))
    return None


def policy_of_line(
    options: ExportOptions, fsid: FsidFrom = FsidFrom.PATH, mountpoint_guard: bool = True
) -> SharePolicy:
    """The policy that an export line's options amount to; its own fsid, if it has one, is not kept."""
    return SharePolicy(
        access=options.access,
        squash=options.squash,
        sync=options.sync,
        security=options.security,
        insecure=options.insecure,
        crossmnt=options.crossmnt,
        nohide=options.nohide,
        anonuid=options.anonuid,
        anongid=options.anongid,
        fsid=fsid,
        mountpoint_guard=mountpoint_guard,
    )


# --- settings --------------------------------------------------------------------------------------------------------


def _inventory(findings: Findings, file: InventoryFile, base: Path) -> InventorySettings:
    written = findings.document.value.get("inventory")
    if file.source is InventoryKind.FILE and file.file is None and "file" not in (written or {}):
        advice = "write `file: inventory.yaml`, or `source: openstack`"
        findings.problem(("inventory", "source"), "inventory: source: file, and no file", advice)
    cloud = file.openstack
    return InventorySettings(
        source=file.source,
        file=base / file.file if file.file is not None else None,
        openstack=OpenStackSettings(
            cloud=cloud.cloud,
            clouds_file=cloud.clouds_file,
            regions=tuple(cloud.regions),
            domain=cloud.domain,
            addresses=frozenset(cloud.addresses),
            call_deadline=cloud.call_deadline,
            listing_deadline=cloud.listing_deadline,
            concurrency=cloud.concurrency,
        ),
    )


def _exports(file: SiteFile) -> ExportsSettings:
    exports = file.exports
    return ExportsSettings(
        poll=exports.poll,
        listing=exports.listing,
        keep_generations=exports.keep_generations,
        brake=Brake(_limits(exports.brake.absent), _limits(exports.brake.proven)),
        expect_private=exports.expect.private,
        expect_public=exports.expect.public,
        allow_networks=tuple(exports.allow_networks or ()),
        subnets={project: tuple(networks) for project, networks in exports.subnets.items()},
    )


def _limits(file: AbsentBrakeFile | ProvenBrakeFile) -> BrakeLimits:
    return BrakeLimits(file.project, file.overall, file.count, file.floor)
