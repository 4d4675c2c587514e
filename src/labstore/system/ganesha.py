"""NFS-Ganesha, driven over D-Bus: org.ganesha.nfsd.exportmgr of 4.3, one typed function per use.

SIGHUP is not used: it takes away an export whose block has any fault, says nothing on completion, and a syntax error
has ended the server (measured).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from jeepney import DBusAddress  # type: ignore[import-untyped]

from labstore.formats.ganesha_dbus import (
    BadReply,
    Listed,
    LiveExport,
    NotAllTaken,
    count_taken,
    export_shown,
    exports_listed,
)
from labstore.ports.clock import Clock
from labstore.system.dbus import SYSTEM_BUS, Answer, Bus, BusFailed, CallFailed

NAME = "org.ganesha.nfsd"
DEADLINE = 30.0
"""Seconds for a call or a batch of reading calls: 5,000 exports are read in 1.5 s."""
BUSY_PAUSE = 0.05

_EXPORTS = DBusAddress("/org/ganesha/nfsd/ExportMgr", bus_name=NAME, interface="org.ganesha.nfsd.exportmgr")
_ADMIN = DBusAddress("/org/ganesha/nfsd/admin", bus_name=NAME, interface="org.ganesha.nfsd.admin")
_ALL = "EXPORT(Export_Id=*)"
"""Selects every block of a file (config_parsing.c, find_config_nodes)."""


class Failure(StrEnum):
    UNREACHABLE = "the message bus cannot be reached"
    ENDED = "the server ended in the middle of it"
    SILENT = "the server did not answer in time"
    UNKNOWN_ID = "the server has no such export"
    REFUSED = "the server refused"
    GARBLED = "the answer cannot be read"


class GaneshaFailed(Exception):
    """`method` is what was called, `failure` how it failed, `said` the words that came with it."""

    def __init__(self, method: str, failure: Failure, said: str) -> None:
        self.method, self.failure, self.said = method, failure, said
        super().__init__(f"{method}: {failure.value}: {said[:500]}")


@dataclass(frozen=True)
class Ganesha:
    """One server, on the bus behind `bus`. `deadline` in seconds."""

    clock: Clock
    bus: Path = SYSTEM_BUS
    deadline: float = DEADLINE
    _seen: dict[int, tuple[bytes, LiveExport]] = field(default_factory=dict, init=False, compare=False, repr=False)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Session]:
        """A connection for a few calls. Raises GaneshaFailed; a bus that cannot be reached says nothing about the
        server, so that is a failure too, not an absent server."""
        with _explained("connect"):
            bus = Bus(self.bus, self.deadline)
        try:
            yield Session(bus, self.clock, self.deadline, self._seen)
        finally:
            bus.close()


class Session:
    """Calls over one connection. Every function raises GaneshaFailed. `seen` keeps, by id, the last answer about an
    export and what it meant, since most answers are the same as the last time."""

    def __init__(self, bus: Bus, clock: Clock, deadline: float, seen: dict[int, tuple[bytes, LiveExport]]) -> None:
        self._bus, self._clock, self._deadline, self._seen = bus, clock, deadline, seen

    def running(self) -> bool:
        """Whether a server has the name on the bus. One that is still reading its exports answers when it is done."""
        with _explained("NameHasOwner"):
            return self._bus.has_owner(NAME)

    def listed(self) -> tuple[Listed, ...]:
        """Every export with its pseudo path, also the pseudo root (id 0)."""
        with _explained("ShowExports"):
            return exports_listed(self._bus.call(_EXPORTS, "ShowExports"))

    def shown(self, ids: Sequence[int]) -> tuple[LiveExport, ...]:
        """These exports with all their clients. Raises with UNKNOWN_ID where one is not there."""
        with _explained("DisplayExport"):
            answers = self._bus.call_all(_EXPORTS, "DisplayExport", "q", [(number,) for number in ids])
            return tuple(self._export(number, answer) for number, answer in zip(ids, answers, strict=True))

    def add(self, file: Path, count: int) -> None:
        """Serve the `count` exports of this file, none of which is there yet. May have served some when it raises."""
        self._take("AddExport", file, count)

    def update(self, file: Path, count: int) -> None:
        """Give the `count` exports of this file their new clients, each in one moment; open files of clients that stay
        are not disturbed. Path, pseudo path and Filesystem_Id cannot be changed so (4.3: the first and the last are
        refused, the second is taken and then answered wrongly)."""
        self._take("UpdateExport", file, count)

    def remove(self, number: int) -> None:
        """Serve this export no longer: the next call of any client gets NFS4ERR_STALE."""
        self._patiently("RemoveExport", "q", (number,))

    def in_grace(self) -> bool:
        """Whether clients can only reclaim what they held before the server's restart."""
        with _explained("get_grace"):
            return bool(self._bus.call(_ADMIN, "get_grace")[0])

    def _export(self, number: int, answer: Answer) -> LiveExport:
        packed, export = self._seen.get(number, (b"", None))
        if export is None or packed != answer.packed:
            export = export_shown(answer.body())
            self._seen[number] = (answer.packed, export)
        return export

    def _take(self, method: str, file: Path, count: int) -> None:
        body = self._patiently(method, "ss", (str(file), _ALL))
        with _explained(method):
            taken = count_taken(body)
            if taken != count:
                raise NotAllTaken(f"took {taken} of {count} exports")

    def _patiently(self, method: str, signature: str, body: tuple[object, ...]) -> object:
        """Call; while another change is under way (a SIGHUP from somebody else), try again until the deadline."""
        until = self._clock.monotonic() + self._deadline
        while True:
            try:
                with _explained(method):
                    return self._bus.call(_EXPORTS, method, signature, body)
            except GaneshaFailed as failed:
                if "try again later" not in failed.said or self._clock.monotonic() >= until:
                    raise
            self._clock.sleep(BUSY_PAUSE)


@contextlib.contextmanager
def _explained(method: str) -> Iterator[None]:
    try:
        yield
    except BusFailed as error:
        raise GaneshaFailed(method, Failure.SILENT if error.late else Failure.UNREACHABLE, str(error)) from error
    except CallFailed as error:
        raise GaneshaFailed(method, _failure(error), error.said or error.name) from error
    except NotAllTaken as error:
        raise GaneshaFailed(method, Failure.REFUSED, error.said) from error
    except BadReply as error:
        raise GaneshaFailed(method, Failure.GARBLED, str(error)) from error


def _failure(error: CallFailed) -> Failure:
    if error.name.endswith((".NoReply", ".ServiceUnknown", ".NameHasNoOwner", ".Disconnected")):
        return Failure.ENDED
    if re.search("Export id not found", error.said):
        return Failure.UNKNOWN_ID
    return Failure.REFUSED
