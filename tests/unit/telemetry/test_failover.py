"""What monitoring is told of a node of a pair: on what real DRBD said in 45 states, and on a modelled pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labstore.model.drbd import ResourceName, ResourceStatus, Role
from labstore.model.failover import Pair
from labstore.model.names import VolumeName
from labstore.ports.storage_node import (
    BarrierFound,
    ExportsFound,
    MountFound,
    MountState,
    NodeFacts,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
)
from labstore.reconcile.facts import Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.drbdadm import Drbd
from labstore.telemetry.failover import CHECKS, Judged, judge
from labstore.telemetry.status import Health
from tests.support.fake_host import FakeHost, Scripted
from tests.support.small_pair import ALPHA, SERVICE, UNIT, pair, resource

CAPTURES = Path(__file__).parents[2] / "captures" / "drbd" / "8.4.11-utils-9.22.0"
NOW = datetime(2026, 5, 29, tzinfo=UTC)
OK, WARNING, CRITICAL, UNKNOWN = Health
CAPTURED = pair(
    replication=replace(pair().settings.replication, resources=(resource("tools", 4, 7790), resource("misc", 3, 7791)))
)
"""The resources of the captured pair."""


def said_by_drbd(state: str) -> Mapping[ResourceName, ResourceStatus]:
    host = FakeHost(Scripted(("drbdsetup",), stdout=(CAPTURES / state / "events2.txt").read_text()))
    return Drbd(host, proc=CAPTURES / state / "proc.txt").status()


def facts(**found: Any) -> NodeFacts:
    """Facts of these aspects; a Missing stays one."""
    answers = {name: each if isinstance(each, Missing) else Fact(each, name, NOW) for name, each in found.items()}
    return NodeFacts(ALPHA, NOW, **{"runs": Fact(RunsFound(), "runs", NOW), **answers})


def missing(what: str) -> Missing:
    return Missing(SourceFailed("alpha", what, "no answer within 30 s"), what, NOW)


def checked(name: str, about: Pair | None = None, **found: Any) -> Judged:
    return judge(CHECKS[name], facts(**found), about or pair())


# --- what DRBD says --------------------------------------------------------------------------------------------------

STATES = sorted(str(path.parent.relative_to(CAPTURES)) for path in CAPTURES.glob("*/*/events2.txt"))
FINE = {
    "both-secondary/alpha", "both-secondary/beta", "dead-primary-back/alpha", "dead-primary-back/beta",
    "healthy/alpha", "healthy/beta", "healthy-after-refused-down/alpha", "healthy-after-refused-down/beta",
    "io-suspended-by-hand/beta", "link-just-cut/alpha", "roles-crossed/alpha", "roles-crossed/beta",
    "split-brain-resolved/alpha", "split-brain-resolved/beta", "split-brain-resolving/beta", "verifying/alpha",
    "verifying/beta",
}  # fmt: skip
"""Connected and complete; the link that was just cut is not noticed yet."""
WRONG = {
    "disconnected/beta": "stands alone",
    "diskless-primary/alpha": "is Diskless",
    "diskless-primary-alone/alpha": "is Diskless",
    "diskless-secondary/beta": "is Diskless",
    "failed-disk/alpha": "is Diskless",
    "fencing-resumed/alpha": "misc has its writes suspended (fencing)",
    "fencing-suspended/alpha": "writes suspended (fencing)",
    "first-node-up/alpha": "tools is Inconsistent",
    "fresh/alpha": "tools is Inconsistent",
    "fresh/beta": "tools is Inconsistent",
    "io-suspended-by-hand/alpha": "writes suspended (user)",
    "other-protocol/alpha": "stands alone",
    "other-protocol/beta": "stands alone",
    "partner-down/beta": "tools is not running",
    "split-brain/alpha": "stands alone: labstore failover resolve",
    "split-brain/beta": "stands alone: labstore failover resolve",
    "split-brain-both-connected/alpha": "stands alone",
    "split-brain-both-connected/beta": "stands alone",
    "split-brain-one-connects/beta": "stands alone",
    "split-brain-victim-demoted/alpha": "stands alone",
    "split-brain-victim-demoted/beta": "stands alone",
    "sync-target-alone/beta": "tools is Inconsistent",
    "wrong-secret/alpha": "stands alone",
    "wrong-secret/beta": "stands alone",
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_of_replication_has_its_judgement(state: str) -> None:
    """The original never said more than a warning (upstream 1.10)."""
    found = checked("drbd", CAPTURED, replication=said_by_drbd(state))
    assert found.health is (OK if state in FINE else CRITICAL if state in WRONG else WARNING), found.text
    assert WRONG.get(state, "") in found.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("resync/alpha", "tools resyncs: 28.6 % done, 61.7 MiB left"),
        ("sync-paused/alpha", "tools resyncs: 95.8 MiB left"),
        ("link-cut/alpha", "tools is not connected (Connecting): there is no second copy"),
        ("outdated/beta", "tools is Outdated"),
        ("diskless-secondary/alpha", "tools is Diskless at the partner"),
        ("verifying/alpha", "2 resources connected, UpToDate on both nodes; verifying tools"),
    ],
)
def test_what_is_so_is_said(state: str, words: str) -> None:
    assert words in checked("drbd", CAPTURED, replication=said_by_drbd(state)).text


def test_figures_say_how_much_differs_and_how_fast_it_is_copied() -> None:
    found = checked("drbd", CAPTURED, replication=said_by_drbd("resync/alpha"))
    assert found.figures == {
        "tools_out_of_sync": "64100KB",
        "tools_rate": "2676KB",
        "misc/0_out_of_sync": "0KB",
        "misc/1_out_of_sync": "0KB",
    }


@pytest.mark.parametrize(
    ("state", "health", "words"),
    [
        ("healthy/alpha", OK, "Primary: this node is the active one"),
        ("healthy/beta", OK, "Secondary: the partner is Primary"),
        ("both-secondary/alpha", CRITICAL, "neither node is Primary: nobody serves"),
        ("roles-crossed/alpha", CRITICAL, "the roles differ: tools Primary, misc Secondary"),
        ("primary-dead/beta", WARNING, "it is Secondary and does not see its partner"),
        ("partner-down/beta", CRITICAL, "not every resource is running"),
        ("partner-down/alpha", OK, "Primary"),
    ],
)
def test_roles_are_judged_by_what_is_seen(state: str, health: Health, words: str) -> None:
    """Nothing says beforehand which node is to be Primary (upstream 1.4)."""
    found = checked("role", CAPTURED, replication=said_by_drbd(state), addresses=frozenset())
    assert (found.health, words in found.text) == (health, True), found.text


def test_two_primaries_are_critical_for_both_checks() -> None:
    def both(status: ResourceStatus) -> ResourceStatus:
        return replace(status, role=Role.PRIMARY, peer_role=Role.PRIMARY)

    replication = {name: both(status) for name, status in said_by_drbd("healthy/alpha").items()}
    for name in ("drbd", "role"):
        assert checked(name, CAPTURED, replication=replication, addresses=frozenset()).health is CRITICAL


def test_a_secondary_with_the_address_is_critical() -> None:
    found = checked("role", CAPTURED, replication=said_by_drbd("healthy/beta"), addresses=frozenset({SERVICE}))
    assert found.health is CRITICAL and f"it is Secondary and holds {SERVICE}" in found.text


# --- the service -----------------------------------------------------------------------------------------------------

RIGHT = MountFound(MountState.RIGHT, alive=True)
SERVING: dict[str, Any] = {
    "addresses": frozenset({SERVICE}),
    "mounts": {VolumeName("state"): RIGHT, VolumeName("tools"): RIGHT},
    "server": ServerFound(8, True, "nfs-tools", clients=3),
    "recovery": RecoveryFound(True, True, 3),
    "exports": ExportsFound(7, 2, 5, 0, canary=True),
    "barrier": BarrierFound(),
    "units": UnitsFound(frozenset({UNIT}), frozenset(), True),
}
IDLE: dict[str, Any] = {
    "addresses": frozenset(),
    "mounts": {VolumeName("state"): MountFound(MountState.ABSENT), VolumeName("tools"): MountFound(MountState.ABSENT)},
    "server": ServerFound(0),
    "recovery": RecoveryFound(False),
    "exports": ExportsFound(),
    "barrier": BarrierFound(),
    "units": UnitsFound(),
}


def replicated(role: Role) -> dict[ResourceName, ResourceStatus]:
    """Both resources of the small pair as the captured one."""
    one = said_by_drbd("healthy/alpha")[ResourceName("tools")]
    other = Role.SECONDARY if role is Role.PRIMARY else Role.PRIMARY
    names = ResourceName("state"), ResourceName("tools")
    return {name: replace(one, name=name, role=role, peer_role=other) for name in names}


ACTIVE = {**SERVING, "replication": replicated(Role.PRIMARY)}
STANDBY = {**IDLE, "replication": replicated(Role.SECONDARY)}


@pytest.mark.parametrize("name", CHECKS)
def test_a_pair_that_works_is_fine_on_either_node(name: str) -> None:
    for node in (ACTIVE, STANDBY):
        assert checked(name, **node).health is OK, checked(name, **node).text


ADDRESS = [
    ({"server": ServerFound(0)}, CRITICAL, "is here, but no NFS server runs"),
    ({"mounts": IDLE["mounts"]}, CRITICAL, "state, tools is not mounted as it should be"),
    (
        {"mounts": {**SERVING["mounts"], VolumeName("tools"): MountFound(MountState.READ_ONLY, alive=True)}},
        CRITICAL,
        "tools is not mounted as it should be",
    ),
    ({"barrier": BarrierFound(frozenset({SERVICE}))}, CRITICAL, "clients are kept out"),
    ({"addresses": frozenset()}, CRITICAL, "this node is Primary and does not hold 10.77.0.10"),
    ({"addresses": missing("addresses")}, UNKNOWN, "addresses cannot be seen"),
    ({"mounts": missing("mounts")}, UNKNOWN, "mounts cannot be seen"),
    ({"mounts": missing("mounts"), "server": ServerFound(0)}, CRITICAL, "no NFS server runs; mounts cannot be seen"),
    (
        {"server": ServerFound(0), "runs": RunsFound(running="labstore failover down")},
        WARNING,
        "under way: labstore failover down",
    ),
]


@pytest.mark.parametrize(("changed", "health", "words"), ADDRESS, ids=[words for *_, words in ADDRESS])
def test_an_address_is_never_without_its_service(changed: dict[str, Any], health: Health, words: str) -> None:
    found = checked("address", **{**ACTIVE, **changed})
    assert (found.health, words in found.text) == (health, True), found.text


def test_half_of_the_addresses_is_critical() -> None:
    """The original looked for a part of a string (upstream 1.10): 10.77.0.1 was found in 10.77.0.10."""
    other = type(SERVICE)("10.77.0.1")
    about = pair()
    about = replace(about, cluster=replace(about.cluster, service_addresses=(SERVICE, other)))
    found = checked("address", about, **ACTIVE)
    assert found.health is CRITICAL and "only 10.77.0.10 is here, 10.77.0.1 is not" in found.text
    assert found.figures == {"held": "1", "wanted": "2"}


NFS = [
    ({"server": ServerFound(0)}, CRITICAL, "no NFS server runs on the active node"),
    ({"server": ServerFound(8, False, "nfs-tools")}, CRITICAL, "mountd does not run"),
    ({"server": ServerFound(8, True, None)}, CRITICAL, "does not answer"),
    ({"server": ServerFound(8, True, "alpha")}, WARNING, "calls itself alpha, not nfs-tools"),
    ({"recovery": RecoveryFound(True, False)}, WARNING, "a move would cost their locks"),
    ({"exports": ExportsFound()}, CRITICAL, "no exports are in place"),
    ({"exports": ExportsFound(7, 2, 5, 1)}, WARNING, "1 path exported otherwise"),
    ({"barrier": BarrierFound(frozenset({SERVICE}))}, CRITICAL, "clients are kept out"),
    ({"units": UnitsFound(frozenset(), frozenset({UNIT}), True)}, WARNING, f"{UNIT} failed"),
    ({"server": missing("server")}, UNKNOWN, "server cannot be seen"),
]


@pytest.mark.parametrize(("changed", "health", "words"), NFS, ids=[words for *_, words in NFS])
def test_a_server_that_answers_is_not_enough(changed: dict[str, Any], health: Health, words: str) -> None:
    found = checked("nfs", **{**ACTIVE, **changed})
    assert (found.health, words in found.text) == (health, True), found.text


def test_a_server_on_the_standby_is_critical() -> None:
    """A boot that starts nfs-server serves an empty table (upstream #13)."""
    found = checked("nfs", **{**STANDBY, "server": ServerFound(8, True, "nfs-tools")})
    assert found.health is CRITICAL


def test_what_works_says_how_much() -> None:
    found = checked("nfs", **ACTIVE)
    assert found.text == "8 threads, 3 clients, generation 7"
    assert found.figures == {"threads": "8", "clients": "3", "paths": "2", "drift": "0"}
