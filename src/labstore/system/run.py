"""The one door to processes: argument lists, closed stdin, a small environment, a deadline, bounded output."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from typing import IO

from labstore.ports.host import Command, CommandFailed, Completed
from labstore.system.log import Logger

log = Logger()

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "",
}
OUTPUT_LIMIT = 64 << 20
"""Bytes of output taken per stream; a program that says more is ended."""


class LocalHost:
    """Runs programs on this machine. `limit` bounds the bytes taken of each output stream."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        self._limit = limit

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        """See ports.host.Host.run. A program past its deadline is killed with its whole process group."""
        started = time.monotonic()
        completed = self._finish(command, self._start(command), started)
        log.debug("ran", argv=shlex.join(command.argv), status=completed.status, seconds=round(completed.seconds, 3))
        if expect is not None and completed.status not in expect:
            raise CommandFailed(command, f"ended with status {completed.status}", completed.status, completed.stderr)
        return completed

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL if command.input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**ENVIRONMENT, **command.env},
                cwd=command.cwd or "/",
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(command, f"cannot be started: {error.strerror}") from error

    def _finish(self, command: Command, process: subprocess.Popen[bytes], started: float) -> Completed:
        readers = [_Reader(stream, self._limit, process) for stream in (process.stdout, process.stderr) if stream]
        try:
            _feed(process, command.input)
            status = process.wait(max(0.0, started + command.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CommandFailed(command, f"did not end within {command.deadline:g} s and was killed") from None
        finally:
            # also after a normal end: nothing the program left behind may hold the pipes open
            _kill_group(process)
        out, err = (reader.result() for reader in readers)
        if any(reader.overflowed for reader in readers):
            raise CommandFailed(command, f"said more than {self._limit} bytes and was killed", status, err)
        return Completed(command, status, out, err, time.monotonic() - started)


class _Reader(threading.Thread):
    """Takes one stream to its end, at most `limit` bytes of it."""

    def __init__(self, stream: IO[bytes], limit: int, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream, self._limit, self._process = stream, limit, process
        self._taken = bytearray()
        self.overflowed = False
        self.start()

    def run(self) -> None:
        with self._stream:
            while chunk := self._stream.read1(65536):  # type: ignore[attr-defined]
                self._taken += chunk
                if len(self._taken) > self._limit:
                    self.overflowed = True
                    _kill_group(self._process)
                    return

    def result(self) -> str:
        self.join(5.0)
        return bytes(self._taken[: self._limit]).decode("utf-8", "replace")


def _feed(process: subprocess.Popen[bytes], data: bytes | None) -> None:
    if data is None or process.stdin is None:
        return
    stdin = process.stdin

    def feed() -> None:
        try:
            with stdin:
                stdin.write(data)
        except BrokenPipeError:
            pass  # it ended without reading all of it; its status says whether that is an error

    threading.Thread(target=feed, daemon=True).start()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel (state D): left to it
        process.wait(5.0)
