"""Which project has which shares: the mounts files and the site file's own projects, merged and resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from labstore.config.schema import OptionsFile, ProjectFile, ProjectShareFile, SiteFile
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.mounts_file import Mount, MountsFile, MountsProject, Remote
from labstore.model.names import ExportPath, HostName, ProjectName, ShareName, shown
from labstore.model.site import Cluster, Expect, ProjectShare, ShareKind, SharePolicy, SiteProject, Volume
from labstore.reports.in_file import Origin

_NO_DIFFERENCE = ProjectShareFile()


@dataclass(frozen=True)
class Wish:
    """A share that a project shall have: by its kind, or from a `host:/path`; `own` is what differs for it."""

    share: ShareName
    remote: Remote | None
    own: ProjectShareFile
    origin: Origin


@dataclass
class Wishes:
    """A project as the files together declare it. `gid` is None where only a wrong one was found."""

    name: ProjectName
    gid: int | None
    gid_origin: Origin
    shares: dict[ShareName, Wish] = field(default_factory=dict)
    expect: Expect = Expect.SOME


@dataclass(frozen=True)
class Placed:
    """A project's share with the place in the files that asks for it."""

    project: ProjectName
    gid: int
    gid_origin: Origin
    share: ProjectShare
    origin: Origin


# --- merging ---------------------------------------------------------------------------------------------------------


def merged(findings: Findings, file: SiteFile, mounts: Sequence[MountsFile]) -> dict[ProjectName, Wishes]:
    """Every project of every file. What two files say differently is a problem; the site file may say more, or
    `false`."""
    projects: dict[ProjectName, Wishes] = {}
    for each in mounts:
        for project in each.projects:
            _add_mounted(findings, projects, each.name, project)
    for name, inline in file.projects.items():
        _add_inline(findings, projects, name, inline)
    return projects


def _add_mounted(findings: Findings, projects: dict[ProjectName, Wishes], file: str, project: MountsProject) -> None:
    origin = Origin(file, project.place.line, project.place.column)
    known = projects.setdefault(project.name, Wishes(project.name, project.gid, origin))
    if known.gid != project.gid:
        problem = f"project {project.name} has gid {project.gid} here and {known.gid} in {known.gid_origin}"
        findings.add(origin.problem(problem, "give it the same gid in both"))
    for mount in project.mounts:
        wish = _mounted_wish(file, mount)
        before = known.shares.setdefault(mount.share, wish)
        if before.remote != mount.remote:
            problem = f"share {mount.share} of project {project.name} is another in {before.origin}"
            findings.add(wish.origin.problem(problem, "say the same in both, or take one out"))


def _mounted_wish(file: str, mount: Mount) -> Wish:
    return Wish(mount.share, mount.remote, _NO_DIFFERENCE, Origin(file, mount.place.line, mount.place.column))


def _add_inline(
    findings: Findings, projects: dict[ProjectName, Wishes], name: ProjectName, inline: ProjectFile
) -> None:
    path = ("projects", name)
    origin = findings.document.origin((*path, "gid"))
    known = projects.setdefault(name, Wishes(name, inline.gid, origin))
    if known.gid is None and "gid" not in findings.document.value["projects"][name]:
        advice = "write `gid: 50380`, the number of the project's group, or put the project into the mounts file"
        findings.problem(path, f"project {name} has no gid", advice, at_key=True)
    elif inline.gid is not None and inline.gid != known.gid:
        problem = f"project {name} has gid {inline.gid} here and {known.gid} in {known.gid_origin}"
        findings.problem((*path, "gid"), problem, "give it the same gid in both, or leave it out here")
    known.expect = inline.expect
    for share, own in inline.shares.items():
        _add_own(findings, known, share, own)


