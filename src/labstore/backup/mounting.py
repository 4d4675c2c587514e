"""Looking into generations: mounted read-only from a copy, for a time, never in the way of a job (upstream #39)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from labstore.formats.superblock import HEAD, content_of
from labstore.model.backup import GenerationName, RestoreMount
from labstore.model.backup_settings import JobName, Volume, volume
from labstore.ports.clock import Clock
from labstore.ports.host import Command, CommandFailed, Host
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import BookDamaged, MountHeld, MountOfNobody, StorageFailed
from labstore.reports.report import Report
from labstore.system import locks
from labstore.system.files import FileTooLarge, read_limited, write_atomic
from labstore.system.loop import as_device

PURPOSE = "mount"


@dataclass(frozen=True)
class RestoreMounts:
    """`book` is the file in which they stand, `root` the directory below which they are mounted. `target_of` gives the
    target of a job, None where there is no such job; `name_of` the snapshot that a generation is."""

    book: Path
    root: Path
    host: Host
    clock: Clock
    snapshots_of: Callable[[Volume], Snapshots]
    target_of: Callable[[JobName], Volume | None]
    name_of: Callable[[JobName, GenerationName], str]

    def found(self) -> Answer[tuple[RestoreMount, ...]]:
        """What stands in the book; Missing where it cannot be read or is damaged."""
        now = self.clock.now()
        try:
            return Fact(_rows(self.book), str(self.book), now)
        except _UNREADABLE as error:
            return Missing(self._damaged(error), str(self.book), now)

    def all(self) -> tuple[RestoreMount, ...]:
        """What stands in the book. Raises StepFailed."""
        answer = self.found()
        if isinstance(answer, Missing):
            raise StepFailed(answer.report)
        return answer.value

    def _damaged(self, error: Exception) -> Report:
        return BookDamaged(str(self.book), str(error) or type(error).__name__, str(self.root))

    def mount(self, job: JobName, generation: GenerationName, until: datetime) -> RestoreMount:
        """Mount a copy of a generation; one that is mounted already gets the new time. Raises StepFailed."""
        point = str(self.root / job / generation)
        with self._book() as standing:
            before = next((each for each in standing if each.point == point), None)
            if before is not None:
                standing.remove(before)
            if before is not None and Path(point).is_mount():
                made = replace(before, until=until)
            else:
                made, before = RestoreMount(job, generation, point, until, self.target_of(job)), None
            standing.append(made)
            self._write(standing)  # before it is true: what was mounted when we were killed is found and taken away
            if before is None:
                self._mount(made)
        return made

    def unmount(self, point: str) -> None:
        """That it is gone already is success. Raises StepFailed where somebody is in it."""
        with self._book() as standing:
            for each in [each for each in standing if each.point == point]:
                if Path(point).is_mount():
                    self._do("umount", point, held=point)
                self._snapshots(each).close_copy(self.name_of(each.job, each.generation), PURPOSE)
                with contextlib.suppress(OSError):
                    Path(point).rmdir()
                standing.remove(each)
            self._write(standing)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _mount(self, wanted: RestoreMount) -> None:
        device = self._snapshots(wanted).open_copy(self.name_of(wanted.job, wanted.generation), PURPOSE)
        try:
            with open(device, "rb") as file:  # noqa: PTH123 - a device path is text here
                content = content_of(file.read(HEAD))
            if content is None:
                raise StepFailed(StorageFailed(device, "it holds no file system that is known"))
            Path(wanted.point).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StepFailed(StorageFailed(device, error.strerror or str(error))) from error
        options = ["ro", "nodev", "nosuid", "noexec"]
        options += ["nouuid"] if content.kind == "xfs" else []
        try:
            with as_device(self.host, device) as there:
                self._do("mount", "-t", content.kind, "-o", ",".join(options), there, wanted.point)
        except (CommandFailed, OSError) as error:
            raise StepFailed(StorageFailed(device, str(error))) from error

    def _snapshots(self, mount: RestoreMount) -> Snapshots:
        """Where its copy is. Raises StepFailed."""
        target = mount.target or self.target_of(mount.job)
        if target is None:
            raise StepFailed(MountOfNobody(mount.job, mount.point, str(self.book)))
        return self.snapshots_of(target)

    def _do(self, *argv: str, held: str | None = None) -> None:
        try:
            self.host.run(Command.of(*argv, deadline=300.0))
        except CommandFailed as error:
            report = MountHeld(held, str(error)) if held else StorageFailed(argv[0], str(error))
            raise StepFailed(report) from error

    @contextlib.contextmanager
    def _book(self) -> Iterator[list[RestoreMount]]:
        try:
            self.book.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            with locks.exclusive(self.book.with_suffix(".lock"), "backup mounts"):
                yield list(self.all())
        except locks.Locked as error:
            raise StepFailed(StorageFailed("the book of mounts", str(error))) from error
        except OSError as error:
            raise StepFailed(StorageFailed(str(self.book), error.strerror or str(error))) from error

    def _write(self, standing: list[RestoreMount]) -> None:
        write_atomic(self.book, json.dumps([_written(each) for each in standing], indent=1).encode(), mode=0o640)


_UNREADABLE = (OSError, ValueError, LookupError, TypeError, FileTooLarge, RecursionError)


def _rows(book: Path) -> tuple[RestoreMount, ...]:
    """None stand in a book that is not there."""
    try:
        rows = json.loads(read_limited(book, 1 << 20))
    except FileNotFoundError:
        return ()
    return tuple(_row(row) for row in rows)


def _written(mount: RestoreMount) -> dict[str, str]:
    row = {"job": mount.job, "generation": mount.generation, "point": mount.point, "until": mount.until.isoformat()}
    return row if mount.target is None else row | {"target": str(mount.target)}


def _row(row: Mapping[str, str]) -> RestoreMount:
    until = datetime.fromisoformat(row["until"])
    if until.tzinfo is None:
        raise ValueError(f"{row['until']} has no time zone")
    target = volume(row["target"]) if "target" in row else None
    return RestoreMount(JobName(row["job"]), GenerationName(row["generation"]), str(row["point"]), until, target)
