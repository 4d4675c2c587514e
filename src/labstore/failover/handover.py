"""What clients held when they were cut off, on its way to the other node; and what became of it there.

The barrier is up when it is written, so nothing changes meanwhile: what stands here is exact.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labstore.model.nfsd import Connection, NfsClient
from labstore.reconcile.codec import converter
from labstore.system.files import FileTooLarge, make_directory, read_limited, write_atomic

LIMIT = 256 << 20


class BadHandover(Exception):
    """A file that is not what `write_handover` writes."""


@dataclass(frozen=True)
class Handover:
    """`clients` and `connections` of the server on `node` at `at` (UTC); `run` is the run that cut them off."""

    node: str
    at: str
    run: str
    clients: tuple[NfsClient, ...] = ()
    connections: tuple[Connection, ...] = ()


def write_handover(path: Path, handover: Handover) -> None:
    """Durable when it returns. Raises OSError; then an older one is still there."""
    make_directory(path.parent, 0o700)
    write_atomic(path, to_json(handover).encode(), mode=0o600)


def read_handover(path: Path) -> Handover:
    """Raises OSError, BadHandover."""
    try:
        return from_json(read_limited(path, LIMIT).decode())
    except (FileTooLarge, UnicodeDecodeError) as error:
        raise BadHandover(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Handovers:
    """The files of one node. `volume` lies on the state volume and goes with the service; `here` is where it is
    written while that volume cannot take it (it is full).

    Once clients are let in, what was written before lies beside its place (`used`): it is still to be compared with
    what they got back, but the next node must not take it for what they hold by then.
    """

    volume: Path
    here: Path

    def write(self, handover: Handover) -> str:
        """Durable when it returns. Returns why it does not lie on the state volume, or nothing. Raises OSError."""
        try:
            write_handover(self.volume, handover)
        except OSError as error:
            write_handover(self.here, handover)
            with contextlib.suppress(OSError):
                self.volume.unlink(missing_ok=True)
            return str(error)
        self.here.unlink(missing_ok=True)
        return ""

    def fresh(self) -> bool:
        """Whether what clients held was written down, and they were not let in since. What cannot be read is not
        there: it is written again."""
        return any(self._read((self.volume, self.here)))

    def waiting(self) -> bool:
        """Whether anything was not yet compared, readable or not."""
        return any(path.exists() for path in self._all)

    def use(self) -> None:
        """Clients are let in now: what is compared with what they get back is this and nothing older. Raises
        OSError."""
        for path in (self.volume, self.here):
            if path.exists():
                path.replace(_used(path))
            else:
                _used(path).unlink(missing_ok=True)

    def take_back(self) -> bool:
        """Nobody came in since: what lies beside its place counts again. False where there is nothing. Raises
        OSError."""
        found = self.used()
        if found is None:
            return False
        for path in (self.volume, self.here):
            try:
                _used(path).replace(path)
            except FileNotFoundError:
                continue
            except OSError:  # a volume that takes nothing any more
                self.write(found)
        return True

    def handed_over(self) -> Handover | None:
        """What clients hold that are not yet let in; None where there is nothing that can be read."""
        return _newest(self._read((self.volume, self.here)))

    def used(self) -> Handover | None:
        """What clients held that were let in, to be compared; None where there is nothing that can be read."""
        return _newest(self._read((_used(self.volume), _used(self.here))))

    def forget(self) -> None:
        """Raises OSError."""
        for path in self._all:
            path.unlink(missing_ok=True)

    @property
    def _all(self) -> tuple[Path, ...]:
        return (self.volume, self.here, _used(self.volume), _used(self.here))

    def _read(self, paths: tuple[Path, ...]) -> Iterator[Handover]:
        for path in paths:
            with contextlib.suppress(OSError, BadHandover):
                yield read_handover(path)


def _newest(found: Iterable[Handover]) -> Handover | None:
    return max(found, key=lambda each: each.at, default=None)


def _used(path: Path) -> Path:
    return path.with_suffix(".used")


def to_json(handover: Handover) -> str:
    return json.dumps(converter().unstructure(handover), separators=(",", ":"))


def from_json(text: str) -> Handover:
    """Raises BadHandover."""
    try:
        return converter().structure(json.loads(text), Handover)
    except Exception as error:
        raise BadHandover(f"not a handover: {type(error).__name__}") from error
