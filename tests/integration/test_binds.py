"""Directories and bind mounts for real: file systems of the test's own, in a mount namespace of its own, changed by
tenants who are root on them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labstore.assembly import Hands
from labstore.cli.compat_nfs import nfs_manage_binds
from labstore.cli.main import labstore
from labstore.formats.mountinfo import on_top
from labstore.system.locks import exclusive
from labstore.system.mounts import Mounts, of_device
from labstore.system.run import LocalHost
from labstore.system.trees import NEW, Directory, NotADirectory, NotMounted, Top, bind, make_directory, unbind
from labstore.system.trees import directory as look
from tests.support import mount_namespace
from tests.support.hang import HANGS
from tests.support.logs_kept import logs_kept

pytestmark = pytest.mark.root

SITE = """\
site: lab
state_dir: {base}/state
run_dir: {base}/run
clusters:
  primary:
    nodes: {{labstore1: {{}}}}
    volumes:
      misc: {{mount: {base}/misc, filesystem: tmpfs}}
      tools: {{mount: {base}/tools, filesystem: tmpfs}}
    {root}
shares:
  project: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
  home: {{cluster: primary, volume: misc, path: "shared/{{project}}"}}
  tools-home: {{cluster: primary, volume: tools, path: shared/tools}}
projects:
  tools: {{gid: 50380, shares: {{tools-home: true}}}}
  cvn: {{gid: 50116, shares: {{project: true, home: true}}}}
{more}
inventory: {{source: file, file: inventory.yaml}}
"""
MOUNTS = Mounts(LocalHost())


@dataclass
class Lab:
    base: Path

    def site(self, root: bool = True, more: str = "") -> Path:
        file = self.base / "site.yaml"
        file.write_text(SITE.format(base=self.base, root=f"export_root: {self.base}/exp" if root else "", more=more))
        (self.base / "inventory.yaml").write_text("projects: {}\n")
        return file

    def run(self, *arguments: str, command: Any = labstore) -> Result:
        environment = {"LABSTORE_SITE": str(self.base / "site.yaml"), "LABSTORE_NODE": "labstore1", "COLUMNS": "80"}
        with logs_kept():
            return CliRunner(env=environment).invoke(command, list(arguments), obj=Hands())

    def binds(self, *arguments: str) -> Result:
        return self.run("binds", *arguments)

    def path(self, name: str) -> Path:
        return self.base / name

    def owned(self, name: str) -> tuple[int, int, str]:
        status = self.path(name).stat()
        return status.st_uid, status.st_gid, f"{stat.S_IMODE(status.st_mode):04o}"

    def mounted(self) -> dict[str, str]:
        """What is mounted below the export root, and the directory of its file system that it shows."""
        below = [mount for mount in MOUNTS.here() if mount.point.startswith(f"{self.base}/exp/")]
        return {mount.point.removeprefix(f"{self.base}/exp/"): mount.root for mount in below}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    mount_namespace.enter()
    found = Lab(tmp_path)
    for name in ("misc", "tools"):
        found.path(name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(found.path(name))], check=True, timeout=HANGS)
    found.site()
    yield found
    for mount in reversed(MOUNTS.here()):
        if mount.point.startswith(f"{tmp_path}/"):
            subprocess.run(["umount", mount.point], check=False, timeout=HANGS)


def said(result: Result) -> str:
    """What is on the screen, without the blanks and line ends that fold it."""
    return "".join(result.output.split())


ALL = {"project/cvn": "/shared/cvn", "project/tools": "/shared/tools"}


def test_a_new_project_gets_its_directories_and_mounts(lab: Lab) -> None:
    done = lab.binds("apply", "--yes")
    assert done.exit_code == 0, done.output
    assert lab.owned("misc/shared") == (0, 0, "0755")
    assert lab.owned("misc/shared/cvn") == (0, 50116, "0755")
    assert lab.owned("misc/shared/cvn/home") == lab.owned("misc/shared/cvn/project") == (0, 50116, "2775")
    assert lab.owned("tools/shared/tools/home") == (0, 50380, "2775")
    assert lab.mounted() == ALL
    lab.path("exp/project/cvn/home/file").write_text("x")
    assert lab.path("misc/shared/cvn/home/file").read_text() == "x"


def test_doing_it_again_touches_nothing(lab: Lab) -> None:
    """DESIGN law 6"""
    lab.binds("apply", "--yes")
    before = {path: path.stat().st_ctime_ns for path in lab.path("misc").rglob("*")}
    mounts = MOUNTS.here()
    again = lab.binds("apply", "--yes")
    assert again.exit_code == 0 and "nothing to do" in again.output
    assert {path: path.stat().st_ctime_ns for path in lab.path("misc").rglob("*")} == before
    assert MOUNTS.here() == mounts


def test_a_preview_makes_nothing(lab: Lab) -> None:
    shown = lab.binds("plan")
    assert shown.exit_code == 0, shown.output
    assert "shared/cvn/home(0:501162775)" in said(shown)
    assert list(lab.path("misc").iterdir()) == [] and lab.mounted() == {}


def test_without_an_export_root_there_are_directories_alone(lab: Lab) -> None:
    lab.site(root=False)
    assert lab.binds("apply", "--yes").exit_code == 0
    assert lab.path("misc/shared/cvn/home").is_dir() and not lab.path("exp").exists()


def test_down_unmounts_the_tree_with_the_volume(lab: Lab) -> None:
    """Every mount of the device comes away, last made first, as failover.storage does it (upstream 41611887d66)."""
    lab.binds("apply", "--yes")
    volume = on_top(MOUNTS.here(), str(lab.path("misc")))
    assert volume is not None
    for mount in reversed(of_device(MOUNTS.here(), volume.device)):
        MOUNTS.unmount(mount.point)
    assert lab.mounted() == {"project/tools": "/shared/tools"}
    away = lab.binds("apply", "--yes")
    assert away.exit_code == 3, away.output
    assert "volumemisc:notmounted" in said(away)
    assert list(lab.path("misc").iterdir()) == []


def test_nothing_is_mounted_while_the_service_is_moved(lab: Lab) -> None:
    lock = lab.base / "run-failover" / "primary.lock"
    lock.parent.mkdir()
    with exclusive(lock, "labstore failover down, run 1"):
        held = lab.binds("apply", "--yes")
    assert held.exit_code == 1 and "labstorefailoverdown" in said(held)
    assert lab.mounted() == {} and list(lab.path("misc").iterdir()) == []


def test_what_is_foreign_is_reported_and_stays_and_the_rest_is_made(lab: Lab) -> None:
    lab.path("misc/shared").mkdir()
    lab.path("misc/shared/cvn").symlink_to("/etc")
    done = lab.binds("apply", "--yes")
    assert done.exit_code == 4, done.output
    assert "isasymboliclink" in said(done)
    assert lab.path("misc/shared/cvn").readlink() == Path("/etc")
    assert not Path("/etc/home").exists()
    assert lab.mounted() == {"project/tools": "/shared/tools"}


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_directory_that_is_there_keeps_its_owner_and_mode(lab: Lab, mode: int) -> None:
    there = lab.path("misc/shared/cvn/home")
    there.mkdir(parents=True)
    os.chown(there, 4711, 4712)
    there.chmod(mode)
    done = lab.binds("apply", "--yes")
    assert done.exit_code == 0, done.output
    assert lab.owned("misc/shared/cvn/home") == (4711, 4712, f"{mode:04o}")
    assert "4711:4712" in done.output


def test_what_somebody_mounted_at_a_place_stays(lab: Lab) -> None:
    lab.path("misc/shared").mkdir()
    point = lab.path("exp/project/cvn")
    point.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "strange", str(point)], check=True, timeout=HANGS)
    done = lab.binds("apply", "--yes")
    assert done.exit_code == 4 and "strangeismountedthere" in said(done)
    assert lab.mounted()["project/tools"] == "/shared/tools"


def test_a_tree_that_is_no_longer_wanted_goes_and_a_busy_part_of_it_is_told(lab: Lab) -> None:
    lab.binds("apply", "--yes")
    site = lab.base / "site.yaml"
    site.write_text(site.read_text().replace("  cvn:", "  other:"))
    with (lab.path("exp/project/cvn") / "open").open("w"):
        busy = lab.binds("apply", "--yes")
        assert busy.exit_code == 1 and "itisinuse" in said(busy)
        assert set(lab.mounted()) == {"project/cvn", "project/other", "project/tools"}
    assert lab.binds("apply", "--yes").exit_code == 0
    assert set(lab.mounted()) == {"project/other", "project/tools"}
    assert not lab.path("exp/project/cvn").exists() and lab.path("misc/shared/cvn/open").exists()


def test_one_that_fails_stops_no_other(lab: Lab) -> None:
    """A volume without room for another inode."""
    lab.path("misc/shared").mkdir()
    subprocess.run(["mount", "-o", "remount,nr_inodes=3", str(lab.path("misc"))], check=True, timeout=HANGS)
    done = lab.binds("apply", "--yes")
    assert done.exit_code == 1, done.output
    assert "Nospaceleftondevice" in said(done)
    assert lab.mounted()["project/tools"] == "/shared/tools"
    subprocess.run(["mount", "-o", "remount,nr_inodes=100", str(lab.path("misc"))], check=True, timeout=HANGS)
    assert lab.binds("apply", "--yes").exit_code == 0
    assert lab.mounted() == ALL


def test_what_is_shown_as_json(lab: Lab) -> None:
    lab.binds("apply", "--yes", "--mounts-only")
    shown = json.loads(lab.binds("show", "--json").stdout)
    states = {each["path"].removeprefix(f"{lab.base}/"): each["state"] for each in shown["things"]}
    assert states["misc/shared/cvn"] == "absent" and states["exp/project/cvn"] == "absent"
    lab.binds("apply", "--yes")
    shown = json.loads(lab.binds("show", "--json").stdout)
    assert {each["state"] for each in shown["things"]} == {"there"}


# --- tenants ---------------------------------------------------------------------------------------------------------


def test_a_tenant_who_swaps_directories_for_links_leads_nobody_astray(lab: Lab, tmp_path: Path) -> None:
    """DESIGN law 8: root never follows a path that a tenant can change."""
    outside = tmp_path / "outside"
    outside.mkdir()
    share = lab.path("misc/share")
    share.mkdir()
    top, stop = Top(str(lab.path("misc"))), threading.Event()

    def tenant() -> None:
        inside, new = share / "inside", share / NEW
        while not stop.is_set():
            for act in (
                lambda: inside.symlink_to(outside),
                inside.unlink,
                inside.mkdir,
                lambda: new.symlink_to(outside),
                new.unlink,
                inside.rmdir,
            ):
                with contextlib.suppress(OSError):
                    act()

    thread = threading.Thread(target=tenant)
    thread.start()
    try:
        for number in range(400):
            for path in (f"{share}/inside/home{number}", f"{share}/inside"):
                with contextlib.suppress(OSError, NotADirectory):
                    make_directory(top, path, Directory(0, 4711, 0o2775))
    finally:
        stop.set()
        thread.join(HANGS)
    assert list(outside.iterdir()) == []
    assert outside.stat().st_gid == 0


def test_what_a_killed_run_left_is_cleared(lab: Lab) -> None:
    lab.path(f"misc/{NEW}").mkdir(mode=0o700)
    make_directory(Top(str(lab.path("misc"))), str(lab.path("misc/a")), Directory(0, 5, 0o750))
    assert lab.owned("misc/a") == (0, 5, "0750") and not lab.path(f"misc/{NEW}").exists()


@pytest.mark.parametrize("kind", ["file", "full"])
def test_what_stands_in_the_way_is_named_and_stays(lab: Lab, kind: str) -> None:
    way = lab.path(f"misc/{NEW}")
    (way.touch if kind == "file" else way.mkdir)()
    if kind == "full":
        (way / "x").touch()
    with pytest.raises(NotADirectory, match="stands in the way"):
        make_directory(Top(str(lab.path("misc"))), str(lab.path("misc/a")), Directory(0, 5, 0o750))
    assert way.exists() and not lab.path("misc/a").exists()


def test_an_existing_name_is_never_taken(lab: Lab) -> None:
    lab.path("misc/a").mkdir()
    with pytest.raises(FileExistsError):
        make_directory(Top(str(lab.path("misc"))), str(lab.path("misc/a")), Directory(0, 5, 0o750))
    assert lab.owned("misc/a")[1] == 0 and not lab.path(f"misc/{NEW}").exists()


def test_a_volume_that_is_not_mounted_is_not_written_to(lab: Lab) -> None:
    """upstream #13"""
    bare = lab.path("bare")
    bare.mkdir()
    with pytest.raises(NotMounted):
        make_directory(Top(str(bare)), f"{bare}/a", Directory(0, 0, 0o755))
    with pytest.raises(NotMounted):
        look(Top(str(lab.path("nowhere"))), str(lab.path("nowhere/a")))
    make_directory(Top(str(bare), mounted=False), f"{bare}/a", Directory(0, 0, 0o755))
    assert (bare / "a").is_dir()


