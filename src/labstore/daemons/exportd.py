"""The exports daemon: serve what was last known good, then follow the inventory, cycle by cycle.

It holds the cluster's lock during a cycle only, so that `labstore exports apply` gets its turn, and a lock of its own
for as long as it lives, so that everybody can tell whether it does.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import random
from typing import Any

from labstore.assembly import ExportsRoom, StateElsewhere, alive_file, exports_lock, history_file
from labstore.daemons.base import Defect, Ending, Flags, listen
from labstore.exports.cycle import ExportCycle
from labstore.exports.history import Pin
from labstore.model.cloud import Instance, Presence
from labstore.model.site import InventoryKind, Site
from labstore.ports.inventory import Inventory, Snapshot
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.loop import Pace
from labstore.reconcile.record import Outcome, Record, State
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Override, Report, Severity
from labstore.reports.state import StateUnusable
from labstore.system.files import make_directory
from labstore.system.locks import Locked, exclusive
from labstore.system.log import Logger
from labstore.system.notify import Supervisor
from labstore.telemetry import records
from labstore.telemetry.logs import CycleLog
from labstore.telemetry.metrics import ExportMetrics
from labstore.telemetry.records import Kept
from labstore.telemetry.status import judged

log = Logger()

NAME = "labstore-exportd"
SLOWEST = 30.0
"""Seconds between cycles at most, while the server refuses what it is told."""
TURN = 10.0
"""Seconds for which a cycle waits for whoever holds the cluster's lock."""
DEFECTS = 3
"""So many cycles in a row may end in a defect; then the supervisor is to start the daemon afresh."""
PRUNE = 3600.0
EXPORTFS = 1000.0
"""Seconds that telling the server may take, twice over: a cycle that takes longer hangs."""


class WaitingForLock(Report):
    holder: str

    code = "waiting-for-lock"

    def message(self) -> str:
        return f"exports are not looked at: {self.holder}"

    def remedy(self) -> str:
        return "let it end; it is tried again by itself"


class NotMountedHere(Report):
    volume: str
    found: str

    code = "state-not-mounted-here"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"volume {self.volume}, on which the exports are remembered, is {self.found}: another node serves"


class Interruptible:
    """An inventory whose answers are not waited for once the end was asked for."""

    def __init__(self, inventory: Inventory, flags: Flags) -> None:
        self._inventory, self._flags = inventory, flags

    def listing(self) -> Snapshot:
        with self._flags.interruptible():
            return self._inventory.listing()

    def changes(self, last: Snapshot) -> Snapshot:
        with self._flags.interruptible():
            return self._inventory.changes(last)

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        with self._flags.interruptible():
            return self._inventory.confirm(instances)


def serve(room: ExportsRoom, once: bool = False, overrides: frozenset[Override] = frozenset()) -> State | None:
    """Run the daemon in the foreground until it is told to stop; the state of the one cycle with `once`, FAILED after
    too many defects, None after an orderly end. Raises what ExportDaemon.run raises."""
    flags = Flags(wake=room.clock.wake)
    room.wrap = lambda inventory: Interruptible(inventory, flags)
    daemon = ExportDaemon(room, flags, overrides=overrides)
    if once:
        try:
            return daemon.once().state
        except Ending:
            return State.FAILED
    metrics = ExportMetrics()
    daemon.seen = metrics.seen
    daemon.notes = listen(room.source().metrics, metrics.registry)
    return State.FAILED if daemon.run() else None


