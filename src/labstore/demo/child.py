"""Programs that keep running beside us: started, waited for, ended by their process id, never outliving us.

The door for everything that ends by itself is `run.py`; this one is for servers of our own in the demonstration and in
tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from labstore.system.run import ENVIRONMENT

STOP_DEADLINE = 20.0


class ChildFailed(Exception):
    """A program did not come up, or ended when it should run; `reason` in words, with the last of its log."""

    def __init__(self, program: str, reason: str, log: str = "") -> None:
        self.program, self.reason, self.log = program, reason, log
        super().__init__(f"{program}: {reason}" + (f"\n{log}" if log else ""))


def freeze(pid: int, deadline: float = STOP_DEADLINE) -> None:
    """Stop a program, and wait up to `deadline` seconds until all its threads have stopped: on a busy machine some go
    on for a while after kill(2) has returned. Raises ProcessLookupError where there is none."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + deadline
    while not _stands_still(pid) and time.monotonic() < until:
        time.sleep(0.002)


def _stands_still(pid: int) -> bool:
    """By the third field of each thread's stat, which follows the name in brackets (proc(5))."""
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if task.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return False
    return True


class Child:
    """A running program. Its input is closed, its output goes to `log`, its environment is small.

    It is told to end when the thread that started it ends, however that happens (prctl(2), PR_SET_PDEATHSIG, by
    setpriv(1)); so start it from a thread that lives as long as it shall.
    """

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.program, self.log = Path(argv[0]).name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/usr/bin/setpriv", "--pdeathsig", "TERM", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, **(env or {})},
                cwd="/",
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], deadline: float, pause: float = 0.01) -> float:
        """Wait until `ready`; returns the seconds it took. Raises ChildFailed when the program ends or the deadline
        (in seconds) passes."""
        started = time.monotonic()
        while not ready():
            if not self.running:
                raise ChildFailed(self.program, f"ended with status {self._process.returncode}", self.last_words())
            if time.monotonic() - started > deadline:
                raise ChildFailed(self.program, f"was not ready within {deadline:g} s", self.last_words())
            time.sleep(pause)
        return time.monotonic() - started

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGSTOP and self.running:
                freeze(self.pid)
            else:
                self._process.send_signal(number)

    def stop(self, deadline: float = STOP_DEADLINE) -> int:
        """Ask it to end, make it end after `deadline` seconds; returns its status (negative: the signal)."""
        if self.running:
            self.send(signal.SIGTERM)
        try:
            return self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once, as a crash would."""
        self.send(signal.SIGKILL)
        return self._process.wait(STOP_DEADLINE)

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""