def _add_own(findings: Findings, known: Wishes, share: ShareName, own: ProjectShareFile | None) -> None:
    before = known.shares.pop(share, None)
    if own is None:
        return
    origin = findings.document.origin(("projects", known.name, "shares", share), at_key=True)
    remote = None if own.path or own.volume or own.cluster else before.remote if before else None
    known.shares[share] = Wish(share, remote, own, origin)


# --- resolving -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolver:
    """Finds where the shares that projects wish for lie. `public` are names that need no export of their own;
    `doubtful` are kinds of share with problems of their own, about which nothing more is said."""

    findings: Findings
    clusters: Mapping[str, Cluster]
    kinds: Mapping[ShareName, ShareKind]
    public: frozenset[ShareName]
    doubtful: frozenset[str]

    def resolve(self, projects: Mapping[ProjectName, Wishes]) -> tuple[tuple[SiteProject, ...], list[Placed]]:
        """The projects with their shares, in order of name, and the same shares with their places."""
        self._unknown_kinds(projects.values())
        self._elsewhere(projects.values())
        found: list[SiteProject] = []
        placed: list[Placed] = []
        for wishes in sorted(projects.values(), key=lambda wishes: wishes.name):
            if wishes.gid is None:
                continue
            shares = self._shares(wishes, wishes.gid)
            placed.extend(shares)
            own = tuple(each.share for each in shares)
            found.append(SiteProject(wishes.name, wishes.gid, own, self._external(wishes), wishes.expect))
        return tuple(found), placed

    def _external(self, wishes: Wishes) -> tuple[ShareName, ...]:
        return tuple(
            sorted(name for name in wishes.shares if (kind := self.kinds.get(name)) is not None and kind.external)
        )

    def _shares(self, wishes: Wishes, gid: int) -> list[Placed]:
        placed: list[Placed] = []
        for wish in wishes.shares.values():
            kind = self.kinds.get(wish.share)
            if kind is None or kind.external or not self._allowed(wishes, wish, kind):
                continue
            share = self._remote(wish, kind) if wish.remote else self._by_kind(wishes, gid, wish, kind)
            if share is not None:
                placed.append(Placed(wishes.name, gid, wishes.gid_origin, share, wish.origin))
        return placed

    def _allowed(self, wishes: Wishes, wish: Wish, kind: ShareKind) -> bool:
        if kind.projects is None or wishes.name in kind.projects:
            return True
        problem = f"project {wishes.name} may not have share {wish.share}"
        advice = f"add it to shares.{wish.share}.projects, or take the share away from it"
        self.findings.add(wish.origin.problem(problem, advice))
        return False

    def _remote(self, wish: Wish, kind: ShareKind) -> ProjectShare | None:
        """A share of the 2024 schema: host and path say everything but the options."""
        assert wish.remote is not None
        cluster = self._cluster_of(wish.remote.host)
        if cluster is None:
            return None
        volume = cluster.volume_of(wish.remote.path)
        if volume is None:
            problem = f"{wish.remote.path} lies on no volume of cluster {cluster.name}"
            mounts = ", ".join(volume.mount for volume in cluster.volumes)
            self.findings.add(wish.origin.problem(problem, f"declare its volume; there are: {mounts}"))
            return None
        return ProjectShare(wish.share, cluster.name, volume.name, wish.remote.path, policy_of(kind.policy, wish.own))

    def _by_kind(self, wishes: Wishes, gid: int, wish: Wish, kind: ShareKind) -> ProjectShare | None:
        cluster_name, volume_name = wish.own.cluster or kind.cluster, wish.own.volume or kind.volume
        path = kind.path if wish.own.path is None else wish.own.path
        if wish.own.cluster or wish.own.volume:
            where = ("projects", wishes.name, "shares", wish.share)
            volume = find_volume(self.findings, self.clusters, cluster_name, volume_name, where)
        else:  # the kind's own: if there is none, that was said of the kind
            volume = self._kinds_volume(kind)
        if volume is None or cluster_name is None or path is None:
            return None
        try:
            at = below(volume, path, wishes.name, gid)
        except ValueError as error:
            self.findings.add(wish.origin.problem(str(error), f"shorten the path of share {wish.share}"))
            return None
        return ProjectShare(wish.share, cluster_name, volume.name, at, policy_of(kind.policy, wish.own))

    def _kinds_volume(self, kind: ShareKind) -> Volume | None:
        cluster = self.clusters.get(kind.cluster or "")
        return next((each for each in cluster.volumes if each.name == kind.volume), None) if cluster else None

    def _cluster_of(self, host: HostName) -> Cluster | None:
        for cluster in self.clusters.values():
            if host.lower() in {name.lower() for name in cluster.service_names}:
                return cluster
        return None

    def _unknown_kinds(self, projects: Iterable[Wishes]) -> None:
        """Each unknown share name once, however many projects have it."""
        wishes: dict[ShareName, list[Wish]] = {}
        for project in projects:
            for name, wish in project.shares.items():
                if name not in self.kinds and name not in self.public and name not in self.doubtful:
                    wishes.setdefault(name, []).append(wish)
        for name, found in wishes.items():
            many = f" ({len(found)} projects have it, this is the first)" if len(found) > 1 else ""
            declare = f"declare it under shares: (if it is served elsewhere: `{name}: {{external: true}}`)"
            advice = f"{did_you_mean(name, self.kinds).removesuffix('?')}, or {declare}"
            self.findings.add(found[0].origin.problem(f"share {shown(name)} is not declared{many}", advice))

    def _elsewhere(self, projects: Iterable[Wishes]) -> None:
        """Each host that is not ours once, as a notice."""
        hosts: dict[HostName, list[Wish]] = {}
        for project in projects:
            for wish in project.shares.values():
                kind = self.kinds.get(wish.share)
                if wish.remote and kind and not kind.external and self._cluster_of(wish.remote.host) is None:
                    hosts.setdefault(wish.remote.host, []).append(wish)
        for host, found in hosts.items():
            problem = f"{host} is no service name of this site: {len(found)} of its mounts are left to its own server"
            advice = "if it is one of ours, add it to the service_names of its cluster"
            self.findings.notices.append(found[0].origin.notice(problem, advice))


