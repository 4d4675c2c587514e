"""bdsync as the engine, for a machine that has it and not yet labstore: two programs around one pipe, then a proof.

bdsync computes no root and reads nothing back, so a second comparison of both sides follows the copy, with nothing of
the target left in the page cache: what is called good was found equal by both ends.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from labstore.blocksync.devices import Device, Target
from labstore.blocksync.index import folder_name
from labstore.blocksync.meter import Meter
from labstore.blocksync.throttle import Throttle
from labstore.model.block_sync import UNLIMITED, Limits, Pass, SyncResult
from labstore.ports.block_engine import Order
from labstore.reports.blocksync import IndexFailed, Interrupted, ProgramFailed, SyncFailed
from labstore.system.files import make_directory, write_atomic
from labstore.system.piped import CannotStart, Piped

PROGRAM = "bdsync"
BLOCK = 16384
"""Bytes, as the original compared."""
_MAGIC = b"BDSYNC 0.3\n"
_SMALLEST = 4096
"""Bytes of its output that can hold a header and no block: the name of the target is in there."""
_PIECE = 1 << 20
_KEPT = "state.json"


class Bdsync:
    """See ports.block_engine.BlockEngine. `program` is what both ends call it."""

    def __init__(self, state: Path, program: str = PROGRAM) -> None:
        self._state, self._program = state, program
        self._limits: Limits | None = None
        self._stopped: str | None = None
        self._running: list[Piped] = []
        self._lock = threading.Lock()
        self._throttle = Throttle(UNLIMITED, self._pause)
        self.meter: Meter | None = None

    def sync(self, order: Order) -> SyncResult:
        started = time.monotonic()
        path = order.target.path
        meter = self.meter = Meter()
        self._throttle.set(self._limits or order.limits)
        try:
            with closing(Target(path, order.options.read, create=False)) as target:
                meter.size = meter.total = target.size
                compare = [
                    self._program,
                    f"--blocksize={BLOCK}",
                    "--remdata",
                    self._remote(order),
                    path,
                    order.source.path,
                ]
                self._forget(path)
                sent = self._copy(compare, path, order.allow)
                meter.phase = "comparing again"
                target.sync()
                target.let_go(0, target.size)
                self._equal(compare, path, target.size)
                root = f"bdsync-{os.urandom(16).hex()}"
                self._keep(path, root, target.witness())
                return _result(root, target.size, sent, time.monotonic() - started)
        finally:
            self.meter = None

    def complete(self, target: str) -> str | None:
        try:
            kept = json.loads(self._place(target).read_text())
            with closing(Device(target)) as device:
                return str(kept["root"]) if kept["witness"] and device.witness() == kept["witness"] else None
        except (OSError, ValueError, KeyError, TypeError, SyncFailed):
            return None

    def stranger(self, target: str) -> str | None:
        if self._place(target).exists() or not Path(target).exists():
            return None
        with closing(Device(target)) as device:
            return device.holds()

    def set_limits(self, limits: Limits) -> None:
        self._limits = limits
        self._throttle.set(limits)

    def interrupt(self, why: str) -> None:
        """End the copy that is under way, and begin no other."""
        self._stopped = why
        with self._lock:
            running = list(self._running)
        for each in running:
            each.stop()

    # --- the two programs -------------------------------------------------------------------------------------------

    def _remote(self, order: Order) -> str:
        """How bdsync is to call the other end. It parts words at spaces and knows no quotes."""
        user, host = order.source.user, order.source.host
        where = f"{user}@{host}" if user else str(host)
        words = [where if word == "{host}" else word for word in order.remote] or [self._program, "--server"]
        if any(len(word.split()) != 1 for word in words[:-1]):
            raise SyncFailed(ProgramFailed(self._program, f"cannot be given words with spaces: {' '.join(words)}"))
        return " ".join(words)

    def _copy(self, compare: Sequence[str], path: str, allow: Callable[[int], int] | None) -> int:
        """What differs, from the one to the other; returns its bytes. One that ends early leaves the other without the
        end that it waits for, so neither takes a part for the whole."""
        sent, broken = 0, False
        reader = self._start(compare)
        os.close(reader.writing)
        writer = self._start([self._program, f"--patch={path}"])
        os.close(writer.reading)
        try:
            for piece in self._pieces(reader.reading, allow):
                _write(writer.writing, piece)
                sent += len(piece)
        except BrokenPipeError:
            broken = True
        except BaseException:
            reader.stop()
            writer.stop()
            raise
        finally:
            os.close(reader.reading)
            os.close(writer.writing)
            failures = self._ended(reader), self._ended(writer)
        self._say(failures[broken] or failures[not broken])
        return sent

    def _pieces(self, reading: int, allow: Callable[[int], int] | None) -> Iterator[bytes]:
        """What is read, as fast as it may be written."""
        allowed = 0
        while piece := os.read(reading, _PIECE):
            if allow is not None and allowed < len(piece):
                allowed = allow(len(piece))
            allowed -= len(piece)
            self._throttle.sending(len(piece))
            yield piece

    def _equal(self, compare: Sequence[str], path: str, size: int) -> None:
        """Raises SyncFailed where the two sides differ now."""
        reader, found = self._start(compare), bytearray()
        os.close(reader.writing)
        try:
            while len(found) < _SMALLEST and (piece := os.read(reader.reading, _PIECE)):
                found += piece
            if len(found) >= _SMALLEST:
                reader.stop()
        finally:
            os.close(reader.reading)
            failed = self._ended(reader)
        name = os.fsencode(path)
        header = _MAGIC + size.to_bytes(8, "little") + len(name).to_bytes(2, "little") + name
        if len(found) >= _SMALLEST or (failed is None and (not found.startswith(header) or any(found[len(header) :]))):
            failed = ProgramFailed(self._program, f"finds that {path} still differs from its source after the copy")
        self._say(failed)

    def _start(self, argv: Sequence[str]) -> Piped:
        self._check()
        try:
            made = Piped(argv, {name: os.environ[name] for name in ("SSH_AUTH_SOCK", "HOME") if name in os.environ})
        except CannotStart as error:
            raise SyncFailed(ProgramFailed(self._program, str(error))) from None
        with self._lock:
            self._running.append(made)
        return made

    def _ended(self, program: Piped) -> ProgramFailed | None:
        status = program.wait()
        with self._lock:
            self._running.remove(program)
        if not status:
            return None
        return ProgramFailed(self._program, f"ended with status {status}: {program.last_words() or 'without a word'}")

    def _say(self, failed: ProgramFailed | None) -> None:
        self._check()
        if failed is not None:
            raise SyncFailed(failed)

    def _check(self) -> None:
        if self._stopped is not None:
            raise SyncFailed(Interrupted(self._stopped))

    def _pause(self, seconds: float) -> None:
        self._check()
        time.sleep(seconds)

    # --- what is known of a target ----------------------------------------------------------------------------------

    def _place(self, target: str) -> Path:
        return self._state / folder_name(target) / _KEPT

    def _forget(self, target: str) -> None:
        """From now on it is between two states, until we say otherwise."""
        self._note(target, {"root": "", "witness": None})

    def _keep(self, target: str, root: str, witness: str | None) -> None:
        self._note(target, {"root": root, "witness": witness})

    def _note(self, target: str, words: dict[str, str | None]) -> None:
        place = self._place(target)
        try:
            make_directory(place.parent)
            write_atomic(place, json.dumps({"target": target, **words}).encode() + b"\n")
        except OSError as error:
            raise SyncFailed(IndexFailed(str(place), error.strerror or str(error))) from error


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def _result(root: str, size: int, sent: int, seconds: float) -> SyncResult:
    """What is known of it: bdsync says nothing of what it read."""
    return SyncResult(
        generation=0,
        root=root,
        passed=Pass.BOTH,
        why="bdsync compares every block on both sides",
        size=size,
        read=2 * size,
        changed=sent // BLOCK,
        zeroed=0,
        sent=0,
        received=sent,
        scrubbed=size,
        seconds=seconds,
        token=None,
        read_back="cache",
        block_size=BLOCK,
    )
