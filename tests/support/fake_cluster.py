"""Two nodes as an explicit model: DRBD roles and data, mounts, nfsd, addresses, rules. What a real pair refuses, this
refuses; what must never be is checked after every single change of the world; and a run can be killed at each."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from labstore.failover.steps import key
from labstore.model.address import Client
from labstore.model.drbd import (
    ConnectionState,
    DeviceStatus,
    DiskState,
    Generations,
    ReplicationState,
    ResourceName,
    ResourceStatus,
    Role,
)
from labstore.model.failover import Pair
from labstore.model.names import HostName, VolumeName
from labstore.ports.storage_node import (
    EVERYTHING,
    Aspect,
    BarrierFound,
    BindsFound,
    Do,
    Entry,
    ExportsFound,
    FilesFound,
    HandoverFound,
    MountFound,
    MountState,
    NodeFacts,
    Order,
    RecoveryFound,
    RunsFound,
    Said,
    ServerFound,
    Taken,
    UnitsFound,
    VerifiedFound,
)
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import AddressTaken, MountBusy, NodeUnreachable, NotJournaled, StepNotDone
from labstore.reports.report import Report
from labstore.system.journal import unfinished
from labstore.system.locks import Locked
from tests.support.fake_clock import FakeClock


class Killed(BaseException):
    """kill -9: nothing after this happens, nothing is cleaned up."""


class Forbidden(AssertionError):
    """The world is as it must never be."""


@dataclass
class Disk:
    """One side's copy: which writes it has, and its generation ids, newest first."""

    state: DiskState = DiskState.UP_TO_DATE
    writes: frozenset[int] = frozenset()
    ids: tuple[int, ...] = (1,)


@dataclass
class Machine:
    """Everything a node has. `disks`, `journal` and `mark` survive a power cut; the rest does not."""

    alive: bool = True
    attached: bool = True
    alone: set[ResourceName] = field(default_factory=set)
    giving_up: set[ResourceName] = field(default_factory=set)
    newest: str = ""
    snapshots: list[str] = field(default_factory=list)
    roles: dict[ResourceName, Role] = field(default_factory=dict)
    disks: dict[ResourceName, Disk] = field(default_factory=dict)
    mounted: set[VolumeName] = field(default_factory=set)
    holders: dict[VolumeName, str] = field(default_factory=dict)
    threads: int = 0
    mountd: bool = False
    binds: bool = False
    recovery: bool = False
    exports: bool = False
    addresses: set[Client] = field(default_factory=set)
    barrier: set[Client] = field(default_factory=set)
    units: bool = False
    allowed: bool = False
    verified: bool = False
    journal: list[Entry] = field(default_factory=list)
    held: bool = False
    stuck: bool = False
    disk_full: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Written:
    """What clients of `node` held; `used` once clients were let in with it."""

    node: HostName
    used: bool = False


