"""Commands and files over one ssh connection per machine."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import leash
from tests.lab.waiting import TooLate, patient, wait_until

SSH_FAILED = 255
GRACE = 5.0
"""Seconds beyond a command's deadline before the connection itself is given up."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    command: str
    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.status == 0

    def __str__(self) -> str:
        said = "\n".join(part.rstrip() for part in (self.stdout, self.stderr) if part.strip())
        return f"$ {self.command}\n{said}\n[status {self.status}, {self.seconds:.2f} s]"


class CommandFailed(AssertionError):
    """A command on a machine ended otherwise than it should have."""

    def __init__(self, machine: str, result: Result) -> None:
        self.result = result
        super().__init__(f"on {machine}:\n{result}")


class Unreachable(Exception):
    """The machine does not answer on ssh."""


class Shell:
    """One multiplexed connection to one machine's root."""

    def __init__(self, machine: str, port: int, key: Path, known_hosts: Path, control: Path) -> None:
        self._machine, self._port, self._control = machine, port, control
        self._options = [
            *("-F", "none", "-p", str(port), "-i", str(key), "-o", f"UserKnownHostsFile={known_hosts}"),
            *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"),
            *("-o", f"ControlPath={control}", "-o", "ServerAliveInterval=0"),
        ]
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> str:
        """ssh's arguments, for a command line."""
        return shlex.join(self._options)

    def connect(self, deadline: float) -> None:
        """Wait for the machine's sshd and connect to it. Raises TooLate."""
        self.disconnect()
        wait_until(self._banner, deadline, f"{self._machine} answers on ssh", every=0.3)
        self._control.unlink(missing_ok=True)
        argv = ["ssh", *self._options, "-M", "-N", "root@127.0.0.1"]
        self._master = leash.start(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_until(self._connected, deadline, f"{self._machine} lets us in on ssh", every=0.05)

    def disconnect(self) -> None:
        if self._master is not None:
            leash.end(self._master)
        self._master = None
        self._control.unlink(missing_ok=True)

    def run(self, command: str, deadline: float, data: bytes | None = None) -> Result:
        """A shell line, ended there when its deadline is over (status 124). Raises Unreachable."""
        if self._master is None or self._master.poll() is not None:
            raise Unreachable(f"{self._machine}: no ssh connection")
        limit = patient(deadline)
        line = f"exec timeout -k 2 {limit:.1f} bash -c {shlex.quote(command)}"
        started = time.monotonic()
        try:
            done = subprocess.run(
                ["ssh", *self._options, "-o", "ControlMaster=no", "root@127.0.0.1", line],
                input=data or b"",
                capture_output=True,
                timeout=limit + GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"{self._machine} did not answer within {limit + GRACE:g} s: {command}") from None
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if done.returncode == SSH_FAILED and self._lost(err):
            raise Unreachable(f"{self._machine}: {err.strip()[-300:]}: {command}")
        return Result(command, done.returncode, out, err, time.monotonic() - started)

    def _lost(self, said: str) -> bool:
        return self._master is None or self._master.poll() is not None or "mux" in said or "closed" in said

    def _connected(self) -> bool:
        if self._master is not None and self._master.poll() is not None:
            raise TooLate(f"{self._machine}: ssh ended with {self._master.returncode}")
        return self._control.exists()

    def _banner(self) -> bool:
        """Whether sshd speaks. It is waited for on one connection: each new one costs a slow machine a process."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as connection:
            connection.settimeout(patient(60))
            return connection.recv(4) == b"SSH-"
        return False
