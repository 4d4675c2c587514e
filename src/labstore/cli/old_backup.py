"""What `snapshot-manager` and `block_sync` do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from labstore.backup.source_agent import room_for
from labstore.backup.source_nodes import ssh_words
from labstore.cli.backup_asked import when
from labstore.cli.backup_parts import snapshots_at
from labstore.cli.beside import interruptible, shown
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import told
from labstore.cli.snapshots import STATE, ensured, size_of
from labstore.model.backup_settings import LogicalVolume, LvmWord, Reach
from labstore.model.block_sync import Place
from labstore.model.names import HostName
from labstore.ports.block_engine import BlockEngine, Order
from labstore.ports.host import Command, CommandFailed, Host
from labstore.ports.snapshots import Snapshots
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import RunFailed, StorageFailed, TargetHeld, TargetMissing
from labstore.reports.blocksync import NoHelper, SyncFailed
from labstore.system import locks
from labstore.system.files import make_directory
from labstore.system.run import LocalHost
from labstore.telemetry import logs

LOCKS = Path("/run/lock")
KEY = Reach()
_DEADLINE = 600.0


def logged(debug: bool) -> None:
    logs.configure("debug" if debug else "warning")


# --- snapshot-manager ------------------------------------------------------------------------------------------------


def snapshot(action: str, name: str, volume: str, size: str, max_age: float) -> Exit:
    with told():
        made = snapshots_at(_volume(*volume.partition("/")[::2]), STATE)
        return {"status": _status, "create": _create, "remove": _remove}[action](made, name, size, max_age)


def _status(made: Snapshots, name: str, _size: str, _age: float) -> Exit:
    found = next((each for each in _there(made) if each.name == name), None)
    if found is None:
        return Exit.FAILED
    full = "" if found.full is None else f"{100 * found.full:.2f}"
    words = {"lv_name": found.name, "lv_path": found.path, "lv_size": found.room or found.size,
             "lv_time": when(found.created), "snap_percent": full}  # fmt: skip
    for key, value in sorted(words.items()):
        click.echo(f"{key}: {value}")
    return Exit.DONE


def _create(made: Snapshots, name: str, size: str, age: float) -> Exit:
    if ensured(made, _there(made), name, _bytes(size), age):
        return Exit.DONE
    click.echo(f"{name} exists and is younger than {age:.0f} s; --force replaces it", err=True)
    return Exit.FAILED


def _remove(made: Snapshots, name: str, _size: str, _age: float) -> Exit:
    made.remove(name)
    return Exit.DONE


def _there(made: Snapshots) -> tuple[Any, ...]:
    answer = made.snapshots()
    if isinstance(answer, Missing):
        raise Stop.because(Exit.HOLDING, [answer.report])
    return answer.value


def _bytes(text: str) -> int | None:
    try:
        return size_of(text)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write 500G, 1T") from None


def _volume(group: str, name: str) -> LogicalVolume:
    try:
        return LogicalVolume(LvmWord(group), LvmWord(name))
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write VG/LV") from None


# --- block_sync ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Far:
    """The source, on another machine."""

    host: str
    user: str
    group: str
    name: str
    snapshot: str


@dataclass(frozen=True)
class Here:
    """The target, on this machine, and the one generation of it that is kept."""

    group: str
    name: str
    snapshot: str
    size: str


def copy(source: Far, target: Here, engine_name: str = "labstore") -> Exit:
    """Lock, look, snapshot here, snapshot there, copy, tidy. The lock is the process's own (upstream #38)."""
    with told():
        engine, called = _engine(engine_name)
        far, here = _volume(source.group, source.name), _volume(target.group, target.name)
        made = OldCopy(source, target, far, here, snapshots_at(here, STATE), LocalHost(), engine, called=called)
        make_directory(LOCKS)
        lock = LOCKS / f"{source.group}_{source.name}_backup.lock"
        with locks.exclusive(lock, "block_sync"), interruptible(engine), shown(engine):
            made.run()
        click.echo(f"{here} is {far} of {source.host}; what was written was read back")
    return Exit.DONE


OURS = "nice -n 10 labstore blocksync serve --source {read} --label {label}"
"""What the other machine is asked to run; `read` is the device there."""
BDSYNC = "nice -n 10 bdsync --server"


def _engine(name: str) -> tuple[Any, str]:
    """What copies, and what it needs at the other end."""
    try:
        from labstore.blocksync.bdsync import Bdsync  # noqa: PLC0415 - needs the extra `backup`
        from labstore.blocksync.engine import OurEngine  # noqa: PLC0415 - as above
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None
    return (Bdsync(STATE / "bdsync"), BDSYNC) if name == "bdsync" else (OurEngine(STATE / "blocksync"), OURS)


@dataclass(frozen=True)
class OldCopy:
    """One copy in the original's order. Raises StepFailed."""

    source: Far
    target: Here
    far: LogicalVolume
    here: LogicalVolume
    snapshots: Snapshots
    host: Host
    engine: BlockEngine
    remote: Callable[[], tuple[str, ...]] = field(default=lambda: ssh_words(KEY))
    called: str = OURS

    def run(self) -> None:
        self._target_is_free()
        self._keep_previous()
        self._there("create", "--force", "--size", "1T")
        try:
            self.engine.sync(self._order())
        except SyncFailed as failure:
            report = failure.report
            raise StepFailed(RunFailed(str(self.far), report.message(), report.remedy() or "")) from failure
        self._there("remove")

    def _target_is_free(self) -> None:
        """Before anything is snapshotted (upstream #39)."""
        found = self.snapshots.volume()
        if isinstance(found, Missing):
            raise StepFailed(TargetMissing(str(self.far), found.report.message()))
        if found.value.holder is not None:
            raise StepFailed(TargetHeld(str(self.far), found.value.path, found.value.holder))

    def _keep_previous(self) -> None:
        """The generation before: only of a target that the last run brought to its end. One that was left half-written
        never takes the place of a good one."""
        there = _there(self.snapshots)
        if any(each.name == self.target.snapshot for each in there) and self.engine.complete(self.here.path) is None:
            return
        room = room_for(self.snapshots, _bytes(self.target.size))
        ensured(self.snapshots, there, self.target.snapshot, room, 0.0)

    def _there(self, action: str, *more: str) -> None:
        """Have the other machine take or remove the source's snapshot."""
        where = f"{self.source.user}@{HostName(self.source.host)}"
        words = ("snapshot-manager", action, LvmWord(self.source.snapshot), str(self.far), *more)
        try:
            self.host.run(Command.of(*self.remote(), "--", where, " ".join(words), deadline=_DEADLINE))
        except CommandFailed as error:
            raise StepFailed(StorageFailed(f"{where}: snapshot-manager {action}", str(error))) from error

    def _order(self) -> Order:
        read = LogicalVolume(self.far.group, LvmWord(self.source.snapshot)).path
        serve = self.called.format(read=read, label=self.far.name)
        place = Place(read, HostName(self.source.host), self.source.user)
        return Order(place, Place(self.here.path), str(self.far), remote=(*self.remote(), "--", "{host}", serve))
