"""Which directories and bind mounts a cluster shall have."""

from __future__ import annotations

from collections.abc import Iterable

from labstore.model.binds import BindsSettings, Kind, Thing
from labstore.model.names import ExportPath, ProjectName
from labstore.model.site import Cluster, ProjectShare, Site, Volume

INSIDE = ("home", "project")
"""Kinds of share that have a directory of their own inside of the exported one, as the original made them: `home`,
`tools-home` ..."""


def desired(site: Site, cluster: Cluster, directories: bool = True) -> tuple[Thing, ...]:
    """Everything, parents before what lies in them; without `directories` the mounts alone."""
    binds = tuple(
        Thing(Kind.BIND, bind.point, bind.volume, _project(bind.owner), bind.source)
        for bind in site.binds_of(cluster.name)
    )
    return (*(desired_directories(site, cluster) if directories else ()), *binds)


def desired_directories(site: Site, cluster: Cluster) -> tuple[Thing, ...]:
    """The directories of every share of the cluster with what lies between them and their volume. What an exported
    directory is, it stays, also where it lies above another one."""
    settings = site.binds or BindsSettings()
    found: dict[ExportPath, Thing] = {}
    for project in site.projects:
        shares = [share for share in project.shares if share.cluster == cluster.name]
        for path in dict.fromkeys(share.path for share in shares):
            here = [share for share in shares if share.path == path]
            for thing in _of_share(settings, project.name, project.gid, here):
                found[thing.path] = thing
    for public in site.public:
        if public.cluster == cluster.name and not public.bare:
            found.setdefault(public.path, Thing(Kind.DIRECTORY, public.path, public.volume))
    for thing in tuple(found.values()):
        for above in _between(cluster.volume(thing.volume), thing.path):
            found.setdefault(above, Thing(Kind.DIRECTORY, above, thing.volume))
    mounts = {volume.mount for volume in cluster.volumes}
    return tuple(thing for path, thing in sorted(found.items()) if path not in mounts)


def _of_share(settings: BindsSettings, project: ProjectName, gid: int, shares: list[ProjectShare]) -> Iterable[Thing]:
    """The exported directory, and those inside of it; where there are any, nobody but root puts others beside them."""
    path, volume = shares[0].path, shares[0].volume
    inside = sorted({name for share in shares if (name := inside_of(share))})
    own = settings.mode if not inside else 0o755
    yield Thing(Kind.DIRECTORY, path, volume, project, None, settings.owner, gid, own)
    for name in inside:
        at = ExportPath(f"{path}/{name}")
        yield Thing(Kind.DIRECTORY, at, volume, project, None, settings.owner, gid, settings.mode)


def inside_of(share: ProjectShare) -> str | None:
    """`home` for shares `home` and `tools-home`; None where the exported directory is that already."""
    name = share.share.rpartition("-")[2]
    return name if name in INSIDE and share.path.rpartition("/")[2] != name else None


def _between(volume: Volume, path: ExportPath) -> Iterable[ExportPath]:
    """The directories between a volume's mount and a path, both left out."""
    parts = path.removeprefix(volume.mount).strip("/").split("/")
    for end in range(1, len(parts)):
        yield ExportPath(f"{volume.mount}/{'/'.join(parts[:end])}")


def _project(owner: str) -> ProjectName | None:
    return None if owner.startswith("public_") else ProjectName(owner)
