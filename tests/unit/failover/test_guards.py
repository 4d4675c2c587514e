"""When the service may not be moved, and which word would allow it. There is no bare force (upstream #20, #22)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labstore.failover.facts import Situation
from labstore.failover.guards import guard_down, guard_switchover, guard_up
from labstore.failover.plan import plan_down, plan_up
from labstore.model.drbd import ConnectionState, DiskState, Generations, ReplicationState, ResourceName, Role
from labstore.model.names import VolumeName
from labstore.ports.storage_node import FilesFound, MountFound, MountState
from labstore.reports.failover import MountBusy
from labstore.reports.report import Override, Report
from tests.support.small_pair import BETA, SERVICE
from tests.unit.failover.worlds import (
    ABSENT,
    PROOF,
    RIGHT,
    SAME,
    missing,
    node,
    replicated,
    serving,
    silent,
    situation,
    status,
)


def refused(found: Situation, *overrides: Override, down: bool = False, switch: bool = False) -> tuple[Report, ...]:
    """Why the move is held back; all of its steps are, or none."""
    guard = guard_down if down else guard_switchover if switch else guard_up
    plan = guard(found, (plan_down if down else plan_up)(found), frozenset(overrides))
    if plan.refusals:
        assert not plan.steps
    return tuple(dict.fromkeys(refusal.report for refusal in plan.refusals))


def codes(found: Situation, *overrides: Override, **more: bool) -> set[str]:
    return {report.code for report in refused(found, *overrides, **more)}


# --- down ------------------------------------------------------------------------------------------------------------

UNREADY: list[tuple[dict[str, Any], str]] = [
    ({"connection": ConnectionState.CONNECTING}, "it is not connected (Connecting)"),
    ({"connection": ConnectionState.STAND_ALONE}, "it is not connected (StandAlone)"),
    ({"peer": Role.PRIMARY}, "it is Primary itself"),
    ({"replication": ReplicationState.SYNC_SOURCE, "peer_disk": DiskState.INCONSISTENT}, "a resync is running"),
    ({"replication": ReplicationState.PAUSED_SYNC_SOURCE}, "a resync is running"),
    ({"replication": ReplicationState.VERIFY_SOURCE}, "an online verify is running"),
    ({"peer_disk": DiskState.OUTDATED}, "its data is Outdated"),
    ({"peer_disk": DiskState.DISKLESS}, "its data is Diskless"),
]


def test_a_node_whose_partner_is_ready_may_go_down() -> None:
    assert refused(situation(serving()), down=True) == ()


@pytest.mark.parametrize(("partner", "words"), UNREADY, ids=[words for _, words in UNREADY])
def test_after_down_somebody_must_be_able_to_serve(partner: dict[str, Any], words: str) -> None:
    own = serving(replication=replicated(role=Role.PRIMARY, **partner))
    found = refused(situation(own), down=True)
    assert {report.code for report in found} == {"partner-not-ready"}
    assert all(words in report.text() and "--allow-outage" in report.text() for report in found)
    assert refused(situation(own), Override.ALLOW_OUTAGE, down=True) == ()


def test_one_resource_that_is_not_ready_holds_all_of_them() -> None:
    bad = status("tools", Role.PRIMARY, peer_disk=DiskState.INCONSISTENT)
    own = serving(replication={**replicated(role=Role.PRIMARY), ResourceName("tools"): bad})
    (report,) = refused(situation(own), down=True)
    assert "tools" in report.text()


def test_who_holds_a_volume_is_told_before_a_client_is_cut_off() -> None:
    busy = MountBusy("alpha", "tools", "process 4711 bash: cwd /srv/tools")
    assert refused(situation(serving(), holders=(busy,)), down=True) == (busy,)
    assert refused(situation(serving(), holders=(busy,), evict=True), down=True) == ()


def test_a_node_that_is_down_has_nothing_to_refuse() -> None:
    alone = node(replication=replicated(connection=ConnectionState.CONNECTING))
    assert refused(situation(alone), down=True) == ()


# --- up --------------------------------------------------------------------------------------------------------------


def test_an_idle_node_of_an_idle_pair_may_serve() -> None:
    assert refused(situation(node())) == ()


PARTNERS = [
    (serving(BETA), "Primary of state"),
    (node(BETA, addresses=frozenset({SERVICE})), f"it holds {SERVICE}"),
    (node(BETA, mounts={VolumeName("state"): ABSENT, VolumeName("tools"): RIGHT}), "it has tools mounted"),
    (
        node(BETA, mounts={VolumeName("tools"): MountFound(MountState.ABSENT, alive=True)}),
        "it has tools mounted",  # lazily unmounted, and still active in the kernel
    ),
]


@pytest.mark.parametrize(("partner", "words"), PARTNERS, ids=[words for _, words in PARTNERS])
def test_two_never_serve(partner: Any, words: str) -> None:
    found = refused(situation(node(), partner))
    assert [report.code for report in found] == ["partner-serves"]
    assert words in found[0].text() and found[0].override is None


def test_what_drbd_says_of_the_partner_counts_where_it_cannot_be_asked() -> None:
    own = node(replication=replicated(peer=Role.PRIMARY))
    assert "partner-serves" in codes(situation(own, silent()))


def test_a_partner_that_drbd_sees_as_secondary_needs_no_proof() -> None:
    assert refused(situation(node(), silent())) == ()


def test_a_partner_that_nobody_sees_needs_proof() -> None:
    """upstream #22: the original's runbook was to reboot it and to force the other."""
    own = node(replication=replicated(connection=ConnectionState.CONNECTING))
    (report,) = refused(situation(own, silent()))
    assert report.code == "partner-silent" and report.override is None
    assert "--partner-is-off beta" in report.text()
    assert refused(situation(own, silent(), proof=PROOF)) == ()


