"""Work on a mounted share, and a note of everything that was promised: runs on a client machine, needs Python 3 alone.

    client_load.py run --mount /mnt --state /var/tmp/load [--writers 3] [--holders 2] [--readers 1]
    client_load.py rival --mount /mnt --state /var/tmp/rival --holders 2

Writers append numbered records, fsync each, and note on the client's own disk what was acknowledged. Holders take a
lock each (posix and OFD in turn), write under it and would see EIO had it been lost. A rival, on another client, tries
to take the same locks and must never get one. Readers read back what they know. Errors are written down with errno and
time, and so is every wait longer than a second. `compare` checks afterwards what the server has.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import random
import signal
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

RECORD = 256
READ_FILE = 1 << 20
BLOCK = 4096
NOTED_WAIT = 1.0
"""Seconds between two completed operations of one worker, from which on the wait is written down."""
OFD_SETLK = getattr(fcntl, "F_OFD_SETLK", 37)
DIRECTORY = "client-load"


# --- records ----------------------------------------------------------------------------------------------------------


def record(writer: int, number: int) -> bytes:
    """RECORD bytes that nobody else would write: one line."""
    body = b"%04d %010d " % (writer, number)
    filling = (b"%08x" % zlib.crc32(body)) * (RECORD // 8)
    return (body + filling)[: RECORD - 1] + b"\n"


def compare(writer: int, acknowledged: bytes, found: bytes, failed: frozenset[int] = frozenset()) -> dict[str, int]:
    """What a writer was promised against what is in its file. `failed`: numbers whose first attempt gave an error and
    was made again, which may be there twice."""
    promised = {int(line.split()[0]) for line in acknowledged.splitlines() if line.strip()}
    seen: dict[int, int] = {}
    broken = 0
    for at in range(0, len(found), RECORD):
        piece = found[at : at + RECORD]
        number = _number(piece)
        if number is None or piece != record(writer, number):
            broken += 1
        else:
            seen[number] = seen.get(number, 0) + 1
    return {
        "acknowledged": len(promised),
        "found": len(seen),
        "lost": len(promised - seen.keys()),
        "twice": sum(1 for number, times in seen.items() if times > 1 and number not in failed),
        "unasked": len(seen.keys() - promised),
        "broken": broken,
    }


def _number(piece: bytes) -> int | None:
    try:
        return int(piece[5:15])
    except ValueError:
        return None


# --- workers ----------------------------------------------------------------------------------------------------------


class Notes:
    """What happened, on the client's own disk, as it happens."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.state = state
        self._events = os.open(state / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._guard = threading.Lock()
        self.workers: list[Worker] = []

    def event(self, kind: str, who: str, **more: object) -> None:
        line = json.dumps({"kind": kind, "who": who, "time": round(time.time(), 3), **more})
        os.write(self._events, line.encode() + b"\n")

    def status(self) -> None:
        """Where everybody is, for `report`; replaced as a whole."""
        now = time.monotonic()
        status = {worker.name: worker.status(now) for worker in self.workers}
        with self._guard:
            new = self.state / "status.new"
            new.write_text(json.dumps({"time": time.time(), "workers": status}))
            new.rename(self.state / "status")


class Worker(threading.Thread):
    """Does one thing again and again; a subclass says what in `once`."""

    kind = "worker"

    def __init__(self, notes: Notes, share: Path, number: int, pause: float, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.name = f"{self.kind}-{number}"
        self.notes, self.share, self.number, self.pause, self.stopping = notes, share, number, pause, stopping
        self.done, self.errors, self.longest, self.doing = 0, 0, 0.0, "starting"
        self._last = time.monotonic()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.once()
            except OSError as error:
                self.failed(error)
                self.stopping.wait(0.5)
            else:
                self._completed()
            self.stopping.wait(self.pause)
        self.doing = "ended"

    def once(self) -> None:
        raise NotImplementedError

    def failed(self, error: OSError) -> None:
        self.errors += 1
        name = errno.errorcode.get(error.errno or 0, "?")
        self.notes.event("error", self.name, errno=error.errno, name=name, doing=self.doing)

    def _completed(self) -> None:
        now = time.monotonic()
        waited = now - self._last - self.pause
        self._last = now
        self.done += 1
        self.longest = max(self.longest, waited)
        if waited >= NOTED_WAIT:
            self.notes.event("wait", self.name, seconds=round(waited, 3))

    def status(self, now: float) -> dict[str, object]:
        waiting = now - self._last
        return {
            "done": self.done,
            "errors": self.errors,
            "longest_wait": round(max(self.longest, waiting), 3),
            "waiting": round(waiting, 3),
            "doing": self.doing,
        }


class Writer(Worker):
    """Appends records, and notes each when fsync has promised it."""

    kind = "writer"
    _file = -1
    _next = 1

    def once(self) -> None:
        if self._file < 0:
            self.doing = "open"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self.share / self.name, flags, 0o644)
            path = self.notes.state / f"acknowledged-{self.number}"
            self._promises = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.doing = "write"
        os.write(self._file, record(self.number, self._next))
        self.doing = "fsync"
        os.fsync(self._file)
        os.write(self._promises, b"%d %.3f\n" % (self._next, time.time()))
        self._next += 1

    def failed(self, error: OSError) -> None:
        super().failed(error)
        self.notes.event("again", self.name, number=self._next)
        if self._file >= 0:
            try:
                os.close(self._file)
            except OSError as second:
                super().failed(second)
            self._file = -1


class Holder(Worker):
    """Holds a lock and writes under it. A lock that the server forgot shows as EIO here (or as success of a rival)."""

    kind = "holder"
    _file = -1

    def once(self) -> None:
        if self._file < 0:
            self.doing = "lock"
            self._file = os.open(self.share / f"lock-{self.number}", os.O_RDWR | os.O_CREAT, 0o644)
            lock(self._file, ofd=self.number % 2 == 1)
            self.notes.event("locked", self.name)
        self.doing = "write under lock"
        os.pwrite(self._file, b"%020d" % self.done, 0)
        os.fsync(self._file)
        self.doing = "read under lock"
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(self._file, 20, 0) != b"%020d" % self.done:
            self.notes.event("foreign write", self.name)

    def failed(self, error: OSError) -> None:
        if error.errno in (errno.EAGAIN, errno.EACCES) and self.doing == "lock":
            self.notes.event("refused lock", self.name)
        elif self._file >= 0 and error.errno in (errno.EIO, errno.EBADF, errno.ENOLCK):
            self.notes.event("lost lock", self.name)
        super().failed(error)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Rival(Worker):
    """Wants a lock that another client holds; getting it is an event."""

    kind = "rival"
    _file = -1

    def once(self) -> None:
        if self._file < 0:
            self.doing = "open"
            self._file = os.open(self.share / f"lock-{self.number}", os.O_RDWR)
        self.doing = "lock"
        try:
            lock(self._file, ofd=self.number % 2 == 1)
        except (BlockingIOError, PermissionError):
            return
        self.notes.event("got lock", self.name)
        unlock(self._file, ofd=self.number % 2 == 1)

    def failed(self, error: OSError) -> None:
        super().failed(error)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reader(Worker):
    """Reads blocks of a file whose content it knows, from the server and not from the cache; looks names up too."""

    kind = "reader"
    _file = -1

    def once(self) -> None:
        path = self.share / self.name
        if self._file < 0:
            self.doing = "prepare"
            if not path.exists() or path.stat().st_size != READ_FILE:
                path.write_bytes(b"".join(_block(at) for at in range(READ_FILE // BLOCK)))
            self._file = os.open(path, os.O_RDONLY)
        at = random.randrange(READ_FILE // BLOCK)
        self.doing = "read"
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(self._file, BLOCK, at * BLOCK) != _block(at):
            self.notes.event("wrong content", self.name, block=at)
        self.doing = "look up"
        path.stat()
        list(self.share.iterdir())

    def failed(self, error: OSError) -> None:
        super().failed(error)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _block(at: int) -> bytes:
    return (b"block %08d " % at) * (BLOCK // 15) + b"." * (BLOCK % 15)


def lock(file: int, ofd: bool) -> None:
    """An exclusive lock on the whole file, not waited for."""
    _lock(file, fcntl.F_WRLCK, ofd)


def unlock(file: int, ofd: bool) -> None:
    _lock(file, fcntl.F_UNLCK, ofd)


def _lock(file: int, kind: int, ofd: bool) -> None:
    # struct flock of 64-bit Linux: type, whence, start, length, pid
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(file, OFD_SETLK if ofd else fcntl.F_SETLK, request)


# --- commands ---------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, kinds: dict[type[Worker], int]) -> int:
    """Work until SIGTERM. Workers that hang in the kernel are left there."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    share = Path(arguments.mount) / DIRECTORY
    share.mkdir(exist_ok=True)
    notes = Notes(Path(arguments.state))
    for kind, count in kinds.items():
        notes.workers += [kind(notes, share, number, arguments.pause, stopping) for number in range(count)]
    notes.event("start", "load", pid=os.getpid())
    for worker in notes.workers:
        worker.start()
    while not stopping.wait(0.25):
        notes.status()
    end = time.monotonic() + 15
    for worker in notes.workers:
        worker.join(max(0.0, end - time.monotonic()))
    notes.status()
    notes.event("end", "load", hanging=[worker.name for worker in notes.workers if worker.is_alive()])
    os._exit(0)


def report(said_status: str, said_events: str) -> dict[str, object]:
    """What happened so far, from the content of the files `status` and `events`. They are there while the load runs,
    and while it hangs. Not asked of the client itself: Python takes seconds to start on an emulated machine."""
    status = json.loads(said_status or '{"workers": {}}')
    events = [json.loads(line) for line in said_events.splitlines() if line]
    workers = status["workers"]

    def of_kind(*kinds: str) -> list[dict[str, object]]:
        return [event for event in events if event["kind"] in kinds]

    return {
        "time": status.get("time"),
        "workers": workers,
        "operations": sum(worker["done"] for worker in workers.values()),
        "errors": of_kind("error"),
        "lost_locks": of_kind("lost lock", "got lock", "foreign write"),
        "locked": len(of_kind("locked")),
        "wrong_content": of_kind("wrong content"),
        "waits": of_kind("wait"),
        "again": of_kind("again"),
        "longest_wait": max((worker["longest_wait"] for worker in workers.values()), default=0.0),
        "ended": bool(of_kind("end")),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "rival"):
        each = verbs.add_parser(verb)
        each.add_argument("--state", required=True)
        each.add_argument("--mount", required=True)
        each.add_argument("--holders", type=int, default=2)
        each.add_argument("--pause", type=float, default=0.05, help="seconds between two operations of a worker")
        if verb == "run":
            each.add_argument("--writers", type=int, default=3)
            each.add_argument("--readers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.verb == "rival":
        return run(arguments, {Rival: arguments.holders})
    return run(arguments, {Holder: arguments.holders, Writer: arguments.writers, Reader: arguments.readers})


if __name__ == "__main__":
    sys.exit(main())
