"""The accounts daemon: one cycle after the other, at once when something changed in the directory or in the ledger.

It lets commands of this machine have their turn between cycles, leads by a lease in the ledger, and holds a lock of its
own for as long as it lives, so that everybody can tell whether it does. Beside it a governor ends what is over a limit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import random

from labstore.assembly_dbusers import AccountsRoom, alive_file
from labstore.daemons.base import Defect, Flags, listen
from labstore.dbusers import assemble
from labstore.dbusers.cycle import DbCycle
from labstore.dbusers.governor import Governor
from labstore.model.dbusers_settings import DbusersSettings, LdapSettings
from labstore.model.site import MetricsSettings
from labstore.ports.ledger import LedgerFailed
from labstore.reconcile.loop import Pace
from labstore.reconcile.record import Record, State
from labstore.reports.report import Override, Report
from labstore.reports.state import StateUnusable
from labstore.system.files import make_directory
from labstore.system.locks import exclusive
from labstore.system.log import Logger
from labstore.system.notify import Supervisor
from labstore.telemetry import records
from labstore.telemetry.dbusers_metrics import AccountMetrics
from labstore.telemetry.logs import CycleLog
from labstore.telemetry.records import Kept
from labstore.telemetry.status import judged

log = Logger()

NAME = "labstore-dbusersd"
DEFECTS = 3
"""So many cycles in a row may end in a defect; then the supervisor is to start the daemon afresh."""
LOOK = 1.0
"""Seconds between two looks at whether somebody left a word in the ledger."""
REST = 0.3
"""Seconds between two cycles at least, however often the doorbell rings."""
SLOWEST = 300.0
"""Seconds between cycles at most, while the ledger does not work."""
LONGEST = 3600.0
"""Seconds after which a cycle hangs: everything in it has deadlines, and a first one has many accounts to make."""


def serve(room: AccountsRoom, once: bool = False, overrides: frozenset[Override] = frozenset()) -> State | None:
    """Run the daemon in the foreground until it is told to stop; the state of the one cycle with `once`, FAILED after
    too many defects, None after an orderly end. Raises Locked where another daemon is at work."""
    daemon = AccountsDaemon(room, Flags(wake=room.clock.wake), overrides=overrides)
    if once:
        return daemon.once().state
    metrics = AccountMetrics()
    daemon.seen = metrics.seen
    settings = room.settings
    if settings.metrics_port is not None:
        daemon.notes = listen(MetricsSettings(settings.metrics_host, settings.metrics_port), metrics.registry)
    return State.FAILED if daemon.run() else None


@dataclass
class AccountsDaemon:
    """Runs the cycles of the room. `seen` is told of every record as it is kept; `notes` stand in every one."""

    room: AccountsRoom
    flags: Flags
    supervisor: Supervisor = field(default_factory=Supervisor)
    seen: Callable[[Kept], None] = lambda _kept: None
    overrides: frozenset[Override] = frozenset()
    chance: Callable[[], float] = random
    notes: tuple[Report, ...] = ()
    _cycle: DbCycle | None = field(default=None, init=False)
    _governor: Governor | None = field(default=None, init=False)
    _quiet: Callable[[], None] = field(default_factory=lambda: _nothing, init=False)
    _rung: bool = field(default=False, init=False)
    _version: int | None = field(default=None, init=False)
    _defects: int = field(default=0, init=False)
    _troubles: int = field(default=0, init=False)
    _kept: Kept | None = field(default=None, init=False)
    _log: CycleLog = field(default_factory=CycleLog, init=False)
    _beat: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.room.parting = self._let_go

    def run(self) -> int:
        """Cycle until a signal says stop; 0 then, 1 after too many defects in a row. Raises Locked."""
        path = alive_file(self.room.source())
        make_directory(path.parent)
        with exclusive(path, NAME), self.flags.installed():
            self._pulse()
            over = self.supervisor.watch(self._well)
            self.supervisor.tell(READY="1", STATUS="looking for the first time")
            log.info("ready", site=self.room.name, who=self.room.who)
            status = self._loop()
            self.supervisor.tell(STOPPING="1", STATUS="stopping")
            over()
            self._leave()
        return status

    def once(self) -> Record:
        """One cycle."""
        with self.flags.installed():
            self._follow(self.room.patient(60.0), beside=False)
            record = self._one()
            self._keep(record, None)
            self._log.seen(record)
            self._leave()
        return record

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _loop(self) -> int:
        while not self.flags.stopping:
            if self.flags.reloading:
                self.flags.reloading = False
                log.info("read the site again, as asked", taken=self.room.source.reload())
            record = self._one()
            wait = self._wait(record)
            self._keep(record, wait)
            self._log.seen(record, wait)
            if self._defects >= DEFECTS:
                log.error("too many defects in a row; the supervisor is to start this daemon afresh")
                return 1
            self._doze(wait)
        log.info("stopping", site=self.room.name)
        return 0

    def _wait(self, record: Record) -> float:
        """A ledger that does not work is not pressed; a server's trouble slows nobody."""
        troubled = record.state is State.FAILED and "hosts" not in record.facts
        self._troubles = self._troubles + 1 if troubled else 0
        interval = self.room.settings.pacing.interval
        return Pace(interval, max(SLOWEST, interval)).wait(self._troubles, self.chance())

    def _doze(self, wait: float) -> None:
        """Until the next cycle is due, the doorbell rings, or somebody leaves a word in the ledger."""
        clock = self.room.clock
        begun = clock.monotonic()
        while not (self.flags.stopping or self.flags.reloading):
            now = clock.monotonic()
            if now >= begun + wait or (now >= begun + REST and (self._rung or self._asked())):
                return
            soon = begun + REST - now if now < begun + REST else LOOK
            clock.sleep(min(soon, begun + wait - now))

    def _asked(self) -> bool:
        """Whether the ledger is another one than this daemon left."""
        if self._version is None or self._cycle is None:
            return False
        try:
            return self._cycle.observer.ledger.read().version != self._version
        except LedgerFailed:
            self._version = None  # the next cycle says what is wrong with it
            return False

    def _ring(self) -> None:
        """From another thread."""
        self._rung = True
        self.room.clock.wake()

    # --- one cycle --------------------------------------------------------------------------------------------------

    def _one(self) -> Record:
        """One cycle, whatever happens in it."""
        self._pulse()
        self._rung = False
        started = self.room.clock.now()
        try:
            cycle = self.room.cycle() if self._cycle is None or not self.flags.stopping else self._cycle
            self._follow(cycle)
            cycle.number = max(cycle.number, self._kept.number if self._kept else 0)
            record = cycle.run(self.overrides)
            self._version = self._seen_version(cycle, record)
        except OSError as error:
            report = StateUnusable(str(error.filename or "a file"), error.strerror or str(error))
            record = Record("dbusers", self._number(), started, self.room.clock.now(), State.FAILED, reports=(report,))
        except Exception as error:  # noqa: BLE001 - recorded with its traceback; after three in a row the process ends
            return self._defect(error)
        finally:
            self._pulse()
        self._defects = 0
        return replace(record, reports=(*record.reports, *self.room.source.concerns(), *self.notes))

    def _seen_version(self, cycle: DbCycle, record: Record) -> int | None:
        """What the ledger was like at the end of a cycle of the leader; others need no word."""
        if record.state is State.STANDBY or "hosts" not in record.facts:
            return None
        try:
            return cycle.observer.ledger.read().version
        except LedgerFailed:
            return None

    def _follow(self, cycle: DbCycle, beside: bool = True) -> None:
        """Doorbell and governor belong to one cycle's settings."""
        if cycle is self._cycle:
            return
        self._let_go()
        self._cycle = cycle
        if beside:
            self._quiet = cycle.observer.directory.listen(self._ring)
            self._governor = assemble.governor(cycle)
            self._governor.start()

    def _defect(self, error: Exception) -> Record:
        self._defects += 1
        now = self.room.clock.now()
        log.error("a defect ended the cycle", exc_info=error, in_a_row=self._defects)
        report = Defect(f"{NAME}, cycle {self._number()}", f"{type(error).__name__}: {error}"[:500])
        reports = (report, *self.room.source.concerns(), *self.notes)
        self.room.close()
        return Record("dbusers", self._number(), now, now, State.FAILED, reports=reports)

    def _number(self) -> int:
        return self._kept.number + 1 if self._kept else 1

    # --- telling ----------------------------------------------------------------------------------------------------

    def _keep(self, record: Record, wait: float | None) -> None:
        due = None if wait is None else record.ended + timedelta(seconds=wait + longest_cycle(self.room.settings))
        self._kept = records.kept(record, self.room.name, self.room.node, self.room.who, due, self._kept)
        try:
            records.write(self.room.source().run_dir, self._kept)
        except OSError as error:
            log.error("the record could not be written", reason=str(error))
        self.seen(self._kept)
        self.supervisor.tell(STATUS=judged(self._kept, record.ended).headline)

    def _let_go(self) -> None:
        self._quiet()
        self._quiet = _nothing
        if self._governor is not None:
            self._governor.stop()
            self._governor = None
        self._cycle = None

    def _leave(self) -> None:
        """The last record stays, and no other is to come; another machine may lead at once."""
        if self._kept is not None:
            with contextlib.suppress(OSError):
                records.write(self.room.source().run_dir, replace(self._kept, due=None))
        if self._cycle is not None:
            with contextlib.suppress(LedgerFailed):
                self._cycle.resign()
        self.room.close()

    def _pulse(self) -> None:
        self._beat = self.room.clock.monotonic()

    def _well(self) -> bool:
        """Whether the main thread gets on."""
        return self.room.clock.monotonic() - self._beat < LONGEST + SLOWEST


def _nothing() -> None:
    """No doorbell to be ended."""


def longest_cycle(settings: DbusersSettings) -> float:
    """Seconds that a cycle may take before something is wrong, once all accounts are there."""
    directory = settings.directory.deadline if isinstance(settings.directory, LdapSettings) else 30.0
    return directory + settings.pacing.patience + 2 * settings.pacing.work_patience + 60.0