APART = replicated(connection=ConnectionState.CONNECTING)


@pytest.mark.parametrize("hidden", ["replication", "addresses", "mounts"])
def test_a_partner_that_cannot_say_what_it_has_is_as_good_as_silent(hidden: str) -> None:
    own, partner = node(replication=APART), node(BETA, replication=APART)
    assert refused(situation(own, partner)) == ()
    broken = replace(partner, **{hidden: missing(hidden)})
    (report,) = refused(situation(own, broken))
    assert report.code == "partner-silent" and report.override is None and hidden in report.text()
    assert refused(situation(own, broken, proof=PROOF)) == ()
    assert refused(situation(node(), broken)) == (), "DRBD sees it as Secondary"


def test_whose_data_is_newer_must_be_known_where_the_two_do_not_see_each_other() -> None:
    own, partner = node(replication=APART), node(BETA, replication=APART, generations={})
    assert codes(situation(own, partner)) == {"data-stale"}
    assert refused(situation(own, partner, proof=PROOF)) == ()
    assert refused(situation(own, partner), Override.ACCEPT_DATA_LOSS) == ()


def test_one_resource_without_its_partner_is_enough_to_want_proof() -> None:
    own = node(
        replication={**replicated(), ResourceName("tools"): status("tools", connection=ConnectionState.CONNECTING)}
    )
    assert codes(situation(own, silent())) == {"partner-silent"}


def test_a_node_that_is_primary_already_may_be_finished_without_the_partner() -> None:
    half = serving(
        addresses=frozenset(),
        replication=replicated(role=Role.PRIMARY, connection=ConnectionState.CONNECTING),
    )
    assert refused(situation(half, silent())) == ()


UNFIT: list[tuple[dict[str, Any], str, Override | None]] = [
    ({"disk": DiskState.INCONSISTENT}, "data-unfit", None),
    ({"disk": DiskState.FAILED}, "data-unfit", None),
    ({"disk": DiskState.INCONSISTENT, "replication": ReplicationState.SYNC_TARGET}, "data-unfit", None),
    ({"replication": ReplicationState.PAUSED_SYNC_TARGET}, "data-unfit", None),
    ({"disk": DiskState.OUTDATED}, "data-stale", Override.ACCEPT_DATA_LOSS),
    ({"suspended": ("fencing",)}, "io-suspended", None),
]


