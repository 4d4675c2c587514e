"""The exports daemon on fakes: serve first, survive everything, tell everybody."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from labstore.assembly import ExportsRoom, SiteSource, alive_file, exports_lock, from_site_file
from labstore.daemons import base, exportd
from labstore.daemons.base import Ending, Flags
from labstore.daemons.exportd import ExportDaemon, Interruptible
from labstore.exports.history import Pin
from labstore.model.site import MetricsSettings
from labstore.ports.inventory import Snapshot
from labstore.ports.node import VolumeState
from labstore.reconcile.record import State
from labstore.system.locks import Locked, exclusive, is_held
from labstore.system.notify import Supervisor
from labstore.telemetry.records import Kept, place, read
from tests.support.cli_world import CliWorld
from tests.support.fakes import instance, refusing


@dataclass
class DaemonWorld:
    """A daemon on fakes; `cycles` are those it may run, `between` is called after each with its number."""

    world: CliWorld
    cycles: int = 1
    between: dict[int, Callable[[], None]] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flags = Flags()
        self.source = SiteSource(from_site_file(self.world.site_file), self.world.site_file)
        self.room = ExportsRoom(
            self.source,
            "primary",
            "labstore-exportd@labstore1",
            lambda inventory: Interruptible(inventory, self.flags),
            node="labstore1",
            hands=self.world.hands,
        )
        supervisor = Supervisor({})
        supervisor.tell = lambda **words: self.told.append(words)  # type: ignore[method-assign]
        self.daemon = ExportDaemon(self.room, self.flags, supervisor, self.seen, chance=lambda: 0.0)

    def seen(self, kept: Kept) -> None:
        self.kept.append(kept)
        self.between.get(len(self.kept), lambda: None)()
        if len(self.kept) >= self.cycles:
            self.flags.stop()

    def run(self, cycles: int = 1) -> int:
        self.cycles = len(self.kept) + cycles
        self.flags.stopping = False
        return self.daemon.run()

    @property
    def states(self) -> list[str]:
        return [kept.state.value for kept in self.kept]

    def codes(self) -> set[str]:
        return {said.code for said in self.kept[-1].reports}


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    return CliWorld.of(tmp_path)


@pytest.fixture
def lab(world: CliWorld) -> DaemonWorld:
    return DaemonWorld(world)


@pytest.fixture
def served(world: CliWorld) -> CliWorld:
    assert DaemonWorld(world).run() == 0
    return world


# --- the order of things ---------------------------------------------------------------------------------------------


def test_it_follows_the_inventory(lab: DaemonWorld) -> None:
    lab.between[1] = lambda: lab.world.inventory.add(instance("tools-9", "p-tools", "172.16.1.99")) and None
    assert lab.run(2) == 0
    assert lab.states == ["converged", "converged"]
    assert "172.16.1.99" in str(lab.world.server.live)
    assert lab.world.clock.slept == [3.0], "exports.poll"


def test_what_was_last_known_good_is_served_before_anybody_is_asked(served: CliWorld) -> None:
    """DESIGN law 3: the server lost its live table; the inventory does not even answer."""
    served.server.live = type(served.server.live)()
    lab, asked = DaemonWorld(served), []

    def listing() -> Snapshot:
        asked.append(served.server.live.clients)
        raise Ending

    served.inventory.listing = listing  # type: ignore[method-assign]
    assert lab.run() == 0
    assert asked == [8]


def test_ready_is_told_once_it_serves(served: CliWorld) -> None:
    lab = DaemonWorld(served)
    lab.run()
    assert [set(words) for words in lab.told] == [{"READY", "STATUS"}, {"STATUS"}, {"STOPPING", "STATUS"}]
    assert lab.told[1]["STATUS"] == "converged: 4 exports, 8 clients"


def test_on_a_standby_node_nothing_is_touched_and_nobody_asked(served: CliWorld) -> None:
    served.server.live = type(served.server.live)()
    served.node.active = False
    calls, listings = served.server.calls, served.inventory.listings
    lab = DaemonWorld(served)
    assert lab.run(3) == 0
    assert lab.states == ["standby"] * 3
    assert (served.server.calls, served.inventory.listings) == (calls, listings)


def test_becoming_active_serves_before_asking(served: CliWorld) -> None:
    served.server.live = type(served.server.live)()
    served.node.active = False
    lab = DaemonWorld(served)
    served.inventory.broken |= {"eqiad1-r", "projects"}
    lab.between[1] = lambda: setattr(served.node, "active", True)
    lab.run(2)
    assert lab.states == ["standby", "holding"]
    assert served.server.live.clients == 8


def test_a_pair_s_volume_is_waited_for_and_let_go(world: CliWorld) -> None:
    """Nothing is written below its mount point while the other node has it, and nothing holds it once it is to go."""
    world.node.volumes["misc"], world.node.active = VolumeState.NOT_MOUNTED, False
    lab = DaemonWorld(world)
    lab.source = SiteSource(world.as_pair(), world.site_file)
    lab.room.source = lab.source

    def mounted() -> None:
        world.node.volumes["misc"], world.node.active = VolumeState.FIT, True

    open_before_leaving: list[bool] = []
    lab.between[1] = mounted
    lab.between[2] = lambda: setattr(world.node, "active", False)
    lab.between[3] = lambda: open_before_leaving.append(lab.room._made is not None)
    assert lab.run(3) == 0
    assert lab.states == ["standby", "converged", "standby"]
    assert open_before_leaving == [False]
    assert {said.code for said in lab.kept[0].reports} == {"state-not-mounted-here"}


# --- records ---------------------------------------------------------------------------------------------------------


def test_every_cycle_leaves_its_record(lab: DaemonWorld) -> None:
    lab.run(2)
    kept = read(place(lab.source().run_dir, "exports", "primary"))
    assert (kept.number, kept.state, kept.node) == (2, State.CONVERGED, "labstore1")
    assert kept.due is None, "after an orderly end none is to come"
    assert lab.kept[0].due is not None


def test_the_daemon_s_life_can_be_told_from_outside(lab: DaemonWorld) -> None:
    held: list[bool | None] = []
    path = alive_file(lab.source(), "primary")
    lab.between[1] = lambda: held.append(is_held(path))
    lab.run()
    assert (held, is_held(path)) == ([True], False)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_the_daemon_makes_has_its_modes_whatever_the_umask(lab: DaemonWorld, umask: int) -> None:
    """Nobody else can put anything among its files, and everybody can read its record."""
    before = os.umask(umask)
    try:
        lab.run()
    finally:
        os.umask(before)
    base = lab.world.base
    made = {each: stat.S_IMODE((base / each).stat().st_mode) for each in (*PUBLIC, *PRIVATE, *LOCKS)}
    assert made == dict.fromkeys(PUBLIC, 0o755) | dict.fromkeys(PRIVATE, 0o750) | dict.fromkeys(LOCKS, 0o600)


PUBLIC, PRIVATE = ("state", "state/exports", "run", "run/exports"), ("state/exports/primary",)
LOCKS = ("run/exports/primary.daemon", "run/exports/primary.lock")


def test_a_second_daemon_is_refused(lab: DaemonWorld) -> None:
    path = alive_file(lab.source(), "primary")
    path.parent.mkdir(parents=True)
    with exclusive(path, "labstore-exportd"), pytest.raises(Locked, match="labstore-exportd"):
        lab.run()


def test_a_record_that_cannot_be_written_stops_nothing(lab: DaemonWorld) -> None:
    lab.run()
    (lab.source().run_dir / "exports/primary.json").unlink()
    (lab.source().run_dir / "exports/primary.json").mkdir()
    assert lab.run(2) == 0
    assert lab.world.server.live.clients == 8


# --- trouble ---------------------------------------------------------------------------------------------------------


def test_one_broken_region_holds_and_the_rest_goes_on(lab: DaemonWorld) -> None:
    lab.world.inventory.broken.add("eqiad1-r/p-maps")
    lab.run()
    assert lab.states == ["holding"]
    assert "172.16.1.11" in str(lab.world.server.live)
    assert lab.kept[-1].facts["missing_count"] == 1


def test_a_source_in_trouble_does_not_slow_the_cycles(lab: DaemonWorld) -> None:
    lab.world.inventory.broken.add("eqiad1-r")
    lab.run(3)
    assert lab.world.clock.slept == [3.0, 3.0]


def test_a_server_that_refuses_is_not_pressed(lab: DaemonWorld) -> None:
    lab.world.server.trouble = refusing()
    lab.run(5)
    assert lab.states == ["failed"] * 5
    assert lab.world.clock.slept == [6.0, 12.0, 24.0, 30.0]


def test_a_defect_is_told_and_the_next_cycle_is_tried(lab: DaemonWorld) -> None:
    lab.run()
    lab.world.inventory.changes = broken  # type: ignore[method-assign]
    lab.world.inventory.listing = broken  # type: ignore[method-assign]
    lab.between[2] = lambda: vars(lab.world.inventory).pop("changes") and vars(lab.world.inventory).pop("listing")
    assert lab.run(2) == 0
    assert lab.states == ["converged", "failed", "converged"]
    defect = next(said for said in lab.kept[1].reports if said.code == "defect")
    assert "ZeroDivisionError" in defect.message
    assert lab.kept[1].facts["served_clients"] == 8, "what is served stays served"
    assert [kept.number for kept in lab.kept] == [1, 2, 3]


def test_three_defects_in_a_row_are_for_the_supervisor(lab: DaemonWorld) -> None:
    lab.world.inventory.listing = broken  # type: ignore[method-assign]
    assert lab.run(9) == 1
    assert lab.states == ["failed"] * 3


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def test_a_history_that_cannot_be_written_is_told_and_tried_again(lab: DaemonWorld) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    history = lab.room.cycle().observer.history
    history.begin = full  # type: ignore[method-assign]
    assert lab.run(2) == 0
    assert lab.states == ["failed", "converged"], "a fresh connection is tried"
    assert "state-unusable" in {said.code for said in lab.kept[0].reports}


def history_of(world: CliWorld) -> Path:
    return world.base / "state/exports/primary/history.sqlite"


def test_a_history_that_is_no_database_costs_changes_and_not_service(served: CliWorld) -> None:
    """What is on file is served from the first moment, the record says what to do, and it goes on when that is done."""
    history_of(served).write_bytes(b"no database at all" * 100)
    served.server.live, clients = type(served.server.live)(), list[int]()
    lab = DaemonWorld(served)
    served.inventory.add(instance("tools-9", "p-tools", "172.16.1.99"))
    lab.between[2] = lambda: [each.unlink() for each in history_of(served).parent.glob("history.sqlite*")] and None
    lab.between[1] = lambda: clients.append(served.server.live.clients)
    assert lab.run(3) == 0
    assert lab.states == ["failed", "failed", "converged"]
    assert clients == [8]
    said = next(said for said in lab.kept[0].reports if said.code == "state-unusable")
    assert str(history_of(served)) in said.message
    assert "mv " in str(said.remedy)
    assert lab.kept[0].facts["served_clients"] == 8
    assert (served.server.live.clients, served.server.generation) == (9, 2), "above what the files remember"


def test_status_and_check_show_what_is_wrong_with_the_state(served: CliWorld) -> None:
    history_of(served).write_bytes(b"no database at all" * 100)
    DaemonWorld(served).run()
    status, check = served.run("status"), served.run("check", "exports")
    assert (status.exit_code, check.exit_code) == (1, 2)
    assert "failed: 4 exports, 8 clients still served" in status.stdout
    assert "file is not a database" in " ".join(status.stdout.split())
    assert "file is not a database" in check.stdout


def test_a_state_directory_that_cannot_be_made_is_told_and_tried_again(lab: DaemonWorld) -> None:
    (lab.world.base / "state").touch()
    lab.between[1] = (lab.world.base / "state").unlink
    assert lab.run(2) == 0
    assert lab.states == ["failed", "converged"]


def test_a_server_that_loses_its_table_while_the_history_is_broken_gets_it_back(served: CliWorld) -> None:
    history_of(served).write_bytes(b"no database at all" * 100)
    lab = DaemonWorld(served)
    lab.between[1] = lambda: setattr(served.server, "live", type(served.server.live)())
    lab.run(2)
    assert served.server.live.clients == 8


def test_without_a_history_a_standby_node_touches_nothing(served: CliWorld) -> None:
    history_of(served).write_bytes(b"no database at all" * 100)
    served.server.live, served.node.active = type(served.server.live)(), False
    DaemonWorld(served).run()
    assert served.server.live.clients == 0


def test_every_generation_says_what_made_it(lab: DaemonWorld) -> None:
    world, text = lab.world, lab.world.site_file.read_text()
    add = lambda number: world.inventory.add(instance(f"tools-{number}", "p-tools", f"172.16.1.{number}")) and None  # noqa: E731
    lab.between[1] = lambda: add(91)
    lab.between[2] = lambda: world.site_file.write_text(text.replace("172.16.0.0/21", "172.16.0.0/20")) and None
    lab.between[3] = lambda: pinned(lab, 2)
    lab.between[4] = lambda: world.clock.advance(7200)
    lab.run(5)
    whys = [generation.why for generation in reversed(world.history.generations())]
    assert whys == [
        "the first look after a start",
        "the inventory changed",
        "the site file changed",
        "generation 2 is pinned by alice@n1: look",
        "the pin of generation 2 is over",
    ]


def pinned(lab: DaemonWorld, number: int) -> None:
    until = lab.world.clock.now() + timedelta(hours=1)
    lab.room.cycle().observer.history.set_pin(Pin(number, until, "alice@n1", "look"))


def test_a_lock_that_somebody_holds_is_waited_for(lab: DaemonWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exportd, "TURN", 0.0)
    with exports_lock(lab.source(), "primary", "exports apply"):
        assert lab.run(2) == 0
    assert lab.states == ["holding", "holding"]
    assert "exports apply" in lab.kept[0].reports[0].message
    lab.run()
    assert lab.states[-1] == "converged"


def test_the_lock_is_free_between_cycles(lab: DaemonWorld) -> None:
    taken: list[bool] = []

    def sleep(_seconds: float) -> None:
        with exports_lock(lab.source(), "primary", "exports apply"):
            taken.append(True)

    lab.world.clock.sleep = sleep  # type: ignore[method-assign]
    lab.run(2)
    assert taken == [True]


# --- the site file ---------------------------------------------------------------------------------------------------


def test_a_site_file_that_breaks_changes_nothing_and_is_loud(lab: DaemonWorld) -> None:
    """upstream #3, #6"""
    text = lab.world.site_file.read_text()
    lab.between[1] = lambda: lab.world.site_file.write_text(text.replace("gid: 50196", "gid: nonsense")) and None
    lab.between[2] = lambda: lab.world.site_file.write_text(text + "\n") and None
    lab.world.inventory.add(instance("tools-9", "p-tools", "172.16.1.99"))
    lab.run(3)
    assert lab.states == ["converged", "failed", "converged"]
    assert "file-problem" in {said.code for said in lab.kept[1].reports}
    assert lab.world.clock.slept == [3.0, 3.0], "and slows nobody"
    assert lab.world.server.live.clients == 9


