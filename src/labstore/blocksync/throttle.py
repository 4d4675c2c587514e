"""Limits that can change while a run goes on: token buckets for bytes sent, bytes read and reads, and a pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from labstore.model.block_sync import Limits

_BURST = 0.25
"""Seconds' worth that may be taken at once."""
_NAP = 0.5
"""Seconds between looks while something waits: how long a change of limits may take to be felt."""


class Bucket:
    """So much per second; None is no limit."""

    def __init__(self, rate: int | None = None) -> None:
        self._lock = threading.Lock()
        self._rate, self._credit, self._at = rate, 0.0, time.monotonic()

    def set(self, rate: int | None) -> None:
        with self._lock:
            if rate != self._rate:
                self._rate, self._credit, self._at = rate, 0.0, time.monotonic()

    def debt(self, amount: int) -> float:
        """Take `amount`, whatever is there; returns the seconds after which that is made good."""
        with self._lock:
            rate = self._rate
            if rate is None:
                return 0.0
            now = time.monotonic()
            self._credit = min(self._credit + (now - self._at) * rate, rate * _BURST) - amount
            self._at = now
            return max(0.0, -self._credit / rate)

    def owed(self) -> float:
        """The seconds after which what was taken is made good."""
        return self.debt(0)


class Throttle:
    """The limits of one end. `pause` sleeps, or raises what ends the run."""

    def __init__(self, limits: Limits, pause: Callable[[float], None] = time.sleep) -> None:
        self._send, self._read, self._reads = Bucket(), Bucket(), Bucket()
        self.pause = pause
        self.limits = limits
        self.set(limits)

    def set(self, limits: Limits) -> None:
        """From now on."""
        self.limits = limits
        self._send.set(limits.send)
        self._read.set(limits.read)
        self._reads.set(limits.reads)

    def sending(self, amount: int) -> None:
        """Wait until so many bytes may be sent."""
        self._wait(self._send, amount)

    def reading(self, amount: int) -> None:
        """Wait until so many bytes may be read, in one read."""
        if self._reads.debt(1):
            self._wait(self._reads, 0)
        self._wait(self._read, amount)

    def _wait(self, bucket: Bucket, amount: int) -> None:
        owed = bucket.debt(amount)
        while owed > 0.001 or self.limits.paused:
            self.pause(min(owed, _NAP) or _NAP)
            owed = bucket.owed()


class ControlFile:
    """Limits read from a file whenever it changes. A file that cannot be read or says nonsense changes nothing.

    The file has lines `send 20M`, `read 200M`, `reads 500` (per second; K, M, G are powers of 1024, `none` is no
    limit) and `pause`.
    """

    def __init__(self, path: Path, otherwise: Limits) -> None:
        self._path, self._otherwise, self._seen = path, otherwise, (0, 0)
        self.problem: str | None = None

    def changed(self) -> Limits | None:
        """The limits if they were changed since the last look."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return None
            self._seen = seen
            self.problem = None
            return limits_of(self._path.read_text()[:4096], self._otherwise)
        except FileNotFoundError:
            gone, self._seen = self._seen != (0, 0), (0, 0)
            return self._otherwise if gone else None
        except OSError as error:
            self.problem = f"it cannot be read: {error.strerror}"
        except ValueError as error:
            self.problem = str(error)
        return None


def limits_of(text: str, otherwise: Limits) -> Limits:
    """What a control file says; what it does not name is as `otherwise`. Raises ValueError."""
    values: dict[str, int | None] = {"send": otherwise.send, "read": otherwise.read, "reads": otherwise.reads}
    paused = False
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words == ["pause"]:
            paused = True
        elif len(words) == 2 and words[0] in values:
            values[words[0]] = amount(words[1])
        elif words:
            raise ValueError(f"not a limit: {line[:60]!r}")
    return Limits(values["send"], values["read"], values["reads"], paused)


def amount(text: str) -> int | None:
    """A number of bytes from `512K`, `20M`, `1G`, `none`. Raises ValueError."""
    if text == "none":
        return None
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    digits = text if scale == 1 else text[:-1]
    if not digits.isdigit() or not 0 < int(digits) * scale < 1 << 50:
        raise ValueError(f"{text!r} is no amount: write 512K, 20M, 1G or none")
    return int(digits) * scale
