"""A relay on loopback that passes so many bytes in one direction, and then cuts the connection, or falls silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field


@dataclass
class Cutting:
    """In front of a port of this machine. `after` bytes (None: all of them) pass towards the server (`upward`) or back;
    the connection in which that happened is cut, and those after it are whole."""

    target: int
    after: int | None = None
    upward: bool = False
    silent: bool = False
    cuts: int = 0
    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def __post_init__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def close(self) -> None:
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for one, other, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(one, other, up), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(8192):
                if up is self.upward and self.after is not None:
                    passed, self.after = data[: self.after], self.after - len(data)
                    other.sendall(passed)
                    if self.after <= 0:
                        self.after, self.cuts = None, self.cuts + 1
                        break
                    continue
                other.sendall(data)
            else:
                other.shutdown(socket.SHUT_WR)
                return
        if not self.silent:
            for end in (one, other):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