def test_a_new_project_is_served_without_a_restart(lab: DaemonWorld) -> None:
    text = lab.world.site_file.read_text()
    new = "  cvn: {gid: 50116, shares: {project: true}}\n  extra: {gid: 50999, shares: {project: true}}\n"
    id_ = lab.world.inventory.add_project("extra")
    lab.world.inventory.add(instance("extra-1", id_, "172.16.7.1"))
    lab.between[1] = lambda: (
        lab.world.site_file.write_text(text.replace("  cvn: {gid: 50116, shares: {project: true}}\n", new)) and None
    )
    lab.run(2)
    assert "172.16.7.1" in str(lab.world.server.live)


def test_a_changed_service_address_is_followed_without_a_restart(lab: DaemonWorld) -> None:
    text = lab.world.site_file.read_text()
    lab.between[1] = lambda: lab.world.site_file.write_text(text.replace("172.16.0.10", "172.16.0.11")) and None
    lab.run(2)
    assert lab.room.cycle().observer.cluster.service_addresses == ("172.16.0.11",)


def test_hup_reads_the_site_again_and_lists_everything(lab: DaemonWorld) -> None:
    lab.between[1] = lab.flags.reload
    lab.run(2)
    assert lab.world.inventory.listings == 2


# --- signals ---------------------------------------------------------------------------------------------------------


