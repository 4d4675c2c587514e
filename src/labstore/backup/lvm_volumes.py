"""Volumes that are logical volumes, thick or thin: looked up by group and name, and nothing touched that is not a
snapshot of ours (upstream 1.9: a lookup by name alone, and lvremove of a bare group as a wildcard)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.formats import lvm_snapshots, thin_delta
from labstore.formats.lvm_snapshots import FIELDS, BadReport, Lv, tag_words
from labstore.formats.thin_delta import BadDelta
from labstore.model.backup_settings import LogicalVolume, LvmWord
from labstore.model.change_hints import Hints
from labstore.ports.clock import Clock
from labstore.ports.host import Command, CommandFailed, Host
from labstore.ports.snapshots import Room, Snapshot, VolumeFound
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NotOurs, StorageFailed
from labstore.reports.sources import SourceFailed
from labstore.system import locks
from labstore.system.block_use import in_use

DEADLINE = 120.0
_SCRATCH = 0.2
"""Part of a volume that the scratch copy of a thick snapshot may differ by."""


@dataclass(frozen=True)
class LvmSnapshots:
    """See ports.snapshots.Snapshots. Thin where the volume is thin, thick where it is thick. `scratch` is where the
    changes to an opened copy of a thick snapshot go."""

    volume_at: LogicalVolume
    host: Host
    clock: Clock
    scratch: Path = Path("/var/lib/labstore/backup/scratch")
    user_of: Callable[[str], str | None] = in_use

    def volume(self) -> Answer[VolumeFound]:
        try:
            all_here = self._all()
            lv = _named(all_here, self.volume_at.name)
            if lv is None:
                return self._missing("the volume", "there is none of this name")
            holder = self.user_of(str(self.volume_at.path))
        except (CommandFailed, BadReport, OSError) as error:
            return self._missing("the volume", str(error))
        return Fact(
            VolumeFound(str(self.volume_at.path), lv.size, _room(all_here, lv), holder), "lvs", self.clock.now()
        )

    def snapshots(self) -> Answer[tuple[Snapshot, ...]]:
        try:
            found = [lv for lv in self._all() if lv.origin == self.volume_at.name]
        except (CommandFailed, BadReport) as error:
            return self._missing("the snapshots", str(error))
        found.sort(key=lambda lv: (lv.created, lv.name))
        return Fact(tuple(self._snapshot(lv) for lv in found), "lvs", self.clock.now())

    def take(self, name: str, tags: Mapping[str, str], room: int | None = None) -> Snapshot:
        origin = self._volume()
        marks = tuple(word for tag in tag_words(tags) for word in ("--addtag", tag))
        if origin.thin:
            how: tuple[str, ...] = ("--setactivationskip", "n")
        elif room is None:
            raise StepFailed(StorageFailed(name, "a thick snapshot must be told how large it may become"))
        else:
            how = ("--size", f"{room}b")
        self._do(
            "lvcreate",
            "--yes",
            "--snapshot",
            "--permission",
            "r",
            *how,
            "--name",
            LvmWord(name),
            *marks,
            str(self.volume_at),
        )
        return self._snapshot(self._ours(name))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        before = self._ours(name).tags
        # what stays is not named: of a tag that is to go and to come LVM leaves nothing
        new = {key: value for key, value in tags.items() if before.get(key) != value}
        old = {key: before[key] for key in new if key in before}
        words = (word for tag in tag_words(old) for word in ("--deltag", tag))
        more = (word for tag in tag_words(new) for word in ("--addtag", tag))
        if new:
            self._do("lvchange", "--yes", *words, *more, self._full(name))

    def remove(self, name: str) -> None:
        found = self._look(name)
        if found is None:
            return
        if not found.tags:
            raise StepFailed(NotOurs(self._full(name)))
        if found.open:
            raise StepFailed(StorageFailed(self._full(name), "it is in use"))
        self._do("lvremove", "--yes", self._full(name))
        if self._look(name) is not None:
            raise StepFailed(StorageFailed(self._full(name), "lvremove said it was removed, and it is still there"))

    def grow(self, name: str, room: int) -> None:
        found = self._ours(name)
        if found.thick_snapshot and found.size < room:
            self._do("lvextend", "--yes", "--size", f"{room}b", self._full(name))

    def open_copy(self, name: str, purpose: str) -> str:
        found = self._ours(name)
        self.close_copy(name, purpose)
        copy = self._copy_name(name, purpose)
        if found.thin:
            mark = tag_words({"copy": name})[0]
            what = ("--setactivationskip", "n", "--permission", "rw", "--addtag", mark, "--name", copy)
            self._do("lvcreate", "--yes", "--snapshot", *what, self._full(name))
            return f"/dev/{self.volume_at.group}/{copy}"
        return self._overlay(found, copy)

    def close_copy(self, name: str, purpose: str) -> None:
        copy = self._copy_name(name, purpose)
        lv = self._any(copy)  # of no origin, where that went before it
        if lv is not None and lv.tags.get("copy") == name:
            self._do("lvremove", "--yes", self._full(copy))
        if Path("/dev/mapper", self._mapped(copy)).exists():
            self._do("dmsetup", "remove", "--retry", self._mapped(copy))
        changes = self.scratch / copy
        if changes.exists():
            listed = self._do("losetup", "--noheadings", "--output", "NAME", "--associated", str(changes))
            for loop in listed.split():
                self._do("losetup", "--detach", loop)
            changes.unlink()

    def hints(self, since: Snapshot, until: Snapshot) -> Hints | None:
        """By thin_delta, with the pool's metadata held still; thick snapshots have nothing to compare."""
        try:
            all_here = self._all()
            one, other = _named(all_here, since.name), _named(all_here, until.name)
            if one is None or other is None or one.thin_id is None or other.thin_id is None or one.pool != other.pool:
                return None
            return thin_delta.parse(self._delta(one, other), since.token, until.token)
        except (CommandFailed, BadReport, BadDelta, locks.Locked, OSError):
            return None

    def _delta(self, one: Lv, other: Lv) -> str:
        pool = f"{_escaped(one.group)}-{_escaped(one.pool)}"
        ids = ("--snap1", str(one.thin_id), "--snap2", str(other.thin_id))
        with self._metadata_held(pool):
            argv = ("thin_delta", "--metadata-snap", *ids, f"/dev/mapper/{pool}_tmeta")
            return self.host.run(Command.of(*argv, deadline=600.0)).stdout

    @contextlib.contextmanager
    def _metadata_held(self, pool: str) -> Iterator[None]:
        """A pool holds its metadata still for one at a time, until it is told to let go: also when who asked for it
        was killed. That it was us says a file."""

        def tell(message: str) -> None:
            self.host.run(Command.of("dmsetup", "message", f"{pool}-tpool", "0", message))

        ours = self.scratch / f"{pool}.held"
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.exclusive(self.scratch / f"{pool}.lock", "thin_delta"):
            if ours.exists():
                with contextlib.suppress(CommandFailed):
                    tell("release_metadata_snap")
            ours.touch()
            try:
                tell("reserve_metadata_snap")
                try:
                    yield
                finally:
                    tell("release_metadata_snap")
            finally:
                ours.unlink()

    # --- parts ------------------------------------------------------------------------------------------------------

    def _overlay(self, found: Lv, copy: str) -> str:
        """A thick snapshot can have no snapshot: what is written to the copy goes into a sparse file instead."""
        changes = self.scratch / copy
        try:
            self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            with changes.open("xb") as file:
                file.truncate(int(found.virtual * _SCRATCH) // 4096 * 4096)
        except OSError as error:
            raise StepFailed(StorageFailed(str(changes), error.strerror or str(error))) from error
        loop = self._do("losetup", "--find", "--show", str(changes)).strip()
        table = f"0 {found.virtual // 512} snapshot /dev/{found.group}/{found.name} {loop} N 8"
        self._do("dmsetup", "create", self._mapped(copy), "--table", table)
        return f"/dev/mapper/{self._mapped(copy)}"

    def _mapped(self, copy: str) -> str:
        return f"labstore-{self.volume_at.group}-{copy}"

    @staticmethod
    def _copy_name(name: str, purpose: str) -> str:
        return f"{LvmWord(name)}-{LvmWord(purpose)}"

    def _full(self, name: str) -> str:
        return f"{self.volume_at.group}/{LvmWord(name)}"

    def _all(self) -> tuple[Lv, ...]:
        """Everything of the group. Raises CommandFailed, BadReport."""
        argv = ("lvs", "--all", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", FIELDS)
        done = self.host.run(Command.of(*argv, self.volume_at.group, deadline=DEADLINE))
        return tuple(lv for lv in lvm_snapshots.parse(done.stdout) if lv.group == self.volume_at.group)

    def _any(self, name: str) -> Lv | None:
        try:
            return _named(self._all(), LvmWord(name))
        except (CommandFailed, BadReport) as error:
            raise StepFailed(StorageFailed(self._full(name), str(error))) from error

    def _look(self, name: str) -> Lv | None:
        found = self._any(name)
        return found if found is not None and found.origin == self.volume_at.name else None

    def _ours(self, name: str) -> Lv:
        found = self._look(name)
        if found is None:
            raise StepFailed(StorageFailed(self._full(name), f"there is no such snapshot of {self.volume_at}"))
        if not found.tags:
            raise StepFailed(NotOurs(self._full(name)))
        return found

    def _volume(self) -> Lv:
        try:
            found = _named(self._all(), self.volume_at.name)
        except (CommandFailed, BadReport) as error:
            raise StepFailed(StorageFailed(str(self.volume_at), str(error))) from error
        if found is None:
            raise StepFailed(StorageFailed(str(self.volume_at), "there is no such volume"))
        return found

    def _do(self, *argv: str) -> str:
        try:
            return self.host.run(Command.of(*argv, deadline=DEADLINE)).stdout
        except CommandFailed as error:
            raise StepFailed(StorageFailed(" ".join(argv[:1]), str(error))) from error

    def _snapshot(self, lv: Lv) -> Snapshot:
        return Snapshot(
            name=lv.name,
            path=f"/dev/{lv.group}/{lv.name}",
            size=lv.virtual,
            created=lv.created,
            token=f"lv {lv.uuid}",
            tags=lv.tags,
            room=lv.size if lv.thick_snapshot else None,
            full=lv.full if lv.thick_snapshot else None,
            valid=not lv.invalid,
            takes=lv.size if lv.thick_snapshot else None,
            open=lv.open,
        )

    def _missing(self, what: str, reason: str) -> Missing:
        return Missing(SourceFailed("lvs", f"{what} of {self.volume_at}", reason), "lvs", self.clock.now())


def _escaped(name: str) -> str:
    """As device mapper writes a name within another."""
    return name.replace("-", "--")


def _named(lvs: tuple[Lv, ...], name: str) -> Lv | None:
    return next((lv for lv in lvs if lv.name == name), None)


def _room(lvs: tuple[Lv, ...], lv: Lv) -> Room:
    pool = _named(lvs, lv.pool) if lv.thin else None
    if pool is None:
        return Room(lv.group_size, lv.group_free, needs_size=True)
    return Room(pool.size, int(pool.size * (1 - (pool.full or 0.0))), needs_size=False)
