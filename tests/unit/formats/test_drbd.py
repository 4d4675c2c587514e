"""What DRBD 8.4 says in every state that a pair can be in, read back (captures of a real pair; upstream #28)."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats import drbd_conf, drbd_events, drbd_status, proc_drbd
from labstore.formats.drbd_conf import BadConf, Section, Statement
from labstore.model.drbd import Progress, ResourceName, ResourceStatus

CAPTURES = Path(__file__).parents[2] / "captures" / "drbd" / "8.4.11-utils-9.22.0"
TOOLS = ResourceName("tools")

STATES: dict[str, str | None] = {
    # what `tools` is: role, connection, partner's role, disk, partner's disk, replication, suspended
    "both-secondary/alpha": "Secondary Connected Secondary UpToDate UpToDate Established -",
    "both-secondary/beta": "Secondary Connected Secondary UpToDate UpToDate Established -",
    "dead-primary-back/alpha": "Secondary Connected Primary UpToDate UpToDate Established -",
    "dead-primary-back/beta": "Primary Connected Secondary UpToDate UpToDate Established -",
    "dead-primary-back-unconnected/beta": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "disconnected/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "disconnected/beta": "Secondary StandAlone Unknown UpToDate DUnknown Off -",
    "diskless-primary/alpha": "Primary Connected Secondary Diskless UpToDate Established -",
    "diskless-primary/beta": "Secondary Connected Primary UpToDate Diskless Established -",
    "diskless-primary-alone/alpha": "Primary Connecting Unknown Diskless DUnknown Off -",
    "diskless-primary-alone/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "diskless-secondary/alpha": "Primary Connected Secondary UpToDate Diskless Established -",
    "diskless-secondary/beta": "Secondary Connected Primary Diskless UpToDate Established -",
    "failed-disk/alpha": "Primary Connected Secondary Diskless UpToDate Established -",
    "failed-disk/beta": "Secondary Connected Primary UpToDate Diskless Established -",
    "fencing-forced/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "fencing-forced/beta": "Primary Connecting Unknown UpToDate Outdated Off -",
    "fencing-resumed/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "fencing-resumed/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "fencing-suspended/alpha": "Primary Connecting Unknown UpToDate DUnknown Off fencing",
    "fencing-suspended/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "fencing-without-handler/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "fencing-without-handler/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "first-node-up/alpha": "Secondary Connecting Unknown Inconsistent DUnknown Off -",
    "first-sync/alpha": "Primary Connected Secondary UpToDate Inconsistent SyncSource -",
    "first-sync/beta": "Secondary Connected Primary Inconsistent UpToDate SyncTarget -",
    "fresh/alpha": "Secondary Connected Secondary Inconsistent Inconsistent Established -",
    "fresh/beta": "Secondary Connected Secondary Inconsistent Inconsistent Established -",
    "healthy/alpha": "Primary Connected Secondary UpToDate UpToDate Established -",
    "healthy/beta": "Secondary Connected Primary UpToDate UpToDate Established -",
    "healthy-after-refused-down/alpha": "Primary Connected Secondary UpToDate UpToDate Established -",
    "healthy-after-refused-down/beta": "Secondary Connected Primary UpToDate UpToDate Established -",
    "io-suspended-by-hand/alpha": "Primary Connected Secondary UpToDate UpToDate Established user",
    "io-suspended-by-hand/beta": "Secondary Connected Primary UpToDate UpToDate Established -",
    "link-cut/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "link-cut/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "link-cut-one-way/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "link-cut-one-way/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "link-just-cut/alpha": "Primary Connected Secondary UpToDate UpToDate Established -",
    "link-just-cut/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "other-protocol/alpha": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "other-protocol/beta": "Secondary StandAlone Unknown UpToDate DUnknown Off -",
    "outdated/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "outdated/beta": "Secondary Connecting Unknown Outdated DUnknown Off -",
    "partner-dead/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "partner-dead-secondary/alpha": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "partner-down/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "partner-down/beta": None,
    "partner-frozen/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "primary-dead/beta": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "resync/alpha": "Primary Connected Secondary UpToDate Inconsistent SyncSource -",
    "resync/beta": "Secondary Connected Primary Inconsistent UpToDate SyncTarget -",
    "resync-both-secondary/alpha": "Secondary Connected Secondary UpToDate Inconsistent SyncSource -",
    "resync-both-secondary/beta": "Secondary Connected Secondary Inconsistent UpToDate SyncTarget -",
    "roles-crossed/alpha": "Primary Connected Secondary UpToDate UpToDate Established -",
    "roles-crossed/beta": "Secondary Connected Primary UpToDate UpToDate Established -",
    "split-brain/alpha": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain/beta": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain-both-connected/alpha": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain-both-connected/beta": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain-not-met/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "split-brain-not-met/beta": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "split-brain-one-connects/alpha": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "split-brain-one-connects/beta": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain-resolved/alpha": "Secondary Connected Primary UpToDate UpToDate Established -",
    "split-brain-resolved/beta": "Primary Connected Secondary UpToDate UpToDate Established -",
    "split-brain-resolving/alpha": "Secondary Connecting Unknown UpToDate DUnknown Off -",
    "split-brain-resolving/beta": "Primary Connected Secondary UpToDate UpToDate Established -",
    "split-brain-victim-demoted/alpha": "Secondary StandAlone Unknown UpToDate DUnknown Off -",
    "split-brain-victim-demoted/beta": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "sync-paused/alpha": "Primary Connected Secondary UpToDate Inconsistent PausedSyncS -",
    "sync-paused/beta": "Secondary Connected Primary Inconsistent UpToDate PausedSyncT -",
    "sync-target-alone/alpha": "Primary Connecting Unknown UpToDate Inconsistent Off -",
    "sync-target-alone/beta": "Secondary Connecting Unknown Inconsistent DUnknown Off -",
    "taken-over/beta": "Primary Connecting Unknown UpToDate DUnknown Off -",
    "verifying/alpha": "Primary Connected Secondary UpToDate UpToDate VerifyT -",
    "verifying/beta": "Secondary Connected Primary UpToDate UpToDate VerifyS -",
    "wrong-secret/alpha": "Primary StandAlone Unknown UpToDate DUnknown Off -",
    "wrong-secret/beta": "Secondary StandAlone Unknown UpToDate DUnknown Off -",
}


def words(status: ResourceStatus | None) -> str | None:
    if status is None:
        return None
    device = status.devices[0]
    suspended = ",".join(status.suspended) or "-"
    return (
        f"{status.role} {status.connection} {status.peer_role} {device.disk} {device.peer_disk} "
        f"{device.replication} {suspended}"
    )


def text(state: str, look: str) -> str:
    return (CAPTURES / state / f"{look}.txt").read_text()


@pytest.mark.parametrize("state", STATES)
def test_events_say_what_the_state_is(state: str) -> None:
    found = drbd_events.present(drbd_events.events(text(state, "events2")))
    assert words(found.get(TOOLS)) == STATES[state]


@pytest.mark.parametrize("state", [state for state, said in STATES.items() if said is not None])
def test_every_form_of_a_status_says_the_same(state: str) -> None:
    """`status --verbose` leaves nothing out; /proc/drbd has minors and the words of 8.4."""
    events = drbd_events.present(drbd_events.events(text(state, "events2")))
    verbose = drbd_status.parse(text(state, "status-verbose"))
    assert {name: words(each) for name, each in verbose.items()} == {name: words(each) for name, each in events.items()}
    by_minor = {device.minor: device for device in proc_drbd.parse(text(state, "proc")).devices}
    for status in events.values():
        for device in status.devices:
            found = by_minor.get(device.minor or 0)
            if found is not None:  # a device without a disk and without a partner is `Unconfigured` there
                assert (found.role, found.connection, found.disk) == (status.role, status.connection, device.disk)
                assert found.replication == device.replication


@pytest.mark.parametrize("state", [state for state, said in STATES.items() if said is not None])
def test_the_short_status_agrees_about_roles_and_disks(state: str) -> None:
    events = drbd_events.present(drbd_events.events(text(state, "events2")))
    short = drbd_status.parse(text(state, "status"))
    assert short.keys() == events.keys()
    for name, status in short.items():
        assert status.role == events[name].role
        assert [device.disk for device in status.devices] == [device.disk for device in events[name].devices]
        assert status.connected == events[name].connected


def test_progress_lines_belong_to_the_device_above_them() -> None:
    found = {device.minor: device for device in proc_drbd.parse(text("first-sync/alpha", "proc")).devices}
    assert set(found) == {3, 4, 5}
    for device in found.values():
        assert device.progress is not None
        assert device.progress.done is not None and 0 < device.progress.done <= 100
        assert device.progress.left == device.out_of_sync
        assert device.progress.rate and device.progress.seconds


def test_what_each_side_wrote_after_they_parted_is_counted() -> None:
    """The loss of each choice in a split brain: only /proc/drbd knows it."""
    lost = {
        node: next(d.out_of_sync for d in proc_drbd.parse(text(f"split-brain/{node}", "proc")).devices if d.minor == 4)
        for node in ("alpha", "beta")
    }
    assert lost["alpha"] and lost["beta"]


def test_hours_and_thousands_are_read() -> None:
    block = (
        "version: 8.4.11 (api:1/proto:86-101)\n"
        " 0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----\n"
        "    ns:0 oos:52428800\n\t[>....................] sync'ed:  0.1% (51199/51200)M\n"
        "\tfinish: 1:02:03 speed: 36,032 (36,032) want: 40,960 K/sec\n"
    )
    assert proc_drbd.parse(block).devices[0].progress == Progress(0.1, 51199 * 1024, 36032, 3723)


def test_a_listing_that_is_cut_short_says_nothing() -> None:
    """What it lacks must not be taken for absent (DESIGN law 1)."""
    whole = text("healthy/alpha", "events2")
    for end in range(0, len(whole) - len("exists -\n"), 37):
        with pytest.raises(drbd_events.BadEvents):
            drbd_events.present(drbd_events.events(whole[:end]))


@given(st.text(max_size=300))
def test_garbage_is_refused_and_never_believed(garbage: str) -> None:
    for parse, error in (
        (proc_drbd.parse, proc_drbd.BadProcDrbd),
        (lambda t: drbd_events.present(drbd_events.events(t)), drbd_events.BadEvents),
        (drbd_status.parse_json, drbd_status.BadStatus),
        (drbd_conf.parse, BadConf),
    ):
        with contextlib.suppress(error):
            parse(garbage)  # type: ignore[operator]


# --- drbd.conf(5) ----------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=("Cs",)), max_size=60)
STATEMENTS = st.builds(Statement, st.lists(WORDS, min_size=1, max_size=4).map(tuple))
SECTIONS = st.recursive(
    st.builds(Section, st.lists(WORDS, min_size=1, max_size=3).map(tuple)),
    lambda inner: st.builds(
        Section,
        st.lists(WORDS, min_size=1, max_size=3).map(tuple),
        st.lists(st.one_of(STATEMENTS, inner), max_size=4).map(tuple),
    ),
    max_leaves=8,
)


@given(st.lists(st.one_of(STATEMENTS, SECTIONS), max_size=5))
def test_what_is_written_reads_back(parts: list[Statement | Section]) -> None:
    file = Section((), tuple(parts))
    assert drbd_conf.parse(drbd_conf.render(file)) == file


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*/*/dump.txt")), ids=lambda path: path.parent.parent.name)
def test_what_drbdadm_dumps_is_read(path: Path) -> None:
    file = drbd_conf.parse(path.read_text())
    assert {section.words[1] for section in file.sections("resource")} == {"tools", "misc"}
    assert drbd_conf.parse(drbd_conf.render(file)) == file


def test_differences_name_the_place_and_hide_secrets() -> None:
    old = drbd_conf.parse('resource r { net { protocol C; shared-secret "one"; } on a { address ipv4 10.0.0.1:1; } }')
    new = drbd_conf.parse('resource r { net { shared-secret "two"; protocol A; } on b { address ipv4 10.0.0.1:1; } }')
    assert drbd_conf.differences(new, old) == (
        "resource r net protocol: C -> A",
        "resource r net shared-secret: (secret) -> (secret)",
        "resource r on a: is not wanted",
        "resource r on b: is missing",
    )
    assert drbd_conf.differences(old, old) == ()


@pytest.mark.parametrize("bad", ["a {", "a }", "a", "{ a; }", 'a "b'])
def test_half_a_file_is_refused(bad: str) -> None:
    with pytest.raises(BadConf):
        drbd_conf.parse(bad)