def test_the_end_does_not_wait_for_the_inventory(lab: DaemonWorld) -> None:
    def slow() -> Snapshot:
        lab.flags.stop()  # as a handler does, while the call is in progress
        raise AssertionError("the handler should have ended this call")

    lab.world.inventory.listing = slow  # type: ignore[method-assign]
    assert lab.daemon.run() == 0
    assert lab.kept == []


def test_a_write_is_finished_whatever_is_signalled(lab: DaemonWorld) -> None:
    def twice(step: str) -> None:
        if step == "stored":
            lab.flags.stop()
            lab.flags.stop()

    lab.world.server.trouble = twice
    assert lab.daemon.run() == 0
    assert lab.world.server.live.clients == 8
    assert lab.states == ["converged"]


def test_handlers_are_put_back(lab: DaemonWorld) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    lab.run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_a_metrics_port_that_is_taken_costs_the_metrics_alone_and_every_record_says_so(lab: DaemonWorld) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = MetricsSettings("127.0.0.1", taken.getsockname()[1])
        lab.daemon.notes = base.listen(settings, exportd.ExportMetrics().registry)
    lab.run(2)
    assert lab.states == ["converged"] * 2
    assert all(kept.reports[-1].code == "metrics-unheard" for kept in lab.kept)
    assert "Address already in use" in lab.world.run("status").stdout


def test_old_generations_are_forgotten(lab: DaemonWorld) -> None:
    lab.world.site_file.write_text(lab.world.site_file.read_text() + "exports: {keep_generations: 2}\n")
    lab = DaemonWorld(lab.world)
    for number in range(5):
        lab.between[number + 1] = lambda n=number: (
            lab.world.inventory.add(  # type: ignore[misc]
                instance(f"new-{n}", "p-cvn", f"172.16.3.{100 + n}")
            )
            and lab.world.clock.advance(4000)
        )
    lab.run(6)
    assert len(lab.room.cycle().observer.history.generations()) <= 3
