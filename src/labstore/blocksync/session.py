"""A whole block sync between two places: one end here, the other here or on another machine, as often as it takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labstore.blocksync.channel import PATIENCE, Channel
from labstore.blocksync.ends import End, Meter
from labstore.blocksync.index import source_caches, target_index
from labstore.blocksync.messages import Committed, Complete, Hello, Welcome, limits_text, options_text
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import VERSION
from labstore.model.block_sync import DEFAULTS, UNLIMITED, Limits, Options, Place, Role, SyncResult
from labstore.reports.blocksync import HintLied, OtherVersion, SyncFailed
from labstore.system.piped import CannotStart, Piped

if TYPE_CHECKING:
    from labstore.blocksync.source import SourceEnd
    from labstore.blocksync.target import TargetEnd

TIDYING = 600.0
"""Seconds after a good copy in which the other end may put away what it read: to end it in the middle of that would
leave LVM's work half done."""
STATE_DIR = Path("/var/lib/labstore/blocksync")
CHILD = (sys.executable, "-I", "-m", "labstore.blocksync", "{state}")


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
    state: Path = STATE_DIR
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
        started, patience = time.monotonic(), 5.0
        try:
            peer = Piped(self._command(), _agent())
        except CannotStart as error:
            raise _unreachable(self._where, str(error)) from None
        channel = Channel(peer.reading, peer.writing, self.job.patience, peer.last_words)
        try:
            try:
                end = self._shaken(channel, options)
            except SyncFailed as failure:
                raise _never_begun(failure, channel, peer, self._where) from None
            end.run()
            committed, complete = end.committed, end.complete
            patience = TIDYING
        finally:
            self._end = None
            channel.close()
            peer.end(patience)
        return _result(channel, committed, complete, self.meter, options.block_size, time.monotonic() - started)

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

    def _shaken(self, channel: Channel, options: Options) -> SourceEnd | TargetEnd:
        """Shake hands, then be the end that is here."""
        job = self.job
        push = job.target.host is not None
        nonce = os.urandom(16).hex()
        role, path = (Role.TARGET, job.target.path) if push else (Role.SOURCE, job.source.path)
        channel.say(Hello(VERSION, nonce, role, path, options_text(options), limits_text(self._limits_now), job.label))
        end = (self._source if push else self._target)(channel, options)
        welcome = channel.hear(Welcome)
        if welcome.version != VERSION:
            raise SyncFailed(OtherVersion(VERSION, welcome.version))
        channel.open_session(nonce, welcome.nonce, are_caller=True)
        self._end = end
        if self._stopped is not None:
            end.interrupt(self._stopped)
        return end

    @property
    def _limits_now(self) -> Limits:
        return self._limits or self.job.limits

    def _source(self, channel: Channel, options: Options) -> SourceEnd:
        from labstore.blocksync.source import SourceEnd, SourceSpec  # noqa: PLC0415 - while the other end starts

        job = self.job
        spec = SourceSpec(job.source.path, options, source_caches(job.state), job.label, job.token)
        return SourceEnd(channel, spec, Throttle(self._limits_now), self.meter)

    def _target(self, channel: Channel, options: Options) -> TargetEnd:
        from labstore.blocksync.target import TargetEnd, TargetSpec  # noqa: PLC0415 - as above

        job = self.job
        spec = TargetSpec(job.target.path, options, target_index(job.state, job.target.path), allow=job.allow)
        return TargetEnd(channel, spec, Throttle(self._limits_now), self.meter)


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


def _never_begun(failure: SyncFailed, channel: Channel, peer: Piped, where: str | None) -> SyncFailed:
    from labstore.blocksync.reach import never_begun  # noqa: PLC0415 - as above

    return never_begun(failure, channel, peer, where)


def _agent() -> dict[str, str]:
    """What ssh needs of our environment to use keys that an agent holds."""
    return {name: os.environ[name] for name in ("SSH_AUTH_SOCK", "HOME") if name in os.environ}


def _result(
    channel: Channel, committed: Committed, complete: Complete, meter: Meter, block_size: int, seconds: float
) -> SyncResult:
    return SyncResult(
        generation=committed.generation,
        root=committed.root,
        passed=committed.passed,
        why=committed.why,
        size=meter.size,
        read=complete.read,
        changed=complete.changed,
        zeroed=complete.zeroed,
        sent=channel.sent,
        received=channel.received,
        scrubbed=committed.scrubbed,
        seconds=seconds,
        token=None if complete.torn else complete.token,
        read_back=committed.read_back,
        block_size=block_size,
        samples=complete.samples,
        torn=complete.torn,
        notes=complete.notes,
    )
