"""What must hold between the parts of a site; every check sees everything and says all it finds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path as FilePath

from labstore.config.projects import Placed
from labstore.formats.findings import Findings
from labstore.model.address import Client
from labstore.model.export_tree import outermost
from labstore.model.exports import Fsid, Squash
from labstore.model.names import ClusterName, ExportPath, ProjectName
from labstore.model.site import Cluster, ExportsSettings, FsidFrom, PublicShare, SharePolicy, Site
from labstore.reports.in_file import Origin


@dataclass(frozen=True)
class Offer:
    """One export path of one owner, with the place that asks for it."""

    who: str
    project: ProjectName | None
    gid: int | None
    gid_origin: Origin
    share: str
    cluster: ClusterName
    path: ExportPath
    policy: SharePolicy
    origin: Origin

    @classmethod
    def of(cls, placed: Placed) -> Offer:
        share, who = placed.share, f"project {placed.project}"
        origins = placed.gid_origin, placed.origin
        return cls(
            who,
            placed.project,
            placed.gid,
            origins[0],
            share.share,
            share.cluster,
            share.path,
            share.policy,
            origins[1],
        )

    @classmethod
    def of_public(cls, public: PublicShare, origin: Origin) -> Offer:
        who = f"public share {public.name}"
        return cls(who, None, None, origin, public.name, public.cluster, public.path, public.policy, origin)


# --- directories -----------------------------------------------------------------------------------------------------


def directories(findings: Findings, found: Mapping[tuple[str | int, ...], FilePath]) -> None:
    """What survives, what need not and what exportfs reads are kept apart, each in a directory of its own."""
    for path, directory in found.items():
        name = str(path[-1])
        if directory == FilePath("/"):
            findings.problem(path, f"{name} is /", f"write a directory of its own, like {_LIKE[name]}")
    for path, other in combinations(found, 2):
        inner, outer = (path, other) if found[path].is_relative_to(found[other]) else (other, path)
        if found[outer] == FilePath("/") or not found[inner].is_relative_to(found[outer]):
            continue
        if found[inner] == found[outer] and inner[-1] == outer[-1]:
            continue  # only one of two clusters is this node's
        problem = f"{inner[-1]} {found[inner]} is, or lies in, {outer[-1]} {found[outer]}"
        findings.problem(_written(findings, inner, outer), problem, "put them side by side: each is another's to clear")


_LIKE = {"state_dir": "/var/lib/labstore", "run_dir": "/run/labstore", "exports_dir": "/etc/exports.d"}


def _written(findings: Findings, *paths: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The first of these settings that stands in the file and is not a default."""

    def stands(path: tuple[str | int, ...]) -> bool:
        value: object = findings.document.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value is not None

    return next(filter(stands, paths), paths[0])


# --- clusters --------------------------------------------------------------------------------------------------------


def clusters(findings: Findings, found: Iterable[Cluster]) -> None:
    """Nothing of a cluster is also another's, and no volume lies in another."""
    every = tuple(found)
    _each_once(findings, _nodes(every), "node", "a machine belongs to one cluster")
    _each_once(findings, _addresses(every), "address", "each address once")
    _each_once(findings, _service_names(every), "service name", "a name means one cluster")
    for cluster in every:
        _volumes(findings, cluster)