@pytest.mark.parametrize(("own", "code", "override"), UNFIT, ids=[f"{own}" for own, *_ in UNFIT])
def test_data_that_is_not_whole_is_never_served(own: dict[str, Any], code: str, override: Override | None) -> None:
    """research nfs_ha 2.5; acceptance 7: a secondary that is Inconsistent while it resyncs."""
    found = refused(situation(node(replication=replicated(**own))))
    assert {report.code for report in found} == {code}
    assert {report.override for report in found} == {override}
    everything = frozenset(Override)
    allowed = refused(situation(node(replication=replicated(**own))), *everything)
    assert bool(allowed) == (override is None)


def test_consistent_data_alone_needs_proof_or_acceptance() -> None:
    own = {"disk": DiskState.CONSISTENT, "connection": ConnectionState.CONNECTING}
    world = situation(node(replication=replicated(**own)))
    assert codes(world) == {"data-stale"}
    assert refused(replace(world, proof=PROOF)) == ()


def test_what_stands_alone_is_looked_at_first() -> None:
    world = situation(node(replication=replicated(connection=ConnectionState.STAND_ALONE)))
    assert codes(world) == {"stands-alone"}
    assert "labstore failover resolve" in refused(world)[0].text()


NEWER = Generations("B0", "A0", ("00", "00"))
OTHER = Generations("C0", "A0", ("00", "00"))


def parted(own: Generations, other: Generations) -> Situation:
    apart = replicated(connection=ConnectionState.CONNECTING)
    names = [ResourceName("state"), ResourceName("tools")]
    return situation(
        node(replication=apart, generations=dict.fromkeys(names, own)),
        node(BETA, replication=apart, generations=dict.fromkeys(names, other)),
        proof=None,
    )


def test_older_data_than_the_partner_s_is_served_only_if_the_loss_is_accepted() -> None:
    assert codes(parted(SAME, NEWER)) == {"data-stale"}
    assert codes(parted(SAME, NEWER), Override.ACCEPT_DATA_LOSS) == set()
    assert codes(parted(NEWER, SAME)) == set()
    assert codes(parted(SAME, SAME)) == set()


def test_a_split_brain_is_never_served_over() -> None:
    assert codes(parted(NEWER, OTHER), *Override) == {"split-brain"}


def test_what_is_mounted_in_place_of_a_volume_is_left() -> None:
    foreign = {VolumeName("tools"): MountFound(MountState.FOREIGN), VolumeName("state"): ABSENT}
    assert codes(situation(node(mounts=foreign)), *Override) == {"mount-foreign"}


@pytest.mark.parametrize("aspect", ["replication", "mounts", "server", "addresses", "barrier", "recovery", "exports"])
@pytest.mark.parametrize("down", [True, False])
def test_what_cannot_be_seen_holds_back_everything(aspect: str, down: bool) -> None:
    """DESIGN law 1"""
    if aspect == "exports" and down:
        aspect = "units"
    world = situation((serving if down else node)(**{aspect: missing(aspect)}))
    plan = (plan_down if down else plan_up)(world)
    assert plan.refusals and any(f"{aspect}" in refusal.report.text() for refusal in plan.refusals)


# --- switchover ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [FilesFound("other", "1"), FilesFound("digest", "2")])
def test_nodes_that_differ_are_made_alike_first(files: FilesFound) -> None:
    world = situation(node(), serving(BETA, files=files), moving=True)
    (report,) = refused(world, switch=True)
    assert report.code == "failover-nodes-differ" and report.override is Override.ALLOW_CONFIG_DRIFT
    assert refused(world, Override.ALLOW_CONFIG_DRIFT, switch=True) == ()


def test_in_a_switchover_what_the_partner_still_has_is_no_reason() -> None:
    assert refused(situation(node(), serving(BETA), moving=True), switch=True) == ()