class World:
    """The pair. `tick` is called before every change; it is where a run can be killed."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.clock = FakeClock()
        self.machines = {node.name: self._machine() for node in pair.cluster.nodes}
        self.link = True
        self.network = True
        self.handover: Written | None = None
        self.aside = False
        """Whether clients' records were put aside, on the state volume, when the server was started."""
        self.acknowledged: frozenset[int] = frozenset()
        self.ticks = 0
        self.kill_at: int | None = None
        self.log: list[str] = []
        self._ids = itertools.count(2)
        self._writes = itertools.count(1)

    def _machine(self) -> Machine:
        names = [resource.name for resource in self.pair.settings.replication.resources]
        return Machine(roles=dict.fromkeys(names, Role.SECONDARY), disks={name: Disk() for name in names})

    @property
    def resources(self) -> tuple[ResourceName, ...]:
        return tuple(resource.name for resource in self.pair.settings.replication.resources)

    def node(self, name: HostName) -> FakeNode:
        return FakeNode(self, name)

    def other(self, name: HostName) -> HostName:
        return next(each for each in self.machines if each != name)

    def tick(self, what: str) -> None:
        """A moment between two changes."""
        self.check()
        if self.kill_at is not None and self.ticks == self.kill_at:
            self.kill_at = None
            raise Killed(what)
        self.ticks += 1
        self.log.append(what)

    def log_of(self, act: Callable[[], object]) -> tuple[str, ...]:
        """The moments that pass in this while."""
        before = len(self.log)
        act()
        return tuple(self.log[before:])

    # --- what must never be -----------------------------------------------------------------------------------------

    def check(self) -> None:
        service = set(self.pair.cluster.service_addresses)
        volumes = {volume.name for volume in self.pair.volumes}
        writers = [name for name, m in self.machines.items() if m.alive and m.mounted]
        if len(writers) > 1:
            raise Forbidden(f"both have volumes mounted: {writers}")
        if self.link:
            for resource in self.resources:
                primaries = [n for n, m in self.machines.items() if m.alive and m.roles[resource] is Role.PRIMARY]
                if len(primaries) > 1 and all(self.connected(n, resource) for n in primaries):
                    raise Forbidden(f"two primaries of {resource}")
        holders = [name for name, m in self.machines.items() if m.alive and m.addresses & service]
        if len(holders) > 1:
            raise Forbidden("the service address is on both")
        for name, m in self.machines.items():
            if not m.alive:
                continue
            if m.addresses & service and not m.barrier >= service and not (m.exports and m.mounted == volumes):
                raise Forbidden(f"{name} has the address without exports or mounts")
            if m.threads and m.mounted != volumes:
                raise Forbidden(f"{name} runs nfsd on empty directories")
            if m.threads and self.pair.cluster.export_root is not None and not m.binds:
                raise Forbidden(f"{name} exports from an empty tree")
            if m.threads and not m.exports:
                raise Forbidden(f"{name} answers before its exports are loaded")
            if m.addresses & service and not m.barrier >= service and not m.threads:
                raise Forbidden(f"{name} refuses connections at the service address")
            if m.threads and not m.recovery:
                raise Forbidden(f"{name} runs nfsd without its recovery database")
            for resource in self.pair.settings.replication.resources:
                if resource.volume in m.mounted and m.roles[resource.name] is not Role.PRIMARY:
                    raise Forbidden(f"{name} has {resource.volume} mounted and is Secondary")

    def serving(self) -> HostName | None:
        """The node from which a client gets answers."""
        for name, m in self.machines.items():
            if m.alive and m.addresses and m.threads and not m.barrier and m.exports:
                return name
        return None

    # --- DRBD -------------------------------------------------------------------------------------------------------

    def connected(self, name: HostName, resource: ResourceName) -> bool:
        ends = [self.machines[name], self.machines[self.other(name)]]
        return self.link and all(m.alive and m.attached and resource not in m.alone for m in ends)

    def write(self) -> None:
        """A client writes and fsyncs, if somebody serves."""
        active = self.serving()
        if active is None:
            return
        number = next(self._writes)
        for resource in self.resources:
            mine, other = self.machines[active].disks[resource], self.machines[self.other(active)].disks[resource]
            mine.writes |= {number}
            if self.connected(active, resource) and other.state is DiskState.UP_TO_DATE:
                other.writes |= {number}
            elif not self.connected(active, resource):
                self._alone(mine)
        self.acknowledged |= {number}

    def _alone(self, disk: Disk) -> None:
        """Written while the partner is away: a new generation, once per parting."""
        if disk.ids[0] % 2 == 0 or len(disk.ids) == 1 or disk.ids[0] == self._shared_id(disk):
            disk.ids = (next(self._ids) * 2 + 1, *disk.ids)

    def _shared_id(self, disk: Disk) -> int:
        for m in self.machines.values():
            for each in m.disks.values():
                if each is not disk and each.ids[0] == disk.ids[0]:
                    return disk.ids[0]
        return -1

    def cut_link(self) -> None:
        """The replication link goes. A primary outdates its partner over the other network, if that can be."""
        if not self.link:
            return
        self.link = False
        for name, m in self.machines.items():
            for resource in self.resources:
                if m.alive and m.roles[resource] is Role.PRIMARY:
                    self.fence(name, resource)

    def fence(self, name: HostName, resource: ResourceName) -> bool:
        """What our handler does: outdate the partner's disk; whether that could be done."""
        partner = self.machines[self.other(name)]
        if not (self.network and partner.alive and partner.attached) or partner.roles[resource] is Role.PRIMARY:
            return False
        if partner.disks[resource].state is DiskState.UP_TO_DATE:
            partner.disks[resource].state = DiskState.OUTDATED
        return True

    def heal_link(self) -> None:
        self.link = True
        self.meet()

    def meet(self) -> None:
        """Both see each other again: the newer side is copied; two that parted stand alone."""
        first, second = self.machines.values()
        if not (self.link and first.alive and second.alive and first.attached and second.attached):
            return
        for resource in self.resources:
            if resource in first.alone or resource in second.alone:
                continue
            a, b = first.disks[resource], second.disks[resource]
            if a.ids[0] == b.ids[0]:
                source = a if a.state is DiskState.UP_TO_DATE else b
                a.state = b.state = source.state
            elif b.ids[0] in a.ids:
                self._copy(a, b)
            elif a.ids[0] in b.ids or resource in first.giving_up:
                self._copy(b, a)
            elif resource in second.giving_up:
                self._copy(a, b)
            else:
                first.alone.add(resource)
                second.alone.add(resource)

    def unseen(self) -> bool:
        """Whether acknowledged writes are on one side alone although the other takes itself for the newest: nobody
        could outdate it."""
        first, second = self.machines.values()
        both = [(first.disks[name], second.disks[name]) for name in self.resources]
        return any(a.ids[0] != b.ids[0] and a.state is b.state is DiskState.UP_TO_DATE for a, b in both)

    def _copy(self, source: Disk, target: Disk) -> None:
        target.writes, target.ids, target.state = source.writes, source.ids, DiskState.UP_TO_DATE
        source.state = DiskState.UP_TO_DATE

    # --- power ------------------------------------------------------------------------------------------------------

    def power_off(self, name: HostName) -> None:
        """The plug is pulled: what is not on disk is gone. A primary left alone outdates nobody."""
        old = self.machines[name]
        self.machines[name] = Machine(
            alive=False,
            attached=False,
            roles=dict.fromkeys(self.resources, Role.SECONDARY),
            disks=old.disks,
            journal=old.journal,
            mark=old.mark,
        )

    def boot(self, name: HostName) -> None:
        """As the boot unit does: DRBD is attached, nothing else."""
        m = self.machines[name]
        if not m.alive:
            m.alive = m.attached = True
            self.meet()