@dataclass
class ExportDaemon:
    """Runs the cycles of one room. `seen` is told of every record as it is kept; `notes` stand in every one."""

    room: ExportsRoom
    flags: Flags
    supervisor: Supervisor = field(default_factory=Supervisor)
    seen: Callable[[Kept], None] = lambda _kept: None
    overrides: frozenset[Override] = frozenset()
    chance: Callable[[], float] = random
    notes: tuple[Report, ...] = ()
    _followed: tuple[Site, Pin | None] | None = field(default=None, init=False)
    _active: bool = field(default=False, init=False)
    _full: bool = field(default=False, init=False)
    _defects: int = field(default=0, init=False)
    _troubles: int = field(default=0, init=False)
    _kept: Kept | None = field(default=None, init=False)
    _log: CycleLog = field(default_factory=CycleLog, init=False)
    _beat: float = field(default=0.0, init=False)
    _patience: float = field(default=0.0, init=False)
    _pruned: float = field(default=0.0, init=False)

    def run(self) -> int:
        """Cycle until a signal says stop; 0 then, 1 after too many defects in a row. Raises Locked where another daemon
        is at work, and what putting the room together raises."""
        site = self.room.source()
        path = alive_file(site, self.room.cluster)
        make_directory(path.parent)
        with exclusive(path, NAME), self.flags.installed():
            self._pulse()
            self._begin()
            over = self.supervisor.watch(self._well)
            self.supervisor.tell(READY="1", STATUS="serving what was last known good; asking the inventory")
            log.info("ready", cluster=self.room.cluster, who=self.room.who)
            status = self._loop()
            self.supervisor.tell(STOPPING="1", STATUS="stopping")
            over()
            self._leave()
        return status

    def once(self) -> Record:
        """Serve first, then one cycle."""
        with self.flags.installed():
            self._begin()
            record = self._cycle()
            self._keep(record, None)
            self._log.seen(record)
        return record

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        while not self.flags.stopping:
            self._reload()
            try:
                record = self._cycle()
            except Ending:
                break
            wait = self._wait(record)
            self._keep(record, wait)
            self._log.seen(record, wait)
            if self._defects >= DEFECTS:
                log.error("too many defects in a row; the supervisor is to start this daemon afresh")
                return 1
            if not self.flags.stopping:
                self.room.clock.sleep(wait)
        log.info("stopping", cluster=self.room.cluster)
        return 0

    def _reload(self) -> None:
        if self.flags.reloading:
            self.flags.reloading = False
            taken = self.room.source.reload()
            self._full = True
            log.info("read the site again, as asked", taken=taken)

    def _wait(self, record: Record) -> float:
        """A server that refuses or a full state directory is not pressed; one project's trouble slows nobody."""
        failed = any(result.outcome is Outcome.FAILED for result in record.results)
        troubled = failed or (record.state is State.FAILED and "looked" not in record.facts)
        self._troubles = self._troubles + 1 if troubled else 0
        return Pace(self.room.source().exports.poll, SLOWEST).wait(self._troubles, self.chance())

    # --- one cycle --------------------------------------------------------------------------------------------------

    def _cycle(self) -> Record:
        """One cycle, whatever happens in it. Raises Ending."""
        self._pulse()
        started = self.room.clock.now()
        try:
            record = self._guarded_cycle()
            record = replace(record, reports=(*record.reports, *self.notes))
        except Locked as error:
            return self._instead(started, State.HOLDING, WaitingForLock(str(error)))
        except StateElsewhere as error:
            self._active = False
            return self._instead(started, State.STANDBY, NotMountedHere(error.volume, error.found))
        except (sqlite3.Error, OSError) as error:
            return self._without_state(started, error)
        except Exception as error:  # noqa: BLE001 - recorded with its traceback; after three in a row the process ends
            return self._defect(started, error)
        finally:
            self._pulse()
        self._defects, self._full = 0, False
        return record

    def _guarded_cycle(self) -> Record:
        cycle = self.room.cycle()
        with exports_lock(self.room.source(), self.room.cluster, NAME, TURN, self._pause):
            if not self._active:
                self._serve_first(cycle)
            cycle.number = max(cycle.number, self._kept.number if self._kept else 0)
            record = self._follow(cycle)
            self._active = record.state is not State.STANDBY
            if self._active:
                self._prune(cycle)
            else:
                self.room.close()  # a volume that is about to be unmounted is not held
        return record

    def _follow(self, cycle: ExportCycle) -> Record:
        """One cycle, in whose generation stands what made it."""
        site, pin = self.room.source(), cycle.observer.history.pin()
        pin = pin if pin is not None and pin.until > self.room.clock.now() else None
        record = cycle.run(_because(self._followed, site, pin), self._full, self.overrides)
        if record.state is not State.FAILED:
            self._followed = (site, pin)
        return record

    def _begin(self) -> None:
        """Before anything outside is asked: what was last known good is served (DESIGN law 3)."""
        try:
            cycle = self.room.cycle()
            with exports_lock(self.room.source(), self.room.cluster, NAME, TURN, self._pause):
                self._serve_first(cycle)
        except (Ending, StateElsewhere):
            pass  # the loop sees it
        except Locked as error:
            log.error("what was last known good could not be looked at first", reason=str(error))
        except (sqlite3.Error, OSError) as error:
            log.error("what is on file is served without the history", reason=str(error))
            self._serve_files()

    def _without_state(self, started: datetime, error: sqlite3.Error | OSError) -> Record:
        """A full disk or a broken history costs changes, not service: what the server's files say stays served."""
        self.room.close()
        figures = self._serve_files()
        return self._instead(started, State.FAILED, self._unusable(error), figures)

    def _unusable(self, error: sqlite3.Error | OSError) -> StateUnusable:
        if isinstance(error, OSError):
            return StateUnusable(str(error.filename or "a file"), error.strerror or str(error))
        return StateUnusable(str(history_file(self.room.source(), self.room.cluster)), str(error))

    def _serve_files(self) -> dict[str, Any]:
        """Serve what is on file, which needs no history; figures of what that is."""
        try:
            with exports_lock(self.room.source(), self.room.cluster, NAME, TURN, self._pause):
                served = self.room.serve_files()
        except StepFailed as failure:
            log.error(failure.report.message(), code=failure.report.code, remedy=failure.report.remedy())
            return {}
        except (Locked, OSError) as error:
            log.error("what is on file could not be looked at", reason=str(error))
            return {}
        if isinstance(served, Missing):
            return {}
        stored, running = served.value.stored, served.value.running
        return {"served_exports": len(stored), "served_clients": stored.clients, "running": running}

    def _serve_first(self, cycle: ExportCycle) -> None:
        """Nothing on a standby node; there it is done when the node becomes active."""
        role = cycle.observer.role()
        if isinstance(role, Fact) and not role.value:
            return
        try:
            applied = cycle.serve_first()
        except StepFailed as failure:
            log.error(failure.report.message(), code=failure.report.code, remedy=failure.report.remedy())
            return
        self._active = True
        for report in (result.report for result in applied.results if result.report):
            log.error(report.message(), code=report.code, remedy=report.remedy())
        log.info("serving what was last known good", generation=applied.generation, calls=applied.calls)

    def _prune(self, cycle: ExportCycle) -> None:
        now = self.room.clock.monotonic()
        if now - self._pruned >= PRUNE:
            self._pruned = now
            cycle.observer.history.prune(self.room.source().exports.keep_generations)

    def _defect(self, started: datetime, error: Exception) -> Record:
        self._defects += 1
        log.error("a defect ended the cycle", exc_info=error, in_a_row=self._defects)
        where = f"{NAME}, cycle {self._kept.number + 1 if self._kept else 1}"
        self.room.close()
        return self._instead(started, State.FAILED, Defect(where, f"{type(error).__name__}: {error}"[:500]))

    def _instead(
        self, started: datetime, state: State, report: Report, figures: Mapping[str, Any] | None = None
    ) -> Record:
        """The record of a cycle that did not come to its own."""
        facts: dict[str, Any] = {"cluster": self.room.cluster}
        if self._kept is not None:
            facts |= {key: value for key, value in self._kept.facts.items() if key in records.LASTING}
        facts |= figures or {}
        number = self._kept.number + 1 if self._kept else 1
        reports = (report, *self.room.source.concerns(), *self.notes)
        return Record("exports", number, started, self.room.clock.now(), state, facts, reports=reports)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _keep(self, record: Record, wait: float | None) -> None:
        site = self.room.source()
        due = None if wait is None else record.ended + timedelta(seconds=wait + longest_cycle(site))
        self._kept = records.kept(record, self.room.cluster, self.room.node, self.room.who, due, self._kept)
        try:
            records.write(site.run_dir, self._kept)
        except OSError as error:
            log.error("the record could not be written", reason=str(error))
        self.seen(self._kept)
        self.supervisor.tell(STATUS=judged(self._kept, record.ended).headline)

    def _leave(self) -> None:
        """The last record stays, and no other is to come."""
        if self._kept is not None:
            with contextlib.suppress(OSError):
                records.write(self.room.source().run_dir, replace(self._kept, due=None))
        self.room.close()

    def _pulse(self) -> None:
        self._patience = 2 * (longest_cycle(self.room.source()) + EXPORTFS)
        self._beat = self.room.clock.monotonic()

    def _well(self) -> bool:
        """Whether the main thread gets on. Asking and telling have deadlines of their own; this is past all of them."""
        return self.room.clock.monotonic() - self._beat < self._patience

    def _pause(self, seconds: float) -> None:
        if self.flags.stopping:
            raise Ending
        self.room.clock.sleep(seconds)


def _because(followed: tuple[Site, Pin | None] | None, site: Site, pin: Pin | None) -> str:
    """What a change is put down to: what is otherwise than when a cycle last went well."""
    if pin is not None:
        return f"generation {pin.generation} is pinned by {pin.who}: {pin.why}"
    if followed is None:
        return "the first look after a start"
    before, pinned = followed
    if pinned is not None:
        return f"the pin of generation {pinned.generation} is over"
    return "the inventory changed" if before == site else "the site file changed"


def longest_cycle(site: Site) -> float:
    """Seconds that a cycle may take to ask before something is wrong."""
    if site.inventory.source is InventoryKind.FILE:
        return 30.0
    return 30.0 + site.inventory.openstack.listing_deadline
