"""The links between the machines, and cutting them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab import leash


class Net:
    """The switch process. Networks come into being with their first port."""

    def __init__(self, directory: Path) -> None:
        argv = [sys.executable, str(Path(__file__).with_name("switch.py")), str(directory)]
        self._process = leash.start(
            argv, leash.niceness(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )

    def port(self, network: str, machine: str) -> Path:
        """The socket to which a machine's interface on a network connects."""
        return Path(str(self._do("port", network=network, machine=machine)["path"]))

    def cut(self, network: str, source: str, target: str, both: bool = True) -> None:
        """Drop every frame from one machine to another, and back."""
        for one, other in self._ways(source, target, both):
            self._do("cut", network=network, **{"from": one, "to": other})

    def heal(self, network: str, source: str, target: str, both: bool = True) -> None:
        """Undo `cut`."""
        for one, other in self._ways(source, target, both):
            self._do("heal", network=network, **{"from": one, "to": other})

    def isolate(self, network: str, machine: str, others: list[str]) -> None:
        """Cut a machine from all others of a network."""
        for other in others:
            self.cut(network, machine, other)

    def heal_all(self) -> None:
        self._do("heal all")

    def carried(self) -> dict[str, int]:
        """Frames so far: "NETWORK FROM TO", "cut NETWORK FROM TO", "overflow NETWORK FROM TO"."""
        return dict(self._do("carried")["carried"])

    @contextlib.contextmanager
    def capture(self, network: str, path: Path) -> Iterator[Path]:
        """Every frame delivered on a network meanwhile, as a pcap file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._do("capture", network=network, path=str(path))
        try:
            yield path
        finally:
            self._do("capture off", network=network)

    def close(self) -> None:
        leash.end(self._process)

    def _do(self, verb: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"do": verb, **arguments}).encode() + b"\n")
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = self._process.stdout.read(65536)
            if not piece:
                raise RuntimeError("the switch has ended")
            line += piece
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return dict(answer)

    @staticmethod
    def _ways(source: str, target: str, both: bool) -> list[tuple[str, str]]:
        return [(source, target), (target, source)] if both else [(source, target)]


def mac(machine: str, network: str) -> str:
    """The same for the same machine and network, always."""
    digits = hashlib.sha256(f"{machine} {network}".encode()).hexdigest()
    return "52:54:00:" + ":".join(digits[at : at + 2] for at in (0, 2, 4))