@dataclass
class FakeNode:
    """See ports.storage_node.StorageNode."""

    world: World
    host: HostName
    reached_over_network: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> HostName:
        return self.host

    @property
    def me(self) -> Machine:
        return self.world.machines[self.host]

    def over_network(self) -> FakeNode:
        """The same node as its partner reaches it."""
        return replace(self, reached_over_network=True)

    def _reach(self) -> None:
        if not self.me.alive or (self.reached_over_network and not self.world.network):
            raise StepFailed(NodeUnreachable(str(self.host), "no answer"))

    # --- looking ----------------------------------------------------------------------------------------------------

    def look(self, aspects: frozenset[Aspect] = EVERYTHING) -> NodeFacts:
        self._reach()
        now = self.world.clock.now()
        asked = {aspect.value: Fact(self._found[aspect](), aspect.value, now) for aspect in aspects}
        return NodeFacts(self.host, now, "boot", **asked)  # type: ignore[arg-type]

    @property
    def _found(self) -> Mapping[Aspect, Callable[[], object]]:
        me, world = self.me, self.world
        state_mounted = world.pair.settings.state in me.mounted
        return {
            Aspect.REPLICATION: lambda: {name: self._status(name) for name in world.resources} if me.attached else {},
            Aspect.GENERATIONS: lambda: {name: _generations(me.disks[name]) for name in world.resources},
            Aspect.MOUNTS: lambda: {volume.name: self._mount(volume.name) for volume in world.pair.volumes},
            Aspect.BINDS: lambda: BindsFound(1, () if me.binds else ("/exp/project/tools",)),
            Aspect.SERVER: lambda: ServerFound(
                me.threads, me.mountd, str(world.pair.settings.scope) if me.threads else None
            ),
            Aspect.RECOVERY: lambda: RecoveryFound(
                me.recovery, me.recovery and state_mounted, kept=state_mounted and world.aside
            ),
            Aspect.EXPORTS: lambda: (
                ExportsFound(1, 1, 1, 0, canary=True) if me.exports and state_mounted else ExportsFound()
            ),
            Aspect.ADDRESSES: lambda: frozenset(me.addresses),
            Aspect.BARRIER: lambda: BarrierFound(frozenset(me.barrier)),
            Aspect.UNITS: lambda: UnitsFound(
                frozenset(map(str, world.pair.settings.units)) if me.units else frozenset(), frozenset(), me.allowed
            ),
            Aspect.HANDOVER: lambda: HandoverFound(
                state_mounted and world.handover is not None and not world.handover.used,
                state_mounted and world.handover is not None,
                state_mounted,
            ),
            Aspect.VERIFIED: lambda: VerifiedFound(me.verified),
            Aspect.RUNS: self._runs,
            Aspect.FILES: lambda: FilesFound(world.pair.digest, "1"),
        }

    def _runs(self) -> RunsFound:
        entries, running = unfinished(self.me.journal), "a run" if self.me.held else ""
        if not entries:
            return RunsFound(running, last_active=self.me.mark)
        return RunsFound(running, entries[0].data["verb"], entries[-1].step, entries[0].at, self.me.mark)

    def _mount(self, volume: VolumeName) -> MountFound:
        if volume in self.me.mounted:
            return MountFound(MountState.RIGHT, alive=True)
        return MountFound(MountState.ABSENT)

    def _status(self, name: ResourceName) -> ResourceStatus:
        me, world = self.me, self.world
        connected = world.connected(self.host, name)
        partner = world.machines[world.other(self.host)]
        connection = ConnectionState.CONNECTING
        if name in me.alone:
            connection = ConnectionState.STAND_ALONE
        elif connected:
            connection = ConnectionState.CONNECTED
        device = DeviceStatus(
            volume=0,
            minor=0,
            disk=me.disks[name].state,
            peer_disk=partner.disks[name].state if connected else DiskState.UNKNOWN,
            replication=ReplicationState.ESTABLISHED if connected else ReplicationState.OFF,
        )
        return ResourceStatus(
            name, me.roles[name], connection, partner.roles[name] if connected else Role.UNKNOWN, (device,)
        )

    # --- acting -----------------------------------------------------------------------------------------------------

    def act(self, order: Order) -> Said:
        self._reach()
        if order.do is Do.EXAMINE:
            return Said(data={"newest": self.me.newest})
        if order.do is Do.KEEP_SNAPSHOT:
            self.me.snapshots.append(order.subject)
            return Said()
        for change in self._changes(order):
            self.world.tick(f"{self.host}: act {key(order)}")
            change()
            self.world.check()
        self.world.tick(f"{self.host}: after {key(order)}")
        return Said()

    def _fail(self, order: Order, reason: str) -> StepFailed:
        return StepFailed(StepNotDone(str(self.host), order.do.value, reason))

    def _changes(self, order: Order) -> Iterator[Callable[[], None]]:
        me = self.me
        service = self.world.pair.cluster.service_addresses

        def put(**values: object) -> Callable[[], None]:
            def change() -> None:
                for name, value in values.items():
                    setattr(me, name, value)

            return change

        if order.do is Do.STOP_UNITS:
            yield put(allowed=False)
            yield put(units=False)
        elif order.do is Do.START_UNITS:
            yield put(allowed=True)
            yield put(units=True)
        elif order.do is Do.BLOCK:
            yield put(verified=False)
            if me.threads and me.addresses:
                yield self._use_handover
                yield lambda: setattr(self.world, "aside", False)
            yield put(barrier=set(service))
        elif order.do is Do.UNBLOCK:
            yield put(barrier=set())
            yield lambda: setattr(self.world, "aside", False)
            yield self._use_handover
            yield put(mark=self.world.clock.now().isoformat())
        elif order.do is Do.RECORD:
            if not me.barrier >= set(service):
                raise Forbidden("what clients hold is written down while they go on")
            yield lambda: setattr(self.world, "handover", Written(self.host))
        elif order.do is Do.CERTIFY:
            yield lambda: setattr(self.world, "handover", None)
        elif order.do is Do.STOP_SERVER:
            if me.threads and not self._found[Aspect.HANDOVER]().recorded:  # type: ignore[attr-defined]
                raise Forbidden("clients lose their locks and nobody has written them down")
            yield put(verified=False)
            if not me.stuck:
                yield put(threads=0)
            yield put(mountd=False)
        elif order.do is Do.START_SERVER:
            yield put(verified=False)
            yield put(mountd=True)
            yield lambda: setattr(self.world, "aside", True)
            yield put(threads=8)
        elif order.do is Do.STOP_RECOVERY:
            yield put(recovery=False)
        elif order.do is Do.START_RECOVERY:
            if self.world.pair.settings.state not in me.mounted:
                raise self._fail(order, "its directory is not there")
            yield put(recovery=True)
        elif order.do is Do.REMOVE_ADDRESSES:
            yield put(addresses=set())
        elif order.do is Do.ADD_ADDRESSES:
            partner = self.world.machines[self.world.other(self.host)]
            if self.world.network and partner.alive and partner.addresses:
                raise StepFailed(AddressTaken(str(service[0]), "the partner"))
            if not (me.threads and me.exports):
                raise Forbidden("an address for a node that cannot serve")
            yield put(addresses=set(service))
        elif order.do is Do.PLACE_EXPORTS:
            if self.world.pair.settings.state not in me.mounted:
                raise self._fail(order, "there is no history")
            yield put(exports=True)
        elif order.do is Do.VERIFY:
            if self.world.serving() != self.host:
                raise self._fail(order, "it cannot be mounted")
            yield put(mark=self.world.clock.now().isoformat())
            yield put(verified=True)
        else:
            yield from self._storage(order)

    def _use_handover(self) -> None:
        written = self.world.handover
        self.world.handover = None if written is None else replace(written, used=True)

    def _storage(self, order: Order) -> Iterator[Callable[[], None]]:
        me, world = self.me, self.world
        if order.do is Do.UNMOUNT:
            volume = VolumeName(order.subject)
            if me.threads or me.units or me.recovery or (volume in me.holders and not order.evict):
                raise StepFailed(MountBusy(str(self.host), volume, me.holders.get(volume, "the NFS server")))
            me.holders.pop(volume, None)
            yield put_away(me)
            yield lambda: me.mounted.discard(volume)
            if world.pair.settings.state == volume:
                yield lambda: setattr(me, "exports", False)
        elif order.do is Do.MOUNT:
            resource = world.pair.settings.replication.resource_of(VolumeName(order.subject))
            if me.roles[resource.name] is not Role.PRIMARY:
                raise self._fail(order, "the device is Secondary")
            yield lambda: me.mounted.add(resource.volume)
        elif order.do is Do.BIND:
            if me.mounted != {volume.name for volume in world.pair.volumes}:
                raise self._fail(order, "there is nothing to be shown")
            yield lambda: setattr(me, "binds", True)
        elif order.do is Do.ATTACH:
            yield lambda: setattr(me, "attached", True)
            yield world.meet

        elif order.do is Do.OUTDATE:
            disk = me.disks[ResourceName(order.subject)]
            if disk.state is DiskState.UP_TO_DATE:
                yield lambda: setattr(disk, "state", DiskState.OUTDATED)
        elif order.do in (Do.DISCONNECT, Do.CONNECT, Do.DISCARD):
            yield from self._connection(order, ResourceName(order.subject))
        elif order.do is Do.PROMOTE:
            name = ResourceName(order.subject)
            self._may_promote(order, name)
            yield lambda: me.roles.__setitem__(name, Role.PRIMARY)
        elif order.do is Do.DEMOTE:
            resource = next(r for r in world.pair.settings.replication.resources if r.name == order.subject)
            if resource.volume in me.mounted:
                raise self._fail(order, "the device is held open")
            yield lambda: me.roles.__setitem__(resource.name, Role.SECONDARY)

    def _connection(self, order: Order, name: ResourceName) -> Iterator[Callable[[], None]]:
        """DRBD takes the word of the side that connects with `--discard-my-data`, and of no other."""
        me, world = self.me, self.world
        partner = world.machines[world.other(self.host)]
        if order.do is Do.DISCONNECT:
            yield lambda: me.alone.add(name)
            return
        if order.do is Do.DISCARD:
            if me.roles[name] is Role.PRIMARY:
                raise Forbidden(f"{self.host} gives up data that it serves")
            yield lambda: me.giving_up.add(name)
        yield lambda: me.alone.discard(name)
        if name not in partner.alone:
            yield world.meet

    def _may_promote(self, order: Order, name: ResourceName) -> None:
        me, world = self.me, self.world
        partner = world.machines[world.other(self.host)]
        if world.connected(self.host, name):
            if partner.roles[name] is Role.PRIMARY:
                raise self._fail(order, "Multiple primaries not allowed by config")
        elif order.proof is None and not world.fence(self.host, name):
            raise self._fail(order, "Refusing to be Primary while peer is not outdated")
        if me.disks[name].state is not DiskState.UP_TO_DATE:
            raise self._fail(order, "Need access to UpToDate data")

    # --- the rest ---------------------------------------------------------------------------------------------------

    def holders(self) -> tuple[Report, ...]:
        self._reach()
        return tuple(MountBusy(str(self.host), str(v), who) for v, who in self.me.holders.items())

    @contextlib.contextmanager
    def hold(self, what: str) -> Iterator[None]:
        self._reach()
        if self.me.held:
            raise Locked(Path("lock"), what)
        self.me.held = True
        try:
            yield
        finally:
            self.world.machines[self.host].held = False

    def take(self, entries: tuple[Entry, ...], order: Order, aspects: frozenset[Aspect]) -> Taken:
        noted = self.note(*entries)
        said = self.act(order)
        return Taken(Said((*noted, *said.reports), said.data), self.look(aspects))

    def note(self, *entries: Entry) -> tuple[Report, ...]:
        self._reach()
        self.world.tick(f"{self.host}: journal {entries[-1].event} {entries[-1].step}")
        if self.me.disk_full:
            return (NotJournaled(str(self.host), "No space left on device"),)
        self.me.journal += entries
        return ()

    def expected(self) -> Mapping[str, float]:
        return {}


def put_away(machine: Machine) -> Callable[[], None]:
    """The mounts of the export tree come away first."""
    return lambda: setattr(machine, "binds", False)


def _generations(disk: Disk) -> Generations:
    ids = [f"{id_ << 4:016X}" for id_ in disk.ids]
    ids += ["0" * 16] * (4 - len(ids))
    return Generations(ids[0], ids[1], (ids[2], ids[3]))


def missing(report: Report, world: World) -> Missing:
    return Missing(report, "agent", world.clock.now())
