"""Directories of shares and the mounts of an export tree: what shall be there, and what it is called in a plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labstore.model.names import ExportPath, ProjectName, VolumeName


@dataclass(frozen=True, slots=True)
class BindsSettings:
    """How directories of new projects are made. `group` is the name of a project's group with `{project}` in it, to
    be compared with the gid of the site's files; None asks nobody. `owner` is a uid."""

    group: str | None = None
    owner: int = 0
    mode: int = 0o2775

    def group_of(self, project: ProjectName) -> str | None:
        return None if self.group is None else self.group.replace("{project}", project)


class Kind(StrEnum):
    DIRECTORY = "directory"
    BIND = "bind"


@dataclass(frozen=True, slots=True)
class Thing:
    """A directory on a volume, or a bind mount of `source` at `path`. One without a project holds those of several."""

    kind: Kind
    path: ExportPath
    volume: VolumeName
    project: ProjectName | None = None
    source: ExportPath | None = None
    owner: int = 0
    gid: int = 0
    mode: int = 0o755

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.path}"
