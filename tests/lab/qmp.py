"""QEMU's control socket."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.lab.waiting import TooLate, patient


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    """One connection. Events are read and dropped: states are asked for."""

    def __init__(self, path: Path, deadline: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patient(deadline))
        end = time.monotonic() + patient(deadline)
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self._file = self._socket.makefile("r")
        self._numbers = itertools.count()
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, /, **arguments: Any) -> Any:
        """Run a command and return its answer. Raises QmpError, OSError."""
        number = next(self._numbers)
        request = {"execute": command, "arguments": arguments, "id": number}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while line := self._file.readline():
            answer = json.loads(line)
            if answer.get("id") != number:
                continue
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error'].get('desc')}")
            return answer.get("return")
        raise QmpError(f"{command}: QEMU hung up")

    def monitor(self, line: str) -> str:
        """A command of the human monitor."""
        return str(self("human-monitor-command", **{"command-line": line}))

    def job(self, command: str, deadline: float, **arguments: Any) -> None:
        """Run a command that is a job, to its end."""
        name = f"job{next(self._numbers)}"
        self(command, **{"job-id": name, **arguments})
        end = time.monotonic() + patient(deadline)
        while True:
            job = next(each for each in self("query-jobs") if each["id"] == name)
            if job["status"] == "concluded":
                self("job-dismiss", id=name)
                if "error" in job:
                    raise QmpError(f"{command}: {job['error']}")
                return
            if time.monotonic() > end:
                raise TooLate(f"{command}: still {job['status']} after {patient(deadline):g} s")
            time.sleep(0.02)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._socket.close()