def test_a_mount_inside_of_a_volume_is_not_entered(lab: Lab) -> None:
    inside = lab.path("misc/inside")
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inside)], check=True, timeout=HANGS)
    with pytest.raises(NotADirectory, match="another file system"):
        look(Top(str(lab.path("misc"))), str(inside))


def test_a_path_outside_of_the_volume_is_a_defect(lab: Lab) -> None:
    with pytest.raises(ValueError, match="does not lie below"):
        look(Top(str(lab.path("misc"))), str(lab.path("miscellaneous")))


def test_a_link_in_place_of_what_shall_be_shown_is_not_followed(lab: Lab) -> None:
    lab.path("misc/a").symlink_to("/etc")
    with pytest.raises(NotADirectory, match="symbolic link"):
        bind(Top(str(lab.path("misc"))), str(lab.path("misc/a")), str(lab.path("exp")), str(lab.path("exp/a")))
    assert lab.mounted() == {}


def test_unmounting_what_is_not_mounted_is_an_error(lab: Lab) -> None:
    lab.path("exp").mkdir()
    with pytest.raises(OSError, match="Invalid argument"):
        unbind(str(lab.path("exp")), str(lab.path("exp")))


# --- the old name ----------------------------------------------------------------------------------------------------


def old(lab: Lab, *arguments: str) -> Result:
    return lab.run(*arguments, command=nfs_manage_binds)


def test_the_old_name_mounts_and_makes_directories_only_if_it_is_told_to(lab: Lab) -> None:
    """upstream 1.3: a missing source is a warning, and no error."""
    first = old(lab)
    assert first.exit_code == 0, first.output
    assert lab.mounted() == {} and "thereisnodirectory" in said(first)
    assert old(lab, "-f").exit_code == 0
    assert lab.mounted() == ALL


def test_the_old_name_lists_what_is_mounted(lab: Lab) -> None:
    none = old(lab, "-binds")
    assert none.exit_code == 1
    old(lab, "-f")
    some = old(lab, "-binds")
    assert some.exit_code == 0
    assert some.output.splitlines() == [
        f"{lab.base}/misc/shared/cvn on {lab.base}/exp/project/cvn",
        f"{lab.base}/tools/shared/tools on {lab.base}/exp/project/tools",
    ]


def test_the_old_name_takes_the_disk_path_that_is_so(lab: Lab) -> None:
    assert old(lab, "-f", "-disk_path", str(lab.base), "-debug").exit_code == 0
    wrong = old(lab, "-disk_path", "/elsewhere")
    assert wrong.exit_code == 2 and str(lab.base) in wrong.output