def policy_of(base: SharePolicy, own: OptionsFile) -> SharePolicy:
    """The policy with what is written in its place."""
    written = {name: getattr(own, name) for name in OptionsFile.model_fields if getattr(own, name) is not None}
    if "security" in written:
        written["security"] = tuple(written["security"])
    return replace(base, **written) if written else base


def below(volume: Volume, path: str, project: str, gid: int) -> ExportPath:
    """The export path that a template gives for a project. Raises ValueError where it gets too long."""
    filled = path.replace("{project}", project).replace("{gid}", str(gid))
    return ExportPath.normal(f"{volume.mount}/{filled}")


def find_volume(
    findings: Findings,
    clusters: Mapping[str, Cluster],
    cluster: str | None,
    volume: str | None,
    where: tuple[str, ...],
) -> Volume | None:
    """The volume that a setting below `where` names; None, and a problem, where there is none of that name.

    Nothing is said about a cluster or volume that the file does declare, but wrongly: that was said already.
    """
    if cluster is None or volume is None:
        return None
    declared = findings.document.value.get("clusters")
    declared = declared if isinstance(declared, dict) else {}
    here = clusters.get(cluster)
    if here is None:
        if cluster not in declared:
            problem = f"{'.'.join(where)}: there is no cluster {shown(cluster)}"
            findings.problem((*where, "cluster"), problem, did_you_mean(cluster, clusters))
        return None
    known: dict[str, Volume] = {each.name: each for each in here.volumes}
    if volume in known:
        return known[volume]
    if volume not in (declared.get(cluster) or {}).get("volumes", {}):
        problem = f"{'.'.join(where)}: cluster {cluster} has no volume {shown(volume)}"
        findings.problem((*where, "volume"), problem, did_you_mean(volume, known))
    return None
