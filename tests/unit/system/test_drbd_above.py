"""Only a copy that is complete, the newest and in touch with its partner is worth reading (captures of a real pair)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labstore.system.drbd_above import replica
from labstore.system.drbdadm import Drbd
from tests.support.fake_host import FakeHost, Scripted

CAPTURES = Path(__file__).parents[2] / "captures" / "drbd" / "8.4.11-utils-9.22.0"
TOOLS = "drbd4"


def said(tmp_path: Path, state: str, *holders: str) -> str | None:
    """What is said of a device on which these are built, in one of the captured states."""
    number = Path("/dev/null").stat().st_rdev
    for name in holders:
        (tmp_path / f"{os.major(number)}:{os.minor(number)}" / "holders" / name).mkdir(parents=True)
    folder = CAPTURES / state
    events = Scripted(("drbdsetup", "events2"), stdout=(folder / "events2.txt").read_text())
    return replica("/dev/null", Drbd(FakeHost(events), folder / "proc.txt"), tmp_path)


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("healthy/beta", "UpToDate"),
        ("disconnected/alpha", "UpToDate"),
        ("disconnected/beta", "of unknown age: its partner is not connected (StandAlone)"),
        ("primary-dead/beta", "of unknown age: its partner is not connected (Connecting)"),
        ("first-sync/beta", "Inconsistent"),
        ("outdated/beta", "Outdated"),
        ("partner-down/beta", "not known: DRBD says nothing of it"),
    ],
)
def test_what_a_copy_is_worth(tmp_path: Path, state: str, found: str) -> None:
    assert said(tmp_path, state, TOOLS) == found


def test_what_nothing_replicates_is_judged_by_nobody(tmp_path: Path) -> None:
    assert said(tmp_path, "healthy/beta", "dm-7") is None
    assert said(tmp_path, "healthy/beta") is None
