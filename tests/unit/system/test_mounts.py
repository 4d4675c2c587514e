"""Tables of mounts in which somebody gave a name of his own choice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labstore.model.names import ExportPath, VolumeName
from labstore.model.site import Volume
from labstore.ports.host import Command, Completed
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Fact
from labstore.system import block_use
from labstore.system.mounts import Mounts
from labstore.system.node import LocalNode
from tests.support.fake_clock import FakeClock

OURS = b"91 24 147:1 / /srv/misc rw,noatime shared:40 - ext4 /dev/drbd1 rw\n"
NAMES = [b"caf\xe9", b"a\rb", b"a\xe2\x80\xa8b", b"a\x0cb", b"a\xc2\x85b", b"a\\012b"]


class NoHost:
    def run(self, command: Command, expect: frozenset[int] | None = frozenset()) -> Completed:
        raise AssertionError(command)


@pytest.fixture(params=NAMES, ids=repr)
def name(request: pytest.FixtureRequest) -> bytes:
    return bytes(request.param)


@pytest.fixture
def proc(tmp_path: Path, name: bytes) -> Path:
    """A process of another namespace beside ours; in both something is mounted at this name."""
    odd = b"94 24 0:51 / /mnt/%s rw shared:41 - tmpfs none rw\n" % name
    for number, name in enumerate(("self", "7")):
        (tmp_path / name / "ns").mkdir(parents=True)
        (tmp_path / name / "ns" / "mnt").write_text(str(number))
        (tmp_path / name / "mountinfo").write_bytes(odd + OURS)
    return tmp_path


def test_our_own_mounts_and_those_of_others_are_seen(proc: Path, name: bytes) -> None:
    mounts = Mounts(NoHost(), proc)
    odd, ours = mounts.here()
    assert ours.point == "/srv/misc"
    assert os.fsencode(odd.point) == b"/mnt/" + name.replace(b"\\012", b"\n")
    (other,) = mounts.elsewhere()
    assert other.mounts == (odd, ours)
    assert other.follows == {91, 94}


def test_a_volume_is_fit_whatever_else_is_mounted(proc: Path) -> None:
    node = LocalNode(FakeClock(), proc / "self/mountinfo", proc / "by-uuid")
    found = node.volume(Volume(VolumeName("misc"), ExportPath("/srv/misc"), "ext4", None, True))
    assert isinstance(found, Fact)
    assert found.value is VolumeState.FIT


def test_a_device_in_use_is_found_behind_it(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_use, "PROC", proc)
    assert block_use.mounted("147:1") == "mounted at /srv/misc"
