"""What stands at the places of directories and mounts: looked at from each volume's mount downwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from labstore.binds.desired import desired
from labstore.binds.facts import BindFacts, Found, Seen
from labstore.formats.mountinfo import BadMountinfo, Mount
from labstore.model.binds import BindsSettings, Kind, Thing
from labstore.model.names import ExportPath, ProjectName, VolumeName
from labstore.model.site import Cluster, Site
from labstore.ports.clock import Clock
from labstore.ports.host import Host
from labstore.ports.node import Node, VolumeState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.groups import group_numbers
from labstore.system.mounts import by_point
from labstore.system.trees import NotADirectory, NotMounted, Top, directory

SOURCE = "file system"


@dataclass(frozen=True)
class Observer:
    """`mounts` gives what is mounted here."""

    node: Node
    host: Host
    clock: Clock
    mounts: Callable[[], tuple[Mount, ...]]

    def look(self, site: Site, cluster: Cluster, directories: bool = True) -> BindFacts:
        """Everything that the site wants of this cluster on this node. Changes nothing."""
        settings = site.binds or BindsSettings()
        wanted = desired(site, cluster, directories)
        volumes = self._volumes(cluster, wanted)
        mounted = self._mounted()
        found: dict[str, Answer[Found]] = {}
        without: set[ExportPath] = set()
        for thing in wanted:
            if not _fit(volumes[thing.volume]):
                continue
            found[thing.key] = self._look(cluster, thing, mounted)
            if thing.kind is Kind.BIND and thing.source is not None and not self._is_there(cluster, thing):
                without.add(thing.source)
        extra = self._extra(site, cluster, mounted)
        groups = self._groups(settings, wanted, found)
        return BindFacts(settings, wanted, found, volumes, extra, frozenset(without), groups)

    def _volumes(self, cluster: Cluster, wanted: Iterable[Thing]) -> Mapping[VolumeName, Answer[VolumeState]]:
        names = {thing.volume for thing in wanted}
        return {volume.name: self.node.volume(volume) for volume in cluster.volumes if volume.name in names}

    def _mounted(self) -> Answer[Mapping[str, Mount]]:
        try:
            return Fact(by_point(self.mounts()), "mountinfo", self.clock.now())
        except (OSError, BadMountinfo) as error:
            return Missing(SourceFailed("mountinfo", "what is mounted", str(error)), "mountinfo", self.clock.now())

    def _look(self, cluster: Cluster, thing: Thing, mounted: Answer[Mapping[str, Mount]]) -> Answer[Found]:
        if thing.kind is Kind.DIRECTORY:
            return self._directory(cluster, thing.volume, thing.path)
        if isinstance(mounted, Missing):
            return mounted
        return Fact(_bind(cluster, thing, mounted.value), "mountinfo", self.clock.now())

    def _directory(self, cluster: Cluster, volume: VolumeName, path: ExportPath) -> Answer[Found]:
        now = self.clock.now()
        try:
            found = directory(top_of(cluster, volume), path)
        except NotADirectory as error:
            return Fact(Found(Seen.FOREIGN, str(error)), SOURCE, now)
        except NotMounted:
            return Missing(SourceFailed(SOURCE, path, "its volume is not mounted any more"), SOURCE, now)
        except OSError as error:
            return Missing(SourceFailed(SOURCE, path, error.strerror or str(error)), SOURCE, now)
        if found is None:
            return Fact(Found(Seen.ABSENT), SOURCE, now)
        return Fact(Found(Seen.THERE, "", found.owner, found.gid, found.mode), SOURCE, now)

    def _is_there(self, cluster: Cluster, thing: Thing) -> bool:
        assert thing.source is not None
        answer = self._directory(cluster, thing.volume, thing.source)
        return isinstance(answer, Fact) and answer.value.state is Seen.THERE

    def _extra(self, site: Site, cluster: Cluster, mounted: Answer[Mapping[str, Mount]]) -> tuple[Thing, ...]:
        """Mounts of this cluster's volumes below the export root that nobody wants; anybody else's are left alone."""
        root = cluster.export_root
        if root is None or isinstance(mounted, Missing):
            return ()
        wanted = {bind.point for bind in site.binds_of(cluster.name)}
        ours = {
            mounted.value[volume.mount].device: volume for volume in cluster.volumes if volume.mount in mounted.value
        }
        found = []
        for point, mount in sorted(mounted.value.items(), reverse=True):
            if point.startswith(f"{root}/") and point not in wanted and mount.device in ours:
                volume = ours[mount.device]
                found.append(Thing(Kind.BIND, ExportPath(point), volume.name, _of_point(root, point)))
        return tuple(found)

    def _groups(
        self, settings: BindsSettings, wanted: Iterable[Thing], found: Mapping[str, Answer[Found]]
    ) -> Mapping[ProjectName, Answer[int]]:
        """Only for whom something is to be made: nobody is asked about thousands of projects in vain."""
        if settings.group is None:
            return {}
        names = {
            thing.project: str(settings.group_of(thing.project))
            for thing in wanted
            if thing.project is not None and thing.kind is Kind.DIRECTORY and _absent(found.get(thing.key))
        }
        numbers = group_numbers(self.host, self.clock, set(names.values()))
        return {project: numbers[group] for project, group in names.items()}


def top_of(cluster: Cluster, volume: VolumeName) -> Top:
    found = cluster.volume(volume)
    return Top(found.mount, found.mounted)


def _fit(answer: Answer[VolumeState]) -> bool:
    return isinstance(answer, Fact) and answer.value is VolumeState.FIT


def _absent(answer: Answer[Found] | None) -> bool:
    return isinstance(answer, Fact) and answer.value.state is Seen.ABSENT


def _bind(cluster: Cluster, thing: Thing, mounted: Mapping[str, Mount]) -> Found:
    """Whether the mount at a point is of the right directory of the right volume."""
    mount = mounted.get(thing.path)
    if mount is None:
        return Found(Seen.ABSENT)
    volume = cluster.volume(thing.volume)
    below = mounted.get(volume.mount)
    if below is None:  # a plain directory: of which file system it is part is not known, but its path ends alike
        right = mount.root.endswith(str(thing.source))
    else:
        inside = str(thing.source).removeprefix(volume.mount)
        right = mount.device == below.device and mount.root == f"{below.root.rstrip('/')}{inside}"
    return Found(Seen.THERE) if right else Found(Seen.FOREIGN, f"{mount.root} of {mount.source} is mounted there")


def _of_point(root: str, point: str) -> ProjectName | None:
    parts = point.removeprefix(f"{root}/").split("/")
    try:
        return ProjectName(parts[1]) if parts[0] == "project" and len(parts) > 1 else None
    except ValueError:
        return None
