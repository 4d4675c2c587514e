"""All that a plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from labstore.model.binds import BindsSettings, Thing
from labstore.model.names import ExportPath, ProjectName, VolumeName
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer


class Seen(StrEnum):
    """What stands at a place. THERE: a directory, or the right mount."""

    ABSENT = "absent"
    THERE = "there"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Found:
    """`words` say what is foreign. Owner, group and mode are those of a directory."""

    state: Seen
    words: str = ""
    owner: int = 0
    gid: int = 0
    mode: int = 0

    @property
    def there(self) -> bool:
        return self.state is Seen.THERE


@dataclass(frozen=True)
class BindFacts:
    """`wanted` in the order in which it can be made. `found` is by key; what lies on a volume that is not there was not
    looked at and is not in it. `extra` are mounts of our volumes below the export root that nobody wants. `groups` are
    those that were asked for, because something is to be made for them. `without_source` are directories that mounts
    would show and that are not there."""

    settings: BindsSettings
    wanted: tuple[Thing, ...]
    found: Mapping[str, Answer[Found]]
    volumes: Mapping[VolumeName, Answer[VolumeState]]
    extra: tuple[Thing, ...] = ()
    without_source: frozenset[ExportPath] = frozenset()
    groups: Mapping[ProjectName, Answer[int]] = field(default_factory=dict)