def _nodes(every: Iterable[Cluster]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    for cluster in every:
        for node in cluster.nodes:
            yield node.name.lower(), ("clusters", cluster.name, "nodes", node.name)


def _addresses(every: Iterable[Cluster]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    for cluster in every:
        base = ("clusters", cluster.name)
        for at, address in enumerate(cluster.service_addresses):
            yield address, (*base, "service_addresses", at)
        for node in cluster.nodes:
            if node.address is not None:
                yield node.address, (*base, "nodes", node.name, "address")


def _service_names(every: Iterable[Cluster]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    for cluster in every:
        for at, name in enumerate(cluster.service_names):
            yield name.lower(), ("clusters", cluster.name, "service_names", at)


def _each_once(findings: Findings, found: Iterator[tuple[str, tuple[str | int, ...]]], what: str, advice: str) -> None:
    seen: dict[str, tuple[str | int, ...]] = {}
    for key, path in found:
        first = seen.setdefault(key, path)
        if first is not path:
            problem = f"{what} {key} stands here and in line {findings.document.origin(first).line}"
            findings.problem(path, problem, f"{advice}: remove or change one of them", isinstance(path[-1], str))


def _volumes(findings: Findings, cluster: Cluster) -> None:
    mounts: dict[str, str] = {}
    for volume in cluster.volumes:
        path = ("clusters", cluster.name, "volumes", volume.name)
        if volume.mount in mounts:
            problem = f"volume {volume.name} is mounted at {volume.mount}, as volume {mounts[volume.mount]} is"
            findings.problem((*path, "mount"), problem, "give each volume its own mount point")
        mounts.setdefault(volume.mount, volume.name)
        if not volume.mounted and (volume.filesystem or volume.uuid):
            problem = f"volume {volume.name} is a plain directory (mounted: false) and has a file system to be found"
            findings.problem((*path, "mounted"), problem, "take out `mounted: false`, or `filesystem` and `uuid`")
    for volume in cluster.volumes:
        outer = next((mounts[above] for above in _above(volume.mount) if above in mounts), None)
        if outer is not None:
            problem = f"volume {volume.name} is mounted inside of volume {outer}"
            advice = "mount them side by side: an export of the outer one could show the inner one"
            findings.problem(("clusters", cluster.name, "volumes", volume.name, "mount"), problem, advice)


def _above(path: str) -> Iterator[str]:
    """The directories above a path, nearest first, without `/`."""
    while "/" in path[1:]:
        path = path.rpartition("/")[0]
        yield path


def export_root(findings: Findings, site: Site, cluster: Cluster) -> None:
    """An export tree lies beside the volumes, and no two shares have one place in it."""
    root = cluster.export_root
    if root is None:
        return
    where = ("clusters", cluster.name, "export_root")
    for volume in cluster.volumes:
        if root.under(volume.mount) or volume.mount.under(root):
            problem = f"export_root {root} and volume {volume.name} at {volume.mount} lie in one another"
            findings.problem(where, problem, "put the tree beside the volumes, like /exp")
            return
    seen: dict[str, ExportPath] = {}
    try:
        for bind in site.binds_of(cluster.name):  # in order of the point: what could hold another comes first
            taken = bind.point if bind.point in seen else outermost(bind.point, seen)
            if taken is not None:
                problem = f"{bind.source} and {seen[taken]} would both be seen at {taken}"
                findings.problem(where, problem, "rename one of them, or take out export_root")
            seen[bind.point] = bind.source
    except ValueError as error:
        findings.problem(where, str(error), "shorten export_root")


# --- exports ---------------------------------------------------------------------------------------------------------


def offers(findings: Findings, found: Iterable[Offer]) -> None:
    """No path, gid or fsid is offered to two."""
    every = sorted(found, key=lambda offer: (offer.cluster, offer.path, offer.origin.file, offer.origin.line))
    by_path: dict[tuple[str, str], Offer] = {}
    for offer in every:
        first = by_path.setdefault((offer.cluster, offer.path), offer)
        if first is not offer:
            _same_path(findings, first, offer)
    for offer in by_path.values():
        _nested(findings, by_path, offer)
    _gids(findings, every)
    _fsids(findings, by_path.values())


def _same_path(findings: Findings, first: Offer, offer: Offer) -> None:
    if first.who != offer.who:
        problem = f"{offer.path} of {offer.who} is also the path of {first.who} ({first.origin})"
        advice = "give each its own directory: put {project} into the path, or limit the share to one project"
        findings.add(offer.origin.problem(problem, advice))
    elif first.policy != offer.policy:
        problem = f"{offer.path} is share {offer.share} and share {first.share} with different options"
        advice = f"one path has one set of options; they differ in: {', '.join(_differences(first, offer))}"
        findings.add(offer.origin.problem(problem, advice))


def _differences(first: Offer, offer: Offer) -> list[str]:
    return [
        name for name in SharePolicy.__dataclass_fields__ if getattr(first.policy, name) != getattr(offer.policy, name)
    ]


def _nested(findings: Findings, by_path: Mapping[tuple[str, str], Offer], offer: Offer) -> None:
    """A parent that is exported to others shows them its children."""
    for above in _above(offer.path):
        outer = by_path.get((offer.cluster, above))
        if outer is not None and outer.who != offer.who:
            problem = f"{offer.path} of {offer.who} lies inside of {outer.path}, which {outer.who} is given"
            advice = "put them side by side: clients of the outer one see everything in it"
            findings.add(offer.origin.problem(problem, advice))
            return


def _gids(findings: Findings, every: Iterable[Offer]) -> None:
    owners: dict[int, Offer] = {}
    said: set[ProjectName] = set()
    for offer in every:
        if offer.gid is None or offer.project is None:
            continue
        first = owners.setdefault(offer.gid, offer)
        if first.project != offer.project and offer.project not in said:
            said.add(offer.project)
            problem = f"project {offer.project} and project {first.project} both have gid {offer.gid}"
            advice = f"give each its own group ({first.gid_origin} has the other): a group owns one project's files"
            findings.add(offer.gid_origin.problem(problem, advice))


def _fsids(findings: Findings, every: Iterable[Offer]) -> None:
    seen: dict[tuple[str, Fsid], Offer] = {}
    for offer in every:
        if offer.policy.fsid is not FsidFrom.GID:
            continue
        if offer.gid is None:
            advice = "take `fsid: gid` out of it: only a project has a gid"
            findings.add(offer.origin.problem(f"{offer.who} has no gid to make an fsid of", advice))
            continue
        try:
            fsid = Fsid.of_gid(offer.gid)
        except ValueError as error:
            findings.add(offer.gid_origin.problem(str(error), "write `fsid: path` for this share"))
            continue
        first = seen.setdefault((offer.cluster, fsid), offer)
        if first is not offer and first.project == offer.project:
            problem = f"{first.path} and {offer.path} of {offer.who} would have one fsid, made from its gid"
            findings.add(offer.origin.problem(problem, "write `fsid: path` for one of the shares"))


def world(findings: Findings, public: PublicShare, origin: Origin) -> None:
    """Root of any machine in the world is never root on a share."""
    if public.world and public.policy.squash is Squash.NONE:
        problem = f"public share {public.name} is for everybody, and squash: none lets everybody's root be root on it"
        findings.add(origin.problem(problem, "write `squash: root` or `squash: all`, or name the clients"))


# --- networks --------------------------------------------------------------------------------------------------------


def subnets(findings: Findings, exports: ExportsSettings, declared: Container[str]) -> None:
    """A subnet belongs to one known project and lies where instances may be."""
    every = sorted(
        (
            (network, project, ("exports", "subnets", project, at))
            for project, networks in exports.subnets.items()
            for at, network in enumerate(networks)
        ),
        key=lambda each: (each[0].version, int(each[0].network.network_address), each[0].network.prefixlen),
    )
    for project in exports.subnets:
        if project not in declared:
            advice = "declare the project, or take its subnets out"
            findings.problem(("exports", "subnets", project), f"there is no project {project}", advice, at_key=True)
    outer: tuple[Client, ProjectName] | None = None
    for network, project, path in every:
        if outer is not None and outer[0].covers(network) and outer[1] != project:
            problem = f"{network} of project {project} lies in {outer[0]} of project {outer[1]}"
            findings.problem(path, problem, "a subnet belongs to one project; list only those that do")
        if outer is None or not outer[0].covers(network):
            outer = network, project
        if exports.allow_networks and not any(allowed.covers(network) for allowed in exports.allow_networks):
            advice = "widen exports.allow_networks, or take the subnet out"
            findings.problem(path, f"{network} of project {project} is not in exports.allow_networks", advice)
