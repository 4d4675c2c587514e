"""The accounts daemon: its loop, what wakes it, what it leaves, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labstore.assembly_dbusers import alive_file
from labstore.daemons.base import Flags
from labstore.daemons.dbusersd import AccountsDaemon
from labstore.model.accounts import AccountKind, DbUser
from labstore.reconcile.record import State
from labstore.system.locks import Locked, exclusive, is_held
from labstore.telemetry.records import Kept, place, read
from tests.support.accounts_world import AccountsWorld

WIKIBUGS = DbUser("s52788")


@dataclass
class DaemonLab:
    """Runs the daemon for so many cycles; `between` are called after the cycle of that number."""

    world: AccountsWorld
    kept: list[Kept] = field(default_factory=list)
    between: dict[int, Callable[[], Any]] = field(default_factory=dict)
    ring: Callable[[], None] | None = None
    quiet: int = 0
    cycles: int = 1

    def __post_init__(self) -> None:
        self.world.directory.listen = self._listen  # type: ignore[method-assign]
        self.room = self.world.room()
        self.daemon = AccountsDaemon(self.room, Flags(), seen=self._seen, chance=lambda: 0.0)

    def _listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        self.ring = ring

        def end() -> None:
            self.quiet += 1

        return end

    def _seen(self, kept: Kept) -> None:
        self.kept.append(kept)
        self.between.get(len(self.kept), lambda: None)()
        if len(self.kept) >= self.cycles:
            self.daemon.flags.stopping = True

    def run(self, cycles: int = 1) -> int:
        self.cycles = cycles
        return self.daemon.run()

    @property
    def states(self) -> list[str]:
        return [kept.state.value for kept in self.kept]

    @property
    def gaps(self) -> list[float]:
        """Seconds from the end of each cycle to the beginning of the next."""
        return [
            (after.started - before.ended).total_seconds()
            for before, after in zip(self.kept, self.kept[1:], strict=False)
        ]


@pytest.fixture
def lab(tmp_path: Path) -> DaemonLab:
    return DaemonLab(AccountsWorld(tmp_path))


def test_it_makes_accounts_and_keeps_a_record(lab: DaemonLab) -> None:
    assert lab.run(2) == 0
    assert lab.states == ["converged", "converged"]
    assert WIKIBUGS in lab.world.files.files
    kept = read(place(lab.world.base / "run", "dbusers", "wikicloud"))
    assert (kept.room, kept.name, kept.due) == ("dbusers", "wikicloud", None), "no other record is to come"
    assert lab.kept[0].due is not None
    assert kept.facts["accounts"] == {"tool live": 2, "user live": 1}


def test_cycles_come_at_their_interval(lab: DaemonLab) -> None:
    lab.run(3)
    assert lab.gaps == [60.0, 60.0]


def test_a_change_in_the_directory_brings_the_next_cycle_at_once(lab: DaemonLab) -> None:
    def change() -> None:
        lab.world.add(AccountKind.TOOL, "tools.fresh", 53000)
        assert lab.ring is not None
        lab.ring()

    lab.between[1] = change
    lab.run(2)
    assert lab.gaps[0] < 1
    assert DbUser("s53000") in lab.world.files.files


def test_a_bell_that_does_not_stop_ringing_is_not_answered_without_rest(lab: DaemonLab) -> None:
    for number in range(1, 5):
        lab.between[number] = lambda: lab.ring and lab.ring()
    lab.run(5)
    assert all(gap >= 0.3 for gap in lab.gaps)


def test_a_word_left_in_the_ledger_is_heard_within_seconds(lab: DaemonLab) -> None:
    lab.between[2] = lambda: lab.world.run("dbusers", "limit", "wikibugs", "--connections", "3")
    lab.run(3)
    assert lab.gaps[1] <= 2
    assert lab.world.replica("db1.example.org").accounts[WIKIBUGS].limits.max_connections == 3


def test_its_own_work_is_no_word_to_itself(lab: DaemonLab) -> None:
    """The first cycle writes; what it wrote does not bring the second one."""
    lab.run(2)
    assert lab.gaps == [60.0]


def test_a_command_asked_while_it_runs_is_told_so(lab: DaemonLab) -> None:
    said: list[str] = []
    lab.between[1] = lambda: said.append(lab.world.run("dbusers", "rotate", "wikibugs", "--yes").stdout)
    lab.run(1)
    assert "the daemon does it within seconds" in said[0]


def test_a_server_that_is_away_slows_nobody(lab: DaemonLab) -> None:
    lab.between[1] = lambda: setattr(lab.world.replica("db2.example.org:3311"), "away", True)
    lab.run(3)
    assert lab.states == ["converged", "holding", "holding"]
    assert lab.gaps == [60.0, 60.0]


def test_a_ledger_that_does_not_work_is_pressed_less_and_less(lab: DaemonLab) -> None:
    (lab.world.base / "state/dbusers").mkdir(parents=True)
    (lab.world.base / "state/dbusers/ledger.sqlite").write_bytes(b"this is no database" * 100)
    lab.run(4)
    assert lab.states == ["failed"] * 4
    assert lab.gaps == [120.0, 240.0, 300.0]
    assert lab.kept[0].reports[0].code == "ledger-down"
    assert "failed" in lab.world.run("status").stdout


def test_the_site_file_is_read_again_and_a_new_host_is_filled(lab: DaemonLab) -> None:
    def add_host() -> None:
        text = lab.world.site_file.read_text()
        lab.world.site_file.write_text(text.replace("  files:", "    db3.example.org: {}\n  files:"))

    lab.between[1] = add_host
    lab.run(2)
    assert WIKIBUGS in lab.world.replica("db3.example.org").accounts
    assert lab.quiet == 2, "the doorbell belongs to the settings"


def test_a_site_file_with_a_mistake_changes_nothing_and_is_told(lab: DaemonLab) -> None:
    lab.between[1] = lambda: lab.world.site_file.write_text("site: [")
    lab.run(2)
    assert lab.states == ["converged", "converged"]
    assert any("site.yaml" in said.message for said in lab.kept[1].reports)


def test_a_defect_is_told_and_the_next_cycle_is_tried(lab: DaemonLab) -> None:
    before = lab.world.directory.listing

    def broken() -> Any:
        raise ZeroDivisionError("boom")

    lab.between[1] = lambda: setattr(lab.world.directory, "listing", broken)
    lab.between[2] = lambda: setattr(lab.world.directory, "listing", before)
    lab.run(3)
    assert lab.states == ["converged", "failed", "converged"]
    defect = next(said for said in lab.kept[1].reports if said.code == "defect")
    assert "ZeroDivisionError" in defect.message
    assert "labstore-dbusersd" in (defect.remedy or "")


def test_three_defects_in_a_row_end_it(lab: DaemonLab) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("boom")

    lab.world.directory.listing = broken  # type: ignore[method-assign]
    assert lab.run(9) == 1
    assert lab.states == ["failed"] * 3


def test_it_holds_a_lock_for_as_long_as_it_lives(lab: DaemonLab) -> None:
    path = alive_file(lab.room.source())
    held: list[bool | None] = []
    lab.between[1] = lambda: held.append(is_held(path))
    lab.run(1)
    assert held == [True]
    assert is_held(path) is False
    with exclusive(path, "another"), pytest.raises(Locked):
        lab.run(1)


def test_at_its_end_another_machine_may_lead_at_once(lab: DaemonLab) -> None:
    lab.run(1)
    leader = lab.world.json("show")["leader"]
    assert leader is None


def test_on_the_standby_node_it_waits(lab: DaemonLab) -> None:
    lab.world.node.active = False
    lab.between[2] = lambda: setattr(lab.world.node, "active", True)
    lab.run(3)
    assert lab.states == ["standby", "standby", "converged"]


def test_once_runs_one_cycle(lab: DaemonLab) -> None:
    record = lab.daemon.once()
    assert record.state is State.CONVERGED
    assert lab.ring is None, "nobody listens for one cycle"
