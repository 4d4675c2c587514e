"""The snapshots of one volume: taken, found, read and removed. What is not a snapshot of ours is never touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from labstore.model.change_hints import Hints
from labstore.reconcile.facts import Answer


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of the volume. `tags` are ours: empty for a snapshot that somebody else took.

    `room` is what it may take at most and `full` how much of that is taken (0 to 1), None where it shares a pool;
    `valid` is False when it overflowed. `takes` is what it takes alone, None where nobody can say. `token` names the
    moment that it stands for, for as long as it is not written.
    """

    name: str
    path: str
    size: int
    created: datetime
    token: str
    tags: Mapping[str, str] = field(default_factory=dict)
    room: int | None = None
    full: float | None = None
    valid: bool = True
    takes: int | None = None
    open: bool = False

    @property
    def ours(self) -> bool:
        return bool(self.tags)


@dataclass(frozen=True, slots=True)
class Room:
    """Of the pool, volume group or file system in which snapshots of the volume live. `needs_size` is True where each
    snapshot must be told how large it may become."""

    size: int
    free: int
    needs_size: bool


@dataclass(frozen=True, slots=True)
class VolumeFound:
    """The volume itself. `holder` says who uses it, None where nobody does."""

    path: str
    size: int
    room: Room
    holder: str | None = None


class Snapshots(Protocol):
    """Implementations: LVM (thick and thin), image files, and the fake of the tests; one contract suite for all."""

    def volume(self) -> Answer[VolumeFound]:
        """The volume as it is now. Missing where there is none, too: an absent volume is nobody's word."""

    def snapshots(self) -> Answer[tuple[Snapshot, ...]]:
        """All snapshots of the volume, oldest first, ours and others'."""

    def take(self, name: str, tags: Mapping[str, str], room: int | None = None) -> Snapshot:
        """A snapshot of the volume as it is now, read-only where the storage can do that, durable, with these tags.

        Raises StepFailed; then there is no snapshot of this name that carries our tags.
        """

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Let one of ours carry these tags besides. Raises StepFailed."""

    def remove(self, name: str) -> None:
        """Remove one of ours; that it is gone already is success. Raises StepFailed: also for what is not ours, not a
        snapshot, or in use."""

    def grow(self, name: str, room: int) -> None:
        """Give one of ours so much room. Raises StepFailed."""

    def open_copy(self, name: str, purpose: str) -> str:
        """The path of a device that shows one of ours and may be written without changing it, until `close_copy` of
        the same purpose. Raises StepFailed."""

    def close_copy(self, name: str, purpose: str) -> None:
        """That it is closed already is success. Raises StepFailed."""

    def hints(self, since: Snapshot, until: Snapshot) -> Hints | None:
        """Where two of ours differ, None where the storage cannot say. Raises nothing: who cannot say has none."""
