"""The site that the original had built in: what `nfs-exportd` needs of a mounts file alone, with no site file.

Paths and options are the original's since it gave up bind mounts (upstream 1.2): `/srv/misc/shared/<project>`, but
`/srv/tools/shared/tools` and `/srv/maps`; `rw,nohide,no_subtree_check,async,no_root_squash`. They are kept for those
who replace the program and nothing else; a site file gives the safe ones.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labstore.config import checks
from labstore.config.projects import Placed
from labstore.config.resolve import policy_of_line
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.mounts_file import MOUNT_NAMES, NEVER_PRIVATE, Mount, MountsFile, MountsProject, PublicLine
from labstore.formats.places import Places
from labstore.formats.strict_yaml import Document
from labstore.model.exports import Squash
from labstore.model.names import ClusterName, ExportPath, HostName, ShareName, VolumeName
from labstore.model.site import (
    Cluster,
    Expect,
    ExportsSettings,
    FsidFrom,
    InventoryKind,
    InventorySettings,
    OpenStackSettings,
    ProjectShare,
    PublicShare,
    SharePolicy,
    Site,
    SiteName,
    SiteProject,
    Volume,
)
from labstore.reports.in_file import FileNotice, Origin

CLUSTER = ClusterName("local")
POLICY = SharePolicy(squash=Squash.NONE, sync=False, nohide=True, fsid=FsidFrom.VOLUME, mountpoint_guard=False)
"""The original's options. Its exports name no mount point; the guard against an unmounted volume is the plan's."""
_PLACES = {"tools": ("/srv/tools", "shared/tools"), "maps": ("/srv/maps", "")}
_MISC = ("/srv/misc", "shared/{project}")


@dataclass(frozen=True)
class Builtin:
    """A site without a site file. `notices` say what of the mounts file it does not serve."""

    site: Site
    notices: tuple[FileNotice, ...]


def builtin_site(
    mounts: MountsFile,
    exports_dir: Path = Path("/etc/exports.d"),
    service_names: Sequence[str] = (),
    cloud: str = "novaobserver",
    no_exports_is_ok: bool = False,
) -> Builtin:
    """The site of a mounts file in either schema; one cluster, `local`, always active.

    `service_names` are the host parts of `host:/path` that mean this server (the original resolved every host;
    upstream #6); mounts of other hosts are skipped with a notice. Raises BadFile where two projects would get one
    path or gid, or a mount name is not one of the original's.
    """
    findings = Findings(Document(mounts.name, {}, Places(0)))
    names = frozenset(HostName(name.lower()) for name in service_names)
    reader = _Reader(findings, mounts, names)
    projects = tuple(reader.project(each) for each in sorted(mounts.projects, key=lambda each: each.name))
    public = tuple(share for line in mounts.public if (share := reader.public(line)) is not None)
    checks.offers(findings, reader.offers)
    findings.raise_problems()
    site = Site(
        name=SiteName("local"),
        clusters=(
            Cluster(
                CLUSTER,
                volumes=tuple(reader.volumes[mount] for mount in sorted(reader.volumes)),
                exports_dir=exports_dir,
            ),
        ),
        projects=projects,
        public=public,
        inventory=InventorySettings(InventoryKind.OPENSTACK, openstack=OpenStackSettings(cloud=cloud)),
        exports=ExportsSettings(expect_private=Expect.ANY if no_exports_is_ok else Expect.SOME),
    )
    return Builtin(site, (*mounts.notices, *findings.notices))


class _Reader:
    """Reads a mounts file with the original's eyes, noting which volumes it uses."""

    def __init__(self, findings: Findings, mounts: MountsFile, service_names: frozenset[HostName]) -> None:
        self.volumes: dict[ExportPath, Volume] = {}
        self.offers: list[checks.Offer] = []
        self._findings = findings
        self._file = mounts
        self._service_names = service_names
        self._hosts_said: set[HostName] = set()

    def project(self, project: MountsProject) -> SiteProject:
        shares = tuple(share for each in project.mounts if (share := self._share(project, each)) is not None)
        external = tuple(sorted(each.share for each in project.mounts if each.share in NEVER_PRIVATE))
        return SiteProject(project.name, project.gid, shares, external)

    def public(self, line: PublicLine) -> PublicShare | None:
        """A public line as it stands, but for the pseudo-root, which servers make by themselves."""
        origin = Origin(self._file.name, line.place.line, line.place.column)
        if line.pseudo_root:
            problem = f"public {line.name} ({line.path}) is the NFSv4 pseudo-root, which NFS servers make by themselves"
            self._findings.notices.append(origin.notice(problem, "nothing to do; it is not exported"))
            return None
        volume = self._volume_of(line.path)
        policy = policy_of_line(line.options, FsidFrom.VOLUME, mountpoint_guard=False)
        share = PublicShare(line.name, CLUSTER, volume.name, line.path, policy, line.clients, line.world)
        checks.world(self._findings, share, origin)
        self.offers.append(checks.Offer.of_public(share, origin))
        return share

    def _share(self, project: MountsProject, mount: Mount) -> ProjectShare | None:
        origin = Origin(self._file.name, mount.place.line, mount.place.column)
        if mount.share not in MOUNT_NAMES and mount.remote is None:
            problem = f"mount {mount.share} of project {project.name} is none of the original's"
            advice = f"{did_you_mean(mount.share, MOUNT_NAMES)}; other names need a site file"
            self._findings.add(origin.problem(problem, advice))
        if mount.share in NEVER_PRIVATE or not self._served(mount.share):
            return None
        if mount.remote is None:
            base, below = _PLACES.get(project.name, _MISC)
            volume = self._volume(ExportPath(base))
            path = ExportPath.normal(f"{base}/{below.replace('{project}', project.name)}")
        elif mount.remote.host.lower() in self._service_names:
            path = mount.remote.path
            volume = self._volume_of(path)
        else:
            self._elsewhere(mount.remote.host, origin)
            return None
        share = ProjectShare(mount.share, CLUSTER, volume.name, path, POLICY)
        gid_origin = Origin(self._file.name, project.place.line, project.place.column)
        self.offers.append(checks.Offer.of(Placed(project.name, project.gid, gid_origin, share, origin)))
        return share

    def _served(self, share: ShareName) -> bool:
        return self._file.served is None or share in self._file.served

    def _volume_of(self, path: ExportPath) -> Volume:
        """What holds a path by the original's habit: the second level, `/srv/misc`."""
        return self._volume(ExportPath("/".join(path.split("/")[:3])))

    def _volume(self, mount: ExportPath) -> Volume:
        if mount not in self.volumes:
            self.volumes[mount] = Volume(self._volume_name(mount), mount)
        return self.volumes[mount]

    def _volume_name(self, mount: str) -> VolumeName:
        """`/srv/misc` is volume `misc`; two mounts never share a name."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", mount.removeprefix("/srv/")).lstrip("-._")[:56] or "volume"
        taken = {volume.name for volume in self.volumes.values()}
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        return VolumeName(next(name for name in itertools.chain([plain], numbered) if name not in taken))

    def _elsewhere(self, host: HostName, origin: Origin) -> None:
        if host not in self._hosts_said:
            self._hosts_said.add(host)
            problem = f"{host} is not said to be this server: its mounts are left to it"
            self._findings.notices.append(origin.notice(problem, "if it is this one, name it as a service name"))
