"""This machine's mounts and addresses."""

from __future__ import annotations

from pathlib import Path

from labstore.model.address import Client
from labstore.model.names import ExportPath, VolumeName
from labstore.model.site import Volume
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Fact, Missing
from labstore.system.node import LocalNode
from tests.support.fake_clock import FakeClock

TABLE = """\
24 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
91 24 147:1 / /srv/misc rw,noatime shared:40 - ext4 /dev/drbd1 rw
92 24 147:2 / /srv/tools ro,noatime - ext4 /dev/drbd2 rw
93 24 0:50 / /srv/odd\\040name rw - tmpfs none rw
"""


def node(tmp_path: Path, table: str = TABLE) -> LocalNode:
    (tmp_path / "mountinfo").write_text(table)
    return LocalNode(FakeClock(), tmp_path / "mountinfo", tmp_path / "by-uuid")


def state(found: object) -> VolumeState:
    assert isinstance(found, Fact)
    assert isinstance(found.value, VolumeState)
    return found.value


def volume(mount: str, filesystem: str | None = "ext4", uuid: str | None = None, mounted: bool = True) -> Volume:
    return Volume(VolumeName("misc"), ExportPath(mount), filesystem, uuid, mounted)


def test_a_mounted_volume_is_fit(tmp_path: Path) -> None:
    assert state(node(tmp_path).volume(volume("/srv/misc"))) is VolumeState.FIT


def test_a_mount_point_without_its_mount_is_not(tmp_path: Path) -> None:
    assert state(node(tmp_path).volume(volume("/srv/mis"))) is VolumeState.NOT_MOUNTED  # upstream #66


def test_another_file_system_is_not_the_volume(tmp_path: Path) -> None:
    assert state(node(tmp_path).volume(volume("/srv/misc", "xfs"))) is VolumeState.WRONG_FILESYSTEM


def test_another_uuid_is_not_the_volume(tmp_path: Path) -> None:
    found = node(tmp_path).volume(volume("/srv/misc", uuid="0d4f5a3e-0000-4000-8000-000000000000"))
    assert state(found) is VolumeState.WRONG_FILESYSTEM


def test_a_volume_that_went_read_only_is_said(tmp_path: Path) -> None:
    assert state(node(tmp_path).volume(volume("/srv/tools"))) is VolumeState.READ_ONLY


def test_a_plain_directory_need_not_be_mounted(tmp_path: Path) -> None:
    assert state(node(tmp_path).volume(volume(str(tmp_path), mounted=False))) is VolumeState.FIT


def test_unreadable_mountinfo_is_missing(tmp_path: Path) -> None:
    assert isinstance(node(tmp_path, "garbage\n").volume(volume("/srv/misc")), Missing)


def test_the_loopback_address_is_held_and_a_documentation_address_is_not(tmp_path: Path) -> None:
    here = node(tmp_path)
    for addresses, expected in (((), True), (("127.0.0.1",), True), (("127.0.0.1", "192.0.2.77"), False)):
        found = here.holds([Client(address) for address in addresses])
        assert isinstance(found, Fact)
        assert found.value is expected
