"""What clients hold: written down behind the barrier, watched as it comes back, and certified."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from labstore.failover.certificate import Certificate, Watch, certificate
from labstore.failover.handover import BadHandover, Handover
from labstore.failover.observe import Observer
from labstore.formats.nfsd_clients import BadClient
from labstore.model.nfsd import ClientStatus, NfsClient
from labstore.ports.storage_node import Order, Said
from labstore.reconcile.codec import converter
from labstore.reports.failover import LocksNotCarried
from labstore.reports.report import Report
from labstore.system.files import FileTooLarge, make_directory, read_limited, write_atomic
from labstore.system.nfsd import Nfsd, recorded_clients

SAMPLES = 0.2
"""Seconds between two looks at what clients got back."""
SETTLE = 3.0
"""Seconds that are waited after the grace period for clients to open what they had: reclaims come before it ends."""


class Watcher(threading.Thread):
    """Looks at the server's clients again and again, from the moment they are let in."""

    def __init__(self, nfsd: Nfsd, handover: Handover) -> None:
        super().__init__(daemon=True)
        self.watch = Watch()
        self._nfsd, self._handover = nfsd, handover
        self._ended = threading.Event()
        self.complete = False

    def run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, BadClient, ValueError):
                self.watch.see(self._nfsd.clients())
                if self.watch.all_back(self._handover) or self._nfsd.in_grace() is False:
                    self.watch.see(self._nfsd.clients())
                    self.complete = True
                    return
            self._ended.wait(SAMPLES)

    def finish(self, deadline: float) -> None:
        """Wait for the end of the watch, at most so many seconds."""
        self.join(deadline)
        self._ended.set()
        self.join(5.0)


@dataclass
class Reclaim:
    observer: Observer
    _watcher: Watcher | None = field(default=None, init=False)

    def record(self, order: Order) -> Said:
        """Exact, since the barrier is up. A state volume that cannot take it (it is full) does not stop the move. A
        server that no client has come back to since it was started holds what was handed to it."""
        tools, files = self.observer.tools, self.observer.places.handovers
        handover = Handover(
            node=str(self.observer.name),
            at=tools.clock.now().isoformat(),
            run=order.run,
            clients=tuple(each for each in tools.nfsd.clients() if each.status is not ClientStatus.UNCONFIRMED),
            connections=tools.nfsd.connections(),
        )
        if not handover.clients and files.take_back():
            return Said(data={"clients": "0"})
        failed = files.write(handover)
        if failed:
            why = f"what clients held could not be written to the state volume: {failed}"
            return Said((LocksNotCarried(str(self.observer.name), why),))
        return Said(data={"clients": str(len(handover.clients))})

    def begin(self, handover: Handover) -> Watcher:
        """Watch from now on, to compare with this."""
        self._watcher = Watcher(self.observer.tools.nfsd, handover)
        self._watcher.start()
        return self._watcher

    def handed_over(self, run: str) -> Handover:
        """What the other node wrote down; else, after it died without a word, the names of its clients."""
        return self.observer.places.handovers.handed_over() or self._recorded(run)

    def _recorded(self, run: str) -> Handover:
        names: tuple[str, ...] = ()
        with contextlib.suppress(OSError, sqlite3.Error):
            names = recorded_clients(self.observer.pair.recovery_directory)
        return Handover("", "", run, tuple(NfsClient(id="", name=name, address="") for name in names))

    def certify(self, order: Order) -> Said:
        """Wait until clients have what they had or the grace period is over; compare, keep, forget the handover."""
        places, tools = self.observer.places, self.observer.tools
        handover = places.handovers.used() or self.handed_over(order.run)
        # without a watcher an earlier run was cut off: what is held now is what there is to see
        watcher = self._watcher or self.begin(handover)
        watcher.finish(self.observer.pair.settings.grace + SETTLE)
        now = tools.clock.now()
        seconds = (now - datetime.fromisoformat(handover.at)).total_seconds() if handover.at else None
        found = certificate(handover, watcher.watch, str(self.observer.name), watcher.complete, seconds)
        write_certificate(places.certificates / f"{now:%Y%m%dT%H%M%SZ}.json", found)
        places.handovers.forget()
        self._watcher = None
        return Said(self._reports(found), {"certificate": words(found)})

    def _reports(self, found: Certificate) -> tuple[Report, ...]:
        if found.lossless:
            return ()
        (opens, opens_back), (locks, locks_back) = found.opens, found.locks
        why = f"{locks - locks_back} of {locks} locks and {opens - opens_back} of {opens} opens did not come back"
        return (LocksNotCarried(str(self.observer.name), why),)


def words(found: Certificate) -> str:
    """One line for people."""
    (opens, opens_back), (locks, locks_back) = found.opens, found.locks
    whole = "" if found.complete else ", watched for too short a time"
    return (
        f"{len(found.lines)} clients; opens {opens_back} of {opens}, locks {locks_back} of {locks} carried over{whole}"
    )


def write_certificate(path: Path, found: Certificate) -> None:
    make_directory(path.parent, 0o700)
    write_atomic(path, json.dumps(converter().unstructure(found), indent=1).encode(), mode=0o600)


def read_certificate(path: Path) -> Certificate:
    """Raises OSError, BadHandover."""
    try:
        return converter().structure(json.loads(read_limited(path, 64 << 20)), Certificate)
    except OSError:
        raise
    except (FileTooLarge, Exception) as error:
        raise BadHandover(f"{path}: not a certificate: {type(error).__name__}") from error
