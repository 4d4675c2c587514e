"""A whole block sync between two places: one end here, the other here or on another machine, as often as it takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labstore.blocksync.meter import Meter
from labstore.model.block_sync import DEFAULTS, PATIENCE, STATE_DIR, UNLIMITED, Limits, Options, Place, SyncResult
from labstore.reports.blocksync import HintLied, SyncFailed
from labstore.system.piped import CannotStart, Piped

if TYPE_CHECKING:
    from labstore.blocksync.ends import End

TIDYING = 600.0
"""Seconds after a good copy in which the other end may put away what it read: to end it in the middle of that would
leave LVM's work half done."""
CHILD = (sys.executable, "-I", "-m", "labstore.blocksync", "--state", "{state}")


@dataclass(frozen=True)
class Job:
    """What to sync and how. `here` and `there` are the command lines of the other end: as a child of ours, and over
    ssh (where `{host}` stands for the machine). `label` names the source's volume where its path is a snapshot's.
    `token` names the moment that a local source stands for, where the caller knows that better than the device.
    `allow`: see ports.block_engine.Order."""

    source: Place
    target: Place
    options: Options = DEFAULTS
    limits: Limits = UNLIMITED
    state: Path = Path(STATE_DIR)
    label: str = ""
    token: str | None = None
    here: tuple[str, ...] = CHILD
    there: tuple[str, ...] = ()
    attempts: int = 5
    patience: float = PATIENCE
    allow: Callable[[int], int] | None = None


@dataclass
class Run:
    """A job at work. `meter` shows how far it is; `set_limits` and `interrupt` may be called from other threads."""

    job: Job
    meter: Meter = field(default_factory=Meter)
    pause: Callable[[float], None] = time.sleep
    _end: End | None = field(default=None, init=False)
    _limits: Limits | None = field(default=None, init=False)
    _stopped: str | None = field(default=None, init=False)

    def result(self) -> SyncResult:
        """Do it. Raises SyncFailed when it failed for good."""
        if self.job.source.host and self.job.target.host:
            raise ValueError("one of the two places has to be on this machine")
        options, notes, started = self.job.options, list[str](), time.monotonic()
        for attempt in range(1, self.job.attempts + 1):
            try:
                done = self._attempt(options)
                return replace(done, attempts=attempt, notes=(*notes, *done.notes), seconds=time.monotonic() - started)
            except SyncFailed as failure:
                if attempt == self.job.attempts or not _worth_another(failure, self._stopped):
                    raise _said_to_caller(failure, options) from None
                notes.append(failure.report.message())
                if isinstance(failure.report, HintLied):
                    options = replace(options, hints=None)
                if not getattr(failure.report, "at_once", False):
                    self.meter.phase = f"waiting to try again ({attempt + 1} of {self.job.attempts})"
                    self.pause(min(2.0 ** (attempt - 1), 30.0))
        raise AssertionError("the last attempt returns or raises")

    def interrupt(self, why: str) -> None:
        self._stopped, end = why, self._end
        if end is not None:
            end.interrupt(why)

    def set_limits(self, limits: Limits) -> None:
        self._limits, end = limits, self._end
        if end is not None:
            end.set_limits(limits, tell=True)

    def _attempt(self, options: Options) -> SyncResult:
        patience = 5.0
        try:
            peer = Piped(self._command(), _agent())
        except CannotStart as error:
            raise _unreachable(self._where, str(error)) from None
        try:
            from labstore.blocksync.calling import call  # noqa: PLC0415 - while the other end starts

            done = call(self.job, options, self._limits or self.job.limits, peer, self.meter, self._where, self._begun)
            patience = TIDYING
        finally:
            self._end = None
            peer.end(patience)
        return done

    def _begun(self, end: End) -> None:
        self._end = end
        if self._limits is not None:
            end.set_limits(self._limits, tell=True)
        if self._stopped is not None:
            end.interrupt(self._stopped)

    @property
    def _where(self) -> str | None:
        """The other machine."""
        host, user = self.job.source.host or self.job.target.host, self.job.source.user or self.job.target.user
        return f"{user}@{host}" if user else host

    def _command(self) -> Sequence[str]:
        where = self._where
        if where is None:
            return [str(self.job.state) if word == "{state}" else word for word in self.job.here]
        return [where if word == "{host}" else word for word in self.job.there]


def _worth_another(failure: SyncFailed, stopped: str | None) -> bool:
    return stopped is None and getattr(failure.report, "passing", False)


def _said_to_caller(failure: SyncFailed, options: Options) -> SyncFailed:
    """A refusal of the other end, though we permitted it: then its forced command does not."""
    permit = getattr(failure.report, "permit", None)
    if not failure.told or permit not in options.permits:
        return failure
    from labstore.reports.blocksync_reach import PermitWithheld  # noqa: PLC0415 - only where it went wrong

    return SyncFailed(PermitWithheld(failure.report.message(), str(permit)), told=True)


def _unreachable(where: str | None, what: str) -> SyncFailed:
    from labstore.reports.blocksync_reach import CannotReach  # noqa: PLC0415 - as above

    return SyncFailed(CannotReach(where or "the other end", what))


def _agent() -> dict[str, str]:
    """What ssh needs of our environment to use keys that an agent holds."""
    return {name: os.environ[name] for name in ("SSH_AUTH_SOCK", "HOME") if name in os.environ}
