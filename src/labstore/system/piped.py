"""The second door to processes: a program that is talked with over its standard input and output for as long as it
takes (ssh to the other end of a block sync). What ends by itself goes through `run.py`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "",
}
_WORDS = 4096
"""Bytes of what it said on standard error that are kept: the last ones."""


class CannotStart(Exception):
    """The program could not be started; the text says why."""


class Piped:
    """A running program: read from `reading`, write to `writing`; both are closed by whoever uses them.

    It is in a process group of its own, which `end` ends, however the program behaves.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**ENVIRONMENT, **(env or {})},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise CannotStart(f"{argv[0]} cannot be started: {error.strerror}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.writing, self.reading = os.dup(self._process.stdin.fileno()), os.dup(self._process.stdout.fileno())
        self._process.stdin.close()
        self._process.stdout.close()
        self._words = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while chunk := stream.read(4096):
                self._words += chunk
                del self._words[:-_WORDS]

    def last_words(self) -> str:
        """The end of what it said on standard error, printable, in one line."""
        self._listener.join(0.5)
        text = bytes(self._words).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(sign if sign.isprintable() else "?" for sign in "; ".join(lines[-4:]))

    def wait(self) -> int:
        """Until it ends by itself, however long that takes. Returns its status (negative: the signal)."""
        return self._process.wait()

    def stop(self) -> None:
        """Ask it to end now; `wait` or `end` says when it has. Safe in a signal handler."""
        self._signal(signal.SIGTERM)

    def end(self, patience: float = 5.0) -> int:
        """Wait so long for it to end by itself, then end it. Returns its status (negative: the signal)."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGTERM)
        try:
            return self._process.wait(min(patience, 5.0))
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
