"""Frames over a pair of file descriptors: pipes to a process, or standard input and output of one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from labstore.blocksync.crew import Stopped
from labstore.blocksync.digests import Bytes
from labstore.blocksync.messages import FaultSaid, Message
from labstore.blocksync.wire import HEADER_SIZE, BadFrame, Checker, Kind, Sealer, session_keys
from labstore.model.block_sync import PATIENCE
from labstore.reports.blocksync import BrokenProtocol, PeerLost, SyncFailed

FAREWELL = 2.0
"""Seconds that the other end gets to take the last frame."""
M = TypeVar("M", bound=Message)
_F_SETPIPE_SZ = 1031
PIPE_SIZE = 1 << 20
PAUSES = 30
"""So many times that, where nothing is taken: the other end may have been told to pause, or be busy with zeros. Who is
dead is missed by whoever listens."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    payload: bytearray


class Channel:
    """Sends and receives frames. One thread receives; any may send.

    Raises SyncFailed: PeerLost where the other end is gone or silent, BrokenProtocol where it sends what it must not,
    or the report that it sent itself. `last_words` says what it left on its way out (the messages of ssh).
    """

    def __init__(
        self,
        reading: int,
        writing: int,
        patience: float = PATIENCE,
        last_words: Callable[[], str] = lambda: "",
    ) -> None:
        self._reading, self._writing, self._patience, self._last_words = reading, writing, patience, last_words
        self._sealer, self._checker = Sealer(), Checker()
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._rest, self._heeds_stop, self._closed = list[memoryview](), True, False
        self.grace: Callable[[float], None] = time.sleep
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.sent = self.received = 0
        self.blocked = 0.0
        """Seconds in which sending waited for the other end to take something."""
        self.last_sent = time.monotonic()
        self.stray = b""
        """The header that came last, or what came in place of the first one."""
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, PIPE_SIZE)

    def open_session(self, caller: str, called: str, are_caller: bool) -> None:
        """From here on frames carry the keys of this session."""
        keys = session_keys(bytes.fromhex(caller), bytes.fromhex(called))
        self._sealer.rekey(keys[0] if are_caller else keys[1])
        self._checker.rekey(keys[1] if are_caller else keys[0])

    def say(self, message: Message) -> None:
        self.send(message.kind, message.pack())

    def send(self, kind: Kind, *parts: Bytes) -> None:
        """Returns when the frame is handed to the system, which may be long before it arrives. Raises Stopped where
        nothing may follow: the last frame was cut short, or the channel is closed."""
        with self._sending:
            if self._rest or self._closed:
                raise Stopped
            self._rest = [memoryview(part) for part in (self._sealer.seal(kind, *parts), *parts) if len(part)]
            self.sent += sum(map(len, self._rest))
            while self._rest:
                self._rest = self._write(self._rest)
            self.last_sent = time.monotonic()

    def farewell(self, message: Message) -> None:
        """Say why we end, if the other end still listens; it is not waited for. A frame that was cut short is sent to
        its end before."""
        if not self._sending.acquire(timeout=FAREWELL):
            return
        try:
            self._patience, self._heeds_stop = FAREWELL, False
            payload = message.pack()
            views = [*self._rest, memoryview(self._sealer.seal(message.kind, payload)), memoryview(payload)]
            while views:
                views = self._write(views)
        except (SyncFailed, ValueError):
            pass
        finally:
            self._sending.release()

    def _write(self, views: list[memoryview]) -> list[memoryview]:
        """Hand over what is taken now, waiting until something is; returns the rest."""
        try:
            taken = os.writev(self._writing, views[:1000])
        except BlockingIOError:
            started = time.monotonic()
            self._wait(self._writing, select.POLLOUT, PAUSES if self._heeds_stop else 1)
            self.blocked += time.monotonic() - started
            return views
        except OSError as error:
            self._hear_why()
            raise self._lost(error.strerror or str(error)) from None
        while views and taken >= len(views[0]):
            taken -= len(views.pop(0))
        if taken:
            views[0] = views[0][taken:]
        return views

    def _hear_why(self) -> None:
        """The other end may have said why before it went. If nobody is receiving, look; else give them the time."""
        if not self._receiving.acquire(blocking=False):
            self.grace(FAREWELL)
            return
        try:
            self._patience = FAREWELL
            while True:
                frame = self._frame()
                if frame.kind is Kind.FAULT:
                    raise SyncFailed(self.parsed(FaultSaid, frame).report(), told=True)
        finally:
            self._receiving.release()

    def receive(self, *kinds: Kind) -> Frame:
        """The next frame, which must be of one of these kinds; PING is passed over, FAULT is raised."""
        while True:
            with self._receiving:
                frame = self._frame()
            if frame.kind is Kind.PING:
                continue
            if frame.kind is Kind.FAULT:
                raise SyncFailed(self.parsed(FaultSaid, frame).report(), told=True)
            if frame.kind not in kinds:
                raise broken(f"{frame.kind.name} out of place")
            return frame

    def hear(self, message: type[M]) -> M:
        """The next frame, which must be this message."""
        return self.parsed(message, self.receive(message.kind))

    def parsed(self, message: type[M], frame: Frame) -> M:
        try:
            return message.unpack(frame.payload)
        except BadFrame as error:
            raise broken(str(error)) from None

    def _frame(self) -> Frame:
        try:
            raw = self._read(HEADER_SIZE)
            self.stray = bytes(raw)
            head = self._checker.head(self.stray)
            payload = self._read(head.length)
            self._checker.payload(bytes(raw), payload)
        except BadFrame as error:
            raise broken(str(error)) from None
        return Frame(head.kind, payload)

    def _read(self, length: int) -> bytearray:
        content = bytearray(length)
        view, have = memoryview(content), 0
        while have < length:
            try:
                taken = os.readv(self._reading, [view[have:]])
            except BlockingIOError:
                self._wait(self._reading, select.POLLIN)
                continue
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from None
            if not taken:
                if not self.received:
                    self.stray = bytes(content[:have])
                raise self._lost("it ended")
            have += taken
        self.received += length
        return content

    def _wait(self, descriptor: int, event: int, times: int = 1) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if self._heeds_stop:
            poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(times * self._patience * 1000))
        if self._wake in ready:
            raise Stopped
        if not ready:
            raise self._lost(f"not a byte in {times * self._patience:g} s")

    def _lost(self, what: str) -> SyncFailed:
        words = self._last_words()
        return SyncFailed(PeerLost(f"{what} ({words})" if words else what))

    def stop(self) -> None:
        """Wake whoever waits here; they get Stopped."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        self.stop()
        with self._sending:
            self._closed = True
        for descriptor in {self._reading, self._writing, self._wake}:
            try:
                os.close(descriptor)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise


def broken(what: str) -> SyncFailed:
    """For whoever finds that a frame says what it must not."""
    return SyncFailed(BrokenProtocol(what))
