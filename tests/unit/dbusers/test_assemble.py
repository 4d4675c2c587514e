"""Who leads is told apart wherever nobody else would tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.dbusers.assemble import holder

STATE = Path("/var/lib/labstore")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text("b08dfa6083e7567a1921a715000001fb\n")
    return path


def test_processes_that_share_a_lock_are_one_holder(machine: Path) -> None:
    assert holder(STATE, machine) == holder(STATE, machine)


def test_two_daemons_that_take_no_turns_are_two_holders(machine: Path) -> None:
    """Each has a lock of its own, so only the ledger can keep them apart."""
    assert holder(STATE, machine) != holder(Path("/srv/other"), machine)


def test_two_machines_of_one_name_are_two_holders(machine: Path) -> None:
    first = holder(STATE, machine)
    machine.write_text("c18dfa6083e7567a1921a715000001fb\n")
    assert holder(STATE, machine) != first


def test_a_machine_without_a_number_leads_all_the_same(tmp_path: Path) -> None:
    assert holder(STATE, tmp_path / "machine-id")
