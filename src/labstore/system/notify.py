"""Telling the supervisor how we are: systemd's notification protocol (sd_notify(3)), which is one datagram."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping


class Supervisor:
    """Speaks to whoever started us; without one (or one that listens no more) every word is dropped."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if ours else 0.0
        """Seconds within which a word must come, 0 where nobody watches."""

    def tell(self, **words: str) -> None:
        """`tell(READY="1", STATUS="serving")`. Never raises: a supervisor that is gone is no reason to stop."""
        if not self._address.startswith(("/", "@")):
            return
        text = "\n".join(f"{key}={value.replace(chr(10), ' ')}" for key, value in words.items())
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(1.0)
                to.sendto(text.encode(), address)
        except OSError:
            pass

    def watch(self, well: Callable[[], bool]) -> Callable[[], None]:
        """Keep the watchdog quiet for as long as `well` says so; returns what ends it."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(self.watchdog / 2):
                if well():
                    self.tell(WATCHDOG="1")

        if self.watchdog:
            threading.Thread(target=keep, name="labstore-watchdog", daemon=True).start()
        return over.set
