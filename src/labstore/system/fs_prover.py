"""Showing that a device holds a file system that works: by checking it, mounting it and reading from it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from labstore.formats.superblock import HEAD, content_of
from labstore.model.backup_settings import ProofSettings
from labstore.ports.host import Command, CommandFailed, Host
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import StorageFailed
from labstore.system.beneath import open_beneath
from labstore.system.loop import as_device

CHECK_DEADLINE = 12 * 3600.0
_CANARY_LIMIT = 256
_LATER = 900.0
"""Seconds that may lie between the moment of a generation and its snapshot: a source is reached at the fifth try."""


class Failed(Exception):
    """One check failed; the text says what was found."""


@dataclass(frozen=True)
class FilesystemProver:
    """See ports.proving.Prover. `point` is a directory of our own, below which each copy has its place to be mounted:
    two jobs may be proven at once."""

    host: Host
    point: Path

    def clear(self, name: str) -> None:
        for place in self.point.glob(f"*{name}*"):
            try:
                while place.is_mount():
                    self.host.run(Command.of("umount", str(place), deadline=60.0))
                place.rmdir()
            except (CommandFailed, OSError) as error:
                raise StepFailed(StorageFailed(str(place), str(error))) from error

    def prove(
        self, device: str, settings: ProofSettings, moment: datetime, samples: Mapping[int, str], block_size: int
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        run = _Run(self.host, device, self.point / Path(device).name)
        if samples:
            run.one("sampled checksums", lambda: run.samples(samples, block_size))
        if settings.check:
            run.one("file system check", run.check)
        if settings.mount:
            run.one("mount", lambda: run.mounted(settings, moment))
        return run.held, run.failed


@dataclass
class _Run:
    host: Host
    device: str
    point: Path
    held: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def one(self, name: str, check: Callable[[], str]) -> None:
        try:
            self.held[name] = check()
        except (Failed, OSError, CommandFailed, ValueError, OverflowError) as error:
            self.failed[name] = str(error)[:400]

    def samples(self, samples: Mapping[int, str], block_size: int) -> str:
        """Before anything else, because replaying a journal changes blocks."""
        descriptor = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for block, expected in sorted(samples.items()):
                content = os.pread(descriptor, block_size, block * block_size)
                if hashlib.sha256(content).hexdigest() != expected:
                    raise Failed(f"block {block} is not what the source had")
        finally:
            os.close(descriptor)
        return f"{len(samples)} blocks are what the source had"

    def check(self) -> str:
        kind = self._kind()
        if kind in ("ext2", "ext3", "ext4"):
            self._run("e2fsck", "-y", "-E", "journal_only", self.device, fine={0, 1})
            self._run("e2fsck", "-f", "-n", self.device)
        elif kind == "xfs":
            with self._mount("xfs", "nouuid"):
                pass  # replays the log
            self._run("xfs_repair", "-n", self.device)
        else:
            raise Failed(f"it holds {kind or 'no file system that is known'}")
        return f"{kind} is clean"

    def mounted(self, settings: ProofSettings, moment: datetime) -> str:
        kind = self._kind()
        if kind is None:
            raise Failed("it holds no file system that is known")
        with self._mount(kind, *(("nouuid",) if kind == "xfs" else ())):
            names = sum(1 for _ in self.point.iterdir())
            if settings.canary is not None:
                age = (moment - self._canary(settings.canary)).total_seconds()
                written = f"written {abs(age):.0f} s {'before' if age >= 0 else 'after'} the backup was begun"
                if not -_LATER <= age <= settings.canary_age:
                    raise Failed(f"the canary {settings.canary} was {written}")
                self.held["canary"] = written
        return f"{kind} mounts, with {names} names at its root"

    def _canary(self, path: str) -> datetime:
        """The time that the canary holds. The tree is somebody else's: no link in it is followed."""
        folder = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *parents, name = path.strip("/").split("/")
            for parent in parents:
                inner = open_beneath(folder, parent, os.O_RDONLY | os.O_DIRECTORY)
                os.close(folder)
                folder = inner
            file = open_beneath(folder, name, os.O_RDONLY)
            try:
                text = os.read(file, _CANARY_LIMIT).decode("ascii", "replace").strip()
            finally:
                os.close(file)
        finally:
            os.close(folder)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise Failed(f"the canary {path} holds no time: write it beside, and move it into place") from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @contextlib.contextmanager
    def _mount(self, kind: str, *more: str) -> Iterator[None]:
        self.point.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = ",".join(("ro", "nodev", "nosuid", "noexec", *more))
        with as_device(self.host, self.device) as device:
            self._run("mount", "-t", kind, "-o", options, device, str(self.point), deadline=600.0)
        try:
            yield
        finally:
            self._run("umount", str(self.point), deadline=60.0)
            with contextlib.suppress(OSError):
                self.point.rmdir()

    def _kind(self) -> str | None:
        with open(self.device, "rb") as file:  # noqa: PTH123 - a device path is text here
            found = content_of(file.read(HEAD))
        return found.kind if found else None

    def _run(self, *argv: str, fine: set[int] | None = None, deadline: float = CHECK_DEADLINE) -> None:
        done = self.host.run(Command.of(*argv, deadline=deadline), expect=None)
        if done.status not in (fine or {0}):
            said = [*done.stdout.strip().splitlines(), *done.stderr.strip().splitlines()][-2:]
            raise Failed(f"{argv[0]} ended with status {done.status}: {'; '.join(said)}")
