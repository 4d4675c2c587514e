"""Everything a decision about backups needs, as it was found at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.model.backup import Generation, GenerationName, RestoreMount, SourceStatus
from labstore.model.backup_settings import Job
from labstore.model.names import HostName
from labstore.ports.snapshots import VolumeFound
from labstore.reconcile.facts import Answer


@dataclass(frozen=True)
class JobFacts:
    """One job. `nodes` are the machines that have its source. `owed` is True where the target was brought to a state
    in full of which there is no generation yet: a run was killed between the two."""

    job: Job
    nodes: Mapping[HostName, Answer[SourceStatus]]
    target: Answer[VolumeFound]
    generations: Answer[tuple[Generation, ...]]
    mounts: Answer[tuple[RestoreMount, ...]]
    strays: tuple[RestoreMount, ...] = ()
    """Mounts of jobs that are not in the site file any more: every job ends those whose time is over."""
    owed: bool = False
    stranger: str | None = None
    """What the target holds that no copy of ours ever wrote."""
    overflowed: tuple[GenerationName, ...] = ()
    """Generations in which nothing can be read any more; what they take is to be had back."""
    asked: bool = False
    """A person wants a generation now, whether one is due or not."""


@dataclass(frozen=True)
class BackupFacts:
    at: datetime
    jobs: tuple[JobFacts, ...]
    brake: int = 5
    lost: Mapping[str, str] = field(default_factory=dict)
