"""Carrying out one order on this node. Every act can be done again; whether it brought what it should is looked up
afterwards by the caller, never taken from an exit status."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labstore.failover.observe import NFSDCLD, TROUBLE, Observer, Tools
from labstore.failover.places import Places
from labstore.failover.reclaim import Reclaim
from labstore.failover.steps import title
from labstore.failover.storage import Storage
from labstore.formats.nfsd_clients import BadClient
from labstore.model.address import Client
from labstore.model.failover import Pair
from labstore.ports.host import Command, CommandFailed
from labstore.ports.storage_node import Do, Order, Said
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import AddressTaken, NotJournaled, StepNotDone
from labstore.reports.report import Report
from labstore.system.address import AddressFailed, Interface
from labstore.system.client_records import put_aside, put_back
from labstore.system.files import write_atomic
from labstore.system.mounts import MountFailed
from labstore.system.nfs_probe import NfsProbe, ProbeFailed
from labstore.system.nfsd import PORT, SERVER, NoAnswer, identity

ANNOUNCEMENTS = (0.2, 0.2, 0.2, 0.2)
"""Seconds between the announcements of an address that follow the first at once."""
RETRY = 0.2
FAILURES = (*TROUBLE, MountFailed, ProbeFailed, BadClient, NoAnswer)


@dataclass
class Hands:
    """Acts on this node, with what it needs to remember between two acts of one run."""

    observer: Observer
    storage: Storage = field(init=False)
    reclaim: Reclaim = field(init=False)

    def __post_init__(self) -> None:
        self.storage = Storage(self.observer)
        self.reclaim = Reclaim(self.observer)

    @property
    def pair(self) -> Pair:
        return self.observer.pair

    @property
    def places(self) -> Places:
        return self.observer.places

    @property
    def tools(self) -> Tools:
        return self.observer.tools

    def act(self, order: Order) -> Said:
        """See ports.storage_node.StorageNode. Raises StepFailed."""
        try:
            return self._acts[order.do](order)
        except FAILURES as error:
            raise StepFailed(StepNotDone(str(self.pair.node), title(order), str(error))) from error

    @property
    def _acts(self) -> Mapping[Do, Callable[[Order], Said]]:
        return {
            Do.STOP_UNITS: self._stop_units,
            Do.BLOCK: self._block,
            Do.RECORD: self.reclaim.record,
            Do.STOP_SERVER: self._stop_server,
            Do.STOP_RECOVERY: self._stop_recovery,
            Do.REMOVE_ADDRESSES: self._remove_addresses,
            Do.UNMOUNT: self.storage.unmount,
            Do.DEMOTE: self.storage.demote,
            Do.ATTACH: self.storage.attach,
            Do.PROMOTE: self.storage.promote,
            Do.MOUNT: self.storage.mount,
            Do.BIND: self._bind,
            Do.START_RECOVERY: self._start_recovery,
            Do.PLACE_EXPORTS: self._place_exports,
            Do.START_SERVER: self._start_server,
            Do.ADD_ADDRESSES: self._add_addresses,
            Do.UNBLOCK: self._unblock,
            Do.START_UNITS: self._start_units,
            Do.VERIFY: self._verify,
            Do.CERTIFY: self.reclaim.certify,
            Do.OUTDATE: self.storage.outdate,
            Do.EXAMINE: self.storage.examine,
            Do.KEEP_SNAPSHOT: self.storage.keep_snapshot,
            Do.DISCONNECT: self.storage.disconnect,
            Do.CONNECT: self.storage.connect,
            Do.DISCARD: self.storage.discard,
        }

    # --- units ------------------------------------------------------------------------------------------------------

    def _stop_units(self, _order: Order) -> Said:
        self.places.units.unlink(missing_ok=True)
        self.tools.units.stop(self.tools.units.there(self.pair.settings.units), self.pair.settings.deadlines.units)
        return Said()

    def _start_units(self, _order: Order) -> Said:
        """They are not waited for: clients are served without them. One that fails is seen in the status."""
        _mark(self.places.units)
        units = self.tools.units.there(self.pair.settings.units)
        self.tools.units.start(units, self.pair.settings.deadlines.units, wait=False)
        return Said()

    # --- the network ------------------------------------------------------------------------------------------------

    def _block(self, _order: Order) -> Said:
        """While the barrier was not up clients may have come in: what was kept for them is not what they hold."""
        self.places.verified.unlink(missing_ok=True)
        if self.tools.nfsd.threads() and self.tools.addresses.here() & set(self.pair.cluster.service_addresses):
            with contextlib.suppress(OSError):  # a volume that takes nothing any more
                self.places.records.unlink(missing_ok=True)
                if self.places.handovers.fresh():
                    self.places.handovers.use()
        self.tools.nft.block(self.pair.cluster.service_addresses)
        return Said()

    def _unblock(self, order: Order) -> Said:
        """Clients are let in, told that their old connections are gone, and watched as they take back what they
        held. What was kept for them goes when they are in: cut off before, it is all there for the next run."""
        handover, ours = self.reclaim.handed_over(order.run), set(self.pair.cluster.service_addresses)
        self.places.proof.unlink(missing_ok=True)  # a partner that returns is not off any more
        self.tools.nft.unblock()
        told = self.tools.addresses.tickle(each for each in handover.connections if each.server in ours)
        self.reclaim.begin(handover)
        self.places.records.unlink(missing_ok=True)
        self.places.handovers.use()
        return Said(self._remember(), data={"told": str(told)})

    def _remember(self) -> tuple[Report, ...]:
        """That this node served last. Clients are served also where that cannot be written: after a power cut of both
        nodes a person may then have to say who serves."""
        try:
            self.places.last_active.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            write_atomic(self.places.last_active, f"{self.tools.clock.now().isoformat()}\n".encode())
        except OSError as error:
            return (NotJournaled(str(self.pair.node), str(error)),)
        return ()

    def _add_addresses(self, order: Order) -> Said:
        """Asked for first, unless the partner was just seen to have let go; announced at once, and again."""
        placed: list[tuple[Client, Interface]] = []
        here = self.tools.addresses.here()
        for address in self.pair.cluster.service_addresses:
            interface = self._interface(address)
            if address not in here:
                other = None if order.partner_released else self.tools.addresses.taken_by(address, interface)
                if other is not None:
                    raise StepFailed(AddressTaken(str(address), other))
                self.tools.addresses.add(address, interface)
            self.tools.addresses.announce(address, interface)
            placed.append((address, interface))
        threading.Thread(target=self._announce_again, args=(placed,), daemon=True).start()
        return Said()

    def _announce_later(self) -> None:
        """Once more when this command has long ended: switches forget."""
        command = (self.tools.files.labstore, "failover", "announce", "--cluster", str(self.pair.cluster.name))
        with contextlib.suppress(CommandFailed):
            self.tools.host.run(Command.of("systemd-run", "--collect", "--quiet", "--on-active=30", *command))

    def _interface(self, address: Client) -> Interface:
        named = self.pair.settings.interfaces.get(self.pair.node)
        return self.tools.addresses.interface(named or self.tools.addresses.interface_for(address))

    def _announce_again(self, placed: Iterable[tuple[Client, Interface]]) -> None:
        """One packet may be lost."""
        every = list(placed)
        for pause in ANNOUNCEMENTS:
            self.tools.clock.sleep(pause)
            self._announce(every)

    def _announce(self, placed: Iterable[tuple[Client, Interface]]) -> None:
        """An address that has gone meanwhile is not announced."""
        with contextlib.suppress(AddressFailed):
            here = self.tools.addresses.here()
            for address, interface in placed:
                if address in here:
                    self.tools.addresses.announce(address, interface)

    def announce(self) -> None:
        """Tell the network once more where the service addresses are, if they are here."""
        with contextlib.suppress(AddressFailed):
            self._announce([(each, self._interface(each)) for each in self.pair.cluster.service_addresses])

    def _remove_addresses(self, _order: Order) -> Said:
        for address in self.pair.cluster.service_addresses:
            self.tools.addresses.remove(address)
        return Said()

    # --- NFS --------------------------------------------------------------------------------------------------------

    def _stop_server(self, _order: Order) -> Said:
        """Connections are ended first, behind the barrier: what lay in the kernel as half closed for minutes could
        meet the same client when the address comes back. nfsdcld goes along, after the server (systemd orders them
        so): one call in place of two."""
        self.places.verified.unlink(missing_ok=True)
        for address in self.pair.cluster.service_addresses:
            kill = Command.of("ss", "--kill", "--tcp", "state", "connected", "src", f"{_bracketed(address)}:{PORT}")
            with contextlib.suppress(CommandFailed):
                self.tools.host.run(kill)
        self.tools.nfsd.stop(SERVER, NFSDCLD, deadline=self.pair.settings.deadlines.server)
        self.places.serving.unlink(missing_ok=True)
        if self.tools.nfsd.cached_paths():
            self.tools.nfsd.forget_exports()
        return Said()

    def _start_server(self, _order: Order) -> Said:
        """A server that runs under another name would cost every lock at the next move, and one whose grace period
        passed while clients were kept out costs them now: it is started anew. So is one whose threads were ended by
        hand: its unit takes it for started (RemainAfterExit), and does nothing."""
        deadline = self.pair.settings.deadlines.server
        missed = self.places.records.exists() and not self.tools.nfsd.in_grace()
        said: tuple[Report, ...] = ()
        if self.tools.nfsd.threads() and (missed or self._scope() != self.pair.settings.scope):
            said = self._stop_to_start()
        if not self.tools.nfsd.threads():
            self._keep_records()
        self.places.verified.unlink(missing_ok=True)
        _mark(self.places.serving)
        self.tools.nfsd.start(SERVER, deadline)
        if not self.tools.nfsd.threads():
            said = self._stop_to_start()
            self.tools.nfsd.start(SERVER, deadline)
        return Said(said)

    def _stop_to_start(self) -> tuple[Report, ...]:
        """Stopping it empties mountd's table (nfs-server.service, ExecStopPost), which is filled again before it
        answers."""
        self.tools.nfsd.stop(SERVER, deadline=self.pair.settings.deadlines.server)
        return self.tools.exports.put_in_place()

    def _scope(self) -> str | None:
        """None where it does not answer."""
        with contextlib.suppress(NoAnswer):
            return identity("127.0.0.1").scope
        return None

    def _keep_records(self) -> None:
        """What is there from an earlier start, after which nobody was let in, is what clients may still reclaim."""
        aside, directory = self.places.records, self.pair.recovery_directory
        if not aside.exists():
            with contextlib.suppress(OSError, sqlite3.Error):  # the volume may be full; this only helps the killed
                put_aside(directory, aside)
            return
        self.tools.units.stop([NFSDCLD], self.pair.settings.deadlines.server)
        put_back(aside, directory)
        self.tools.units.start([NFSDCLD], self.pair.settings.deadlines.server)

    def _stop_recovery(self, _order: Order) -> Said:
        """It mostly went with the server."""
        if self.tools.nfsd.pids(NFSDCLD):
            self.tools.units.stop([NFSDCLD], self.pair.settings.deadlines.server)
        return Said()

    def _start_recovery(self, _order: Order) -> Said:
        """One that has its records elsewhere is ended first."""
        if self.tools.nfsd.pids(NFSDCLD):
            self.tools.units.stop([NFSDCLD], self.pair.settings.deadlines.server)
        self.tools.units.start([NFSDCLD], self.pair.settings.deadlines.server)
        return Said()

    def _bind(self, _order: Order) -> Said:
        return Said(self.tools.tree.put_in_place())

    def _place_exports(self, _order: Order) -> Said:
        return Said(self.tools.exports.put_in_place())

    def _verify(self, _order: Order) -> Said:
        """As a client would: first what is granted in the grace period too, then, after it, a write and a lock."""
        said = self._remember()  # again, for a run that was killed as it had let clients in
        self._announce_later()
        probe, clock = NfsProbe(self.tools.host), self.tools.clock
        for address in self.pair.cluster.service_addresses:
            probe.look(address, self.pair.canary, self.places.probe)
        ends = clock.monotonic() + self.pair.settings.deadlines.verify
        while self.tools.nfsd.in_grace() and clock.monotonic() < ends:
            clock.sleep(RETRY)
        for address in self.pair.cluster.service_addresses:
            probe.use(address, self.pair.canary, self.places.probe, secrets.token_hex(8), str(self.pair.node))
        _mark(self.places.verified)
        return Said(said)


def _mark(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.touch()


def _bracketed(address: Client) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
