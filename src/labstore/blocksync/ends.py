"""What both ends of a block sync have in common: a crew of threads around a channel, and how they end."""

from __future__ import annotations

import contextlib
import threading
import time

from labstore.blocksync.channel import Channel
from labstore.blocksync.crew import Crew, Stopped
from labstore.blocksync.messages import FaultSaid, LimitsNow, limits_of, limits_text
from labstore.blocksync.meter import Meter
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import BadFrame, Kind
from labstore.model.block_sync import Limits
from labstore.reports.blocksync import BrokenProtocol, Interrupted, PeerLost, SyncFailed

PING = 10.0
"""Seconds of silence after which the other end is told that we are still there."""


class End:
    """One end at work, in the thread that calls `run`. Whatever it starts ends with it."""

    def __init__(self, channel: Channel, throttle: Throttle, meter: Meter) -> None:
        self.channel, self.throttle, self.meter = channel, throttle, meter
        self.crew, self.held = Crew(), contextlib.ExitStack()
        self._telling = threading.Lock()
        self._listening = False
        self._untold: Limits | None = None
        self.crew.ends_with(channel.stop)
        throttle.pause = channel.grace = self.crew.pause

    def run(self) -> None:
        """Do all of it. However it fails, all threads end, the other end is told why, what can be saved is saved, and
        the first failure is raised (SyncFailed; anything else is a defect)."""
        with self.held:
            error = self._run()
            if error is not None:
                self._tell(error)
                self._salvage(error)
                raise error

    def _run(self) -> BaseException | None:
        self.crew.start("alive", self._keep_alive)
        error: BaseException | None = None
        try:
            self._work()
        except Stopped:
            error = SyncFailed(Interrupted("stopped"))
        except BaseException as failure:  # noqa: BLE001 - raised by run(), when everything else has ended
            error = failure
        self.crew.stop(error)
        self.crew.wait()
        return self.crew.error

    def interrupt(self, why: str) -> None:
        """End soon and orderly. Safe in a signal handler: the locks that are needed are taken elsewhere."""
        failure = SyncFailed(Interrupted(why))
        threading.Thread(target=self.crew.stop, args=(failure,), daemon=True).start()

    def set_limits(self, limits: Limits, tell: bool) -> None:
        """From now on, here and (`tell`) at the other end, as soon as that listens."""
        self.throttle.set(limits)
        if tell:
            with self._telling:
                self._untold = limits
                self._tell_limits()

    def other_listens(self) -> None:
        """The other end has come so far that new limits may be told to it."""
        with self._telling:
            self._listening = True
            self._tell_limits()

    def _tell_limits(self) -> None:
        if self._listening and self._untold is not None:
            with contextlib.suppress(SyncFailed, Stopped):  # the threads of the end find that out themselves
                self.channel.say(LimitsNow(limits_text(self._untold)))
            self._untold = None

    def _work(self) -> None:
        """The end's own part. What it opens it enters into `held`, which is closed when all is over."""
        raise NotImplementedError

    def _salvage(self, error: BaseException) -> None:
        """What can still be done after a failure; nothing else is running any more."""

    def told_limits(self, message: LimitsNow) -> None:
        try:
            self.throttle.set(limits_of(message.limits))
        except BadFrame as error:
            raise SyncFailed(BrokenProtocol(str(error))) from None

    def _tell(self, error: BaseException) -> None:
        if not isinstance(error, SyncFailed):
            self.channel.farewell(FaultSaid.of(PeerLost(f"a defect: {type(error).__name__}")))
        elif not error.told and not isinstance(error.report, PeerLost):
            self.channel.farewell(FaultSaid.of(error.report))

    def _keep_alive(self) -> None:
        while True:
            self.crew.pause(PING / 2)
            if time.monotonic() - self.channel.last_sent >= PING:
                self.channel.send(Kind.PING)
