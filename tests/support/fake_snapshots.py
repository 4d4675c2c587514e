"""Snapshots in memory, of a file that a test writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from labstore.model.change_hints import Hints
from labstore.ports.snapshots import Room, Snapshot, VolumeFound
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NotOurs, StorageFailed
from labstore.reports.sources import SourceFailed
from tests.support.fake_clock import START, FakeClock


@dataclass
class FakeSnapshots:
    """See ports.snapshots.Snapshots. `refuses` lists verbs that fail; `silent` answers nothing."""

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    holder: str | None = None
    silent: bool = False
    refuses: set[str] = field(default_factory=set)
    room: Room = field(default_factory=lambda: Room(1 << 40, 1 << 39, needs_size=False))
    there: dict[str, Snapshot] = field(default_factory=dict)
    copies: set[tuple[str, str]] = field(default_factory=set)
    said: Hints | None = None

    def _missing(self) -> Missing:
        return Missing(SourceFailed("fake", "the volume", "no answer"), "fake", START)

    def volume(self) -> Answer[VolumeFound]:
        if self.silent:
            return self._missing()
        return Fact(VolumeFound(str(self.path), self.path.stat().st_size, self.room, self.holder), "fake", START)

    def snapshots(self) -> Answer[tuple[Snapshot, ...]]:
        if self.silent:
            return self._missing()
        return Fact(tuple(sorted(self.there.values(), key=lambda each: (each.created, each.name))), "fake", START)

    def take(self, name: str, tags: Mapping[str, str], room: int | None = None) -> Snapshot:
        self._check("take")
        if name in self.there:
            raise StepFailed(StorageFailed(name, "there is one already"))
        copy = self.path.with_name(f"{self.path.name}.{name}")
        copy.write_bytes(self.path.read_bytes())
        size = copy.stat().st_size
        made = Snapshot(name, str(copy), size, self.clock.now(), f"fake {name}", dict(tags), room)
        self.there[name] = made
        return made

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        self._check("tag")
        self.there[name] = replace(self._ours(name), tags={**self._ours(name).tags, **tags})

    def remove(self, name: str) -> None:
        self._check("remove")
        if name not in self.there:
            return
        if self._ours(name).open or any(copied == name for copied, _ in self.copies):
            raise StepFailed(StorageFailed(name, "it is in use"))
        Path(self.there.pop(name).path).unlink()

    def grow(self, name: str, room: int) -> None:
        self._check("grow")
        found = self._ours(name)
        full = found.full * (found.room or room) / room if found.full is not None else None
        self.there[name] = replace(found, room=room, full=full)

    def open_copy(self, name: str, purpose: str) -> str:
        self._check("open_copy")
        copy = Path(f"{self._ours(name).path}.{purpose}")
        copy.write_bytes(Path(self.there[name].path).read_bytes())
        self.copies.add((name, purpose))
        return str(copy)

    def close_copy(self, name: str, purpose: str) -> None:
        self._check("close_copy")
        self.copies.discard((name, purpose))
        if name in self.there:
            Path(f"{self.there[name].path}.{purpose}").unlink(missing_ok=True)

    def hints(self, since: Snapshot, until: Snapshot) -> Hints | None:
        return self.said

    def _check(self, verb: str) -> None:
        if verb in self.refuses:
            raise StepFailed(StorageFailed(verb, "the storage refuses"))

    def _ours(self, name: str) -> Snapshot:
        if name not in self.there:
            raise StepFailed(StorageFailed(name, "there is no such snapshot"))
        if not self.there[name].ours:
            raise StepFailed(NotOurs(name))
        return self.there[name]
