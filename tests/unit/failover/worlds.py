"""Random nodes for the planners of moves, and what each step brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from labstore.failover.facts import Situation
from labstore.failover.guards import guard_down, guard_up
from labstore.failover.plan import MovePlan, MoveStep, plan_down, plan_up
from labstore.failover.steps import KINDS, down_orders, key, up_orders
from labstore.model.drbd import (
    ConnectionState,
    DeviceStatus,
    DiskState,
    Generations,
    ReplicationState,
    ResourceName,
    Role,
)
from labstore.model.drbd import ResourceStatus as Status
from labstore.model.failover import Pair, Proof
from labstore.model.names import VolumeName
from labstore.ports.storage_node import (
    Aspect,
    BarrierFound,
    BindsFound,
    Do,
    ExportsFound,
    FilesFound,
    HandoverFound,
    MountFound,
    MountState,
    NodeFacts,
    Order,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
    VerifiedFound,
)
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Verb
from labstore.reports.failover import MountBusy, NodeUnreachable
from labstore.reports.sources import SourceFailed
from tests.laws import Planner
from tests.support.fake_clock import START
from tests.support.small_pair import ALPHA, BETA, SERVICE, pair, with_export_tree

ABSENT, RIGHT = MountFound(MountState.ABSENT), MountFound(MountState.RIGHT, alive=True)


def fact(value: Any, source: str = "test") -> Fact[Any]:
    return Fact(value, source, START)


def missing(what: str = "it") -> Missing:
    return Missing(SourceFailed("alpha", what, "no answer within 30 s"), what, START)


def status(
    name: str,
    role: Role = Role.SECONDARY,
    disk: DiskState = DiskState.UP_TO_DATE,
    connection: ConnectionState = ConnectionState.CONNECTED,
    peer: Role = Role.SECONDARY,
    peer_disk: DiskState = DiskState.UP_TO_DATE,
    replication: ReplicationState | None = None,
    suspended: tuple[str, ...] = (),
) -> Status:
    """A resource of one volume; a partner that is not connected is not known."""
    connected = connection is ConnectionState.CONNECTED
    usual = ReplicationState.ESTABLISHED if connected else ReplicationState.OFF
    device = DeviceStatus(0, 0, disk, peer_disk if connected else DiskState.UNKNOWN, replication or usual)
    return Status(ResourceName(name), role, connection, peer if connected else Role.UNKNOWN, (device,), suspended)


def replicated(**more: Any) -> dict[ResourceName, Status]:
    return {ResourceName(name): status(name, **more) for name in ("state", "tools")}


SAME = Generations("A0", "00", ("00", "00"))


def node(name: Any = ALPHA, **more: Any) -> NodeFacts:
    """An idle node, healthy and connected, with what is told of it."""
    plain: dict[str, Any] = {
        "replication": replicated(),
        "generations": dict.fromkeys((ResourceName("state"), ResourceName("tools")), SAME),
        "mounts": {VolumeName("state"): ABSENT, VolumeName("tools"): ABSENT},
        "binds": BindsFound(),
        "server": ServerFound(0),
        "recovery": RecoveryFound(False),
        "exports": ExportsFound(),
        "addresses": frozenset(),
        "barrier": BarrierFound(),
        "units": UnitsFound(),
        "handover": HandoverFound(possible=False),
        "verified": VerifiedFound(),
        "runs": RunsFound(),
        "files": FilesFound("digest", "1"),
    }
    found = {key_: value if isinstance(value, Missing) else fact(value, key_) for key_, value in (plain | more).items()}
    return NodeFacts(name, START, "boot", **found)


SERVING: dict[str, Any] = {
    "replication": replicated(role=Role.PRIMARY),
    "mounts": {VolumeName("state"): RIGHT, VolumeName("tools"): RIGHT},
    "server": ServerFound(8, True, "nfs-tools", clients=3),
    "recovery": RecoveryFound(True, True, 3),
    "exports": ExportsFound(7, 2, 5, 0, canary=True),
    "addresses": frozenset({SERVICE}),
    "units": UnitsFound(frozenset(map(str, pair().settings.units)), frozenset(), True),
    "handover": HandoverFound(),
    "verified": VerifiedFound(True),
}


def serving(name: Any = ALPHA, **more: Any) -> NodeFacts:
    return node(name, **(SERVING | more))


def silent(name: Any = BETA) -> Missing:
    return Missing(NodeUnreachable(str(name), "no answer within 60 s"), str(name), START)


def situation(own: NodeFacts, partner: NodeFacts | Missing | None = None, **more: Any) -> Situation:
    other: Answer[NodeFacts] = partner if isinstance(partner, Missing) else fact(partner or node(BETA))
    return Situation(more.pop("about", pair()), own, other, **more)


PROOF = Proof(BETA, "the operator's word", "test", "now")

# --- what a step brings ----------------------------------------------------------------------------------------------

Change = Callable[[Order, Mapping[str, Any], Pair], dict[str, Any]]


def _with_role(role: Role) -> Change:
    def change(order: Order, now: Mapping[str, Any], _pair: Pair) -> dict[str, Any]:
        name = ResourceName(order.subject)
        return {"replication": {**now["replication"], name: replace(now["replication"][name], role=role)}}

    return change


def _mounted(found: MountFound) -> Change:
    def change(order: Order, now: Mapping[str, Any], about: Pair) -> dict[str, Any]:
        changed: dict[str, Any] = {"mounts": {**now["mounts"], VolumeName(order.subject): found}}
        if order.subject == about.settings.state:
            changed["handover"] = replace(now["handover"], possible=found is RIGHT)
        if found is ABSENT:
            changed["exports"] = ExportsFound() if order.subject == about.settings.state else now["exports"]
            changed["binds"] = _tree(about, there=False)
        return changed

    return change


def _handover(there: bool, waiting: bool, recorded: bool) -> HandoverFound:
    return HandoverFound(there and waiting and recorded, there and waiting, there)


def _tree(about: Pair, there: bool) -> BindsFound:
    if about.cluster.export_root is None:
        return BindsFound()
    return BindsFound(1, () if there else ("/exp/project/tools",))


def _attached(order: Order, now: Mapping[str, Any], _pair: Pair) -> dict[str, Any]:
    name = ResourceName(order.subject)
    found = now["replication"].get(name) or status(name)
    disks = tuple(replace(device, disk=DiskState.UP_TO_DATE) for device in found.devices)
    return {"replication": {**now["replication"], name: replace(found, devices=disks)}}


def _set(**values: Any) -> Change:
    return lambda _order, _now, _pair: dict(values)


BRINGS: Mapping[Do, Change] = {
    Do.STOP_UNITS: _set(units=UnitsFound()),
    Do.START_UNITS: _set(units=SERVING["units"]),
    Do.BLOCK: _set(barrier=BarrierFound(frozenset({SERVICE})), verified=VerifiedFound()),
    Do.UNBLOCK: lambda _o, now, _p: {
        "barrier": BarrierFound(),
        "handover": replace(now["handover"], recorded=False),
    },
    Do.RECORD: lambda _o, now, _p: {"handover": replace(now["handover"], recorded=True, waiting=True)},
    Do.CERTIFY: lambda _o, now, _p: {"handover": replace(now["handover"], recorded=False, waiting=False)},
    Do.STOP_SERVER: _set(server=ServerFound(0), verified=VerifiedFound()),
    Do.START_SERVER: _set(server=SERVING["server"], verified=VerifiedFound()),
    Do.STOP_RECOVERY: _set(recovery=RecoveryFound(False)),
    Do.START_RECOVERY: _set(recovery=SERVING["recovery"]),
    Do.REMOVE_ADDRESSES: _set(addresses=frozenset()),
    Do.ADD_ADDRESSES: _set(addresses=frozenset({SERVICE})),
    Do.UNMOUNT: _mounted(ABSENT),
    Do.MOUNT: _mounted(RIGHT),
    Do.BIND: lambda _o, _now, about: {"binds": _tree(about, there=True)},
    Do.DEMOTE: _with_role(Role.SECONDARY),
    Do.PROMOTE: _with_role(Role.PRIMARY),
    Do.ATTACH: _attached,
    Do.PLACE_EXPORTS: _set(exports=SERVING["exports"]),
    Do.VERIFY: _set(verified=VerifiedFound(True)),
}


def after(world: Situation, steps: Sequence[MoveStep]) -> Situation:
    own = world.own
    for step in steps:
        order = step.after
        assert order is not None
        now = {aspect.value: answer.value for aspect in Aspect if isinstance(answer := own.answer(aspect), Fact)}
        brought = BRINGS[order.do](order, now, world.pair)
        own = replace(own, **{name: fact(value, name) for name, value in brought.items()})
    return replace(world, own=own)


# --- random ----------------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> Situation:
    about = with_export_tree(pair()) if draw(st.booleans()) else pair()
    role = draw(st.sampled_from(Role))
    connection = draw(
        st.sampled_from((ConnectionState.CONNECTED, ConnectionState.CONNECTED, ConnectionState.CONNECTING))
    )
    replication = {
        name: each
        for name, each in replicated(
            role=role if role is not Role.UNKNOWN else Role.SECONDARY,
            disk=draw(st.sampled_from((*[DiskState.UP_TO_DATE] * 4, *DiskState))),
            connection=connection,
            peer=draw(st.sampled_from((Role.SECONDARY, Role.SECONDARY, Role.PRIMARY))),
            peer_disk=draw(st.sampled_from((*[DiskState.UP_TO_DATE] * 4, *DiskState))),
        ).items()
        if draw(st.integers(0, 9))
    }
    state_there, tools_there = draw(st.booleans()), draw(st.booleans())
    found: dict[str, Any] = {
        "replication": replication,
        "mounts": {
            VolumeName("state"): RIGHT if state_there else ABSENT,
            VolumeName("tools"): RIGHT if tools_there else ABSENT,
        },
        "binds": _tree(about, draw(st.booleans())),
        "server": draw(st.sampled_from((ServerFound(0), SERVING["server"], ServerFound(8, True, "alpha")))),
        "recovery": draw(st.sampled_from((RecoveryFound(False), SERVING["recovery"], RecoveryFound(True)))),
        "exports": draw(st.sampled_from((SERVING["exports"], ExportsFound()))) if state_there else ExportsFound(),
        "addresses": draw(st.sampled_from((frozenset(), frozenset({SERVICE})))),
        "barrier": draw(st.sampled_from((BarrierFound(), BarrierFound(frozenset({SERVICE}))))),
        "units": draw(st.sampled_from((UnitsFound(), SERVING["units"]))),
        "handover": _handover(state_there, draw(st.booleans()), draw(st.booleans())),
        "verified": VerifiedFound(draw(st.booleans())),
    }
    for name in found:
        if not draw(st.integers(0, 60)):
            found[name] = missing(name)
    partner: NodeFacts | Missing = draw(st.sampled_from((node(BETA), node(BETA), serving(BETA), silent())))
    holders = draw(st.sampled_from(((), (), (MountBusy("alpha", "tools", "process 17 sh: cwd /srv/tools"),))))
    proof = draw(st.sampled_from((None, PROOF)))
    return situation(node(**found), partner, about=about, proof=proof, holders=holders)


def _whole(plan: MovePlan) -> MovePlan:
    """A move is made whole or not at all: with anything refused, no step is begun (reconcile.runner.Stepwise)."""
    return replace(plan, steps=()) if plan.refusals else plan


def _down(world: Situation) -> MovePlan:
    return _whole(guard_down(world, plan_down(world)))


def _up(world: Situation) -> MovePlan:
    return _whole(guard_up(world, plan_up(world)))


def _removed(_world: Situation, plan: MovePlan) -> frozenset[str]:
    return frozenset(step.key for step in plan.steps if step.verb is Verb.REMOVE)


def _undecided(world: Situation) -> frozenset[str]:
    """Steps about which something could not be found out. That a server was seen to serve ends with it, and does not
    say whether it runs."""
    orders = (*down_orders(world.pair), *up_orders(world.pair))
    return frozenset(
        key(each)
        for each in orders
        if any(isinstance(world.own.answer(a), Missing) for a in KINDS[each.do].aspects - {Aspect.VERIFIED})
    )


def _outcome(world: Situation) -> object:
    own = world.own
    return own.replication, own.mounts, own.binds, own.server, own.recovery, own.addresses, own.units, own.exports


DOWN: Planner[Situation, Order] = Planner("down", Order, worlds(), _down, after, _removed, _undecided, _outcome)
UP: Planner[Situation, Order] = Planner("up", Order, worlds(), _up, after, _removed, _undecided, _outcome)
