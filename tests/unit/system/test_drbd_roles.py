"""A change of roles is seen in /proc/drbd alone, and anything else is never mistaken for one: on what real DRBD said in
every captured state, each taken for what there was before each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.model.drbd import ResourceName, ResourceStatus, Role
from labstore.system.drbdadm import Drbd, DrbdFailed, Refused
from tests.support.fake_host import FakeHost, Scripted
from tests.support.small_pair import resource

CAPTURES = Path(__file__).parents[2] / "captures" / "drbd" / "8.4.11-utils-9.22.0"
LOOKS = sorted(path.parent for path in CAPTURES.glob("*/*/events2.txt") if path.with_name("proc.txt").exists())
Found = Mapping[ResourceName, ResourceStatus]


def status(look: Path) -> Found:
    host = FakeHost(Scripted(("drbdsetup",), stdout=(look / "events2.txt").read_text()))
    return Drbd(host, proc=look / "proc.txt").status()


def without_counts(found: Found) -> Found:
    """What the two ways of asking count at their own moments is left out."""
    return {
        name: replace(each, devices=tuple(replace(d, out_of_sync=None, progress=None) for d in each.devices))
        for name, each in found.items()
    }


STATUSES = {look: without_counts(status(look)) for look in LOOKS}


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.parent.name}-{look.name}")
def test_what_it_says_is_what_asking_anew_would_say(look: Path) -> None:
    drbd, truth = Drbd(FakeHost(), proc=look / "proc.txt"), STATUSES[look]
    told = [found for before in STATUSES.values() if before and (found := drbd.roles(before)) is not None]
    assert all(without_counts(found) == truth for found in told)


@pytest.mark.parametrize("state", ["healthy", "both-secondary", "roles-crossed", "link-cut", "partner-dead"])
def test_it_is_said_where_nothing_else_has_changed(state: str) -> None:
    look = CAPTURES / state / "alpha"
    assert Drbd(FakeHost(), proc=look / "proc.txt").roles(status(look)) == status(look)


def test_after_a_change_of_roles_no_program_is_asked() -> None:
    before, after = CAPTURES / "both-secondary" / "alpha", CAPTURES / "healthy" / "alpha"
    found = Drbd(FakeHost(), proc=after / "proc.txt").roles(status(before))
    assert found is not None and {each.role for each in found.values()} == {Role.PRIMARY}


@pytest.mark.parametrize(("version", "what"), [("8.4.11", "4"), ("9.2.1", "tools")])
def test_a_role_is_changed_without_reading_configuration(tmp_path: Path, version: str, what: str) -> None:
    proc = tmp_path / "drbd"
    proc.write_text(f"version: {version} (api:1/proto:86-101)\n")
    host = FakeHost(Scripted(("drbdsetup",)), Scripted(("drbdsetup",)))
    drbd = Drbd(host, proc=proc)
    drbd.primary(resource("tools", 4, 7790), force=True)
    drbd.secondary(resource("tools", 4, 7790))
    assert [command.argv for command in host.ran] == [
        ("drbdsetup", "primary", what, "--force"),
        ("drbdsetup", "secondary", what),
    ]


def test_a_refusal_says_why(tmp_path: Path) -> None:
    said = "4: State change failed: (-12) Device is held open by someone\n"
    host = FakeHost(Scripted(("drbdsetup", "secondary"), stderr=said, status=11))
    with pytest.raises(DrbdFailed) as raised:
        Drbd(host, proc=tmp_path / "none").secondary(resource("tools", 4, 7790))
    assert raised.value.why is Refused.HELD_OPEN and "held open by someone" in str(raised.value)
