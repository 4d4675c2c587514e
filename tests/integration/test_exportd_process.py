"""The exports daemon as a process: what a supervisor sees of it, and what clients keep while it comes and goes."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exportd_lab import EXPORTS_D, ExportdLab, exportd_lab
from tests.support.mount_namespace import bound

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab() -> Iterator[ExportdLab]:
    with exportd_lab() as lab:
        yield lab


def test_it_is_ready_follows_the_inventory_and_ends_in_order(lab: ExportdLab) -> None:
    daemon = lab.start()
    lab.wait(lambda: lab.admitted("tools") == {"172.16.1.1", "172.16.1.2"})
    lab.hear("STATUS=")
    lab.show(tools=("172.16.1.1", "172.16.1.2", "172.16.1.3"), maps=("172.16.2.1",))
    admitted = lab.wait(lambda: "172.16.1.3" in lab.admitted("tools"))
    lab.show(tools=("172.16.1.1", "172.16.1.3"), maps=("172.16.2.1",))
    refused = lab.wait(lambda: "172.16.1.2" not in lab.admitted("tools"))
    assert max(admitted, refused) < 10, "upstream #9, #10"
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    assert lab.hear("STOPPING=1")
    assert lab.admitted("tools") == {"172.16.1.1", "172.16.1.3"}, "who had access keeps it"
    status = lab.json("status")
    assert (status["rooms"][0]["state"], status["rooms"][0]["silent"]) == ("converged", None)


def test_killed_and_started_again_it_serves_before_it_asks(lab: ExportdLab) -> None:
    """DESIGN law 3: after a reboot the table is empty, and the inventory is not there."""
    daemon = lab.start()
    lab.wait((lab.base / "run/exports/primary.json").exists)
    daemon.kill()
    daemon.wait(10)
    dead = lab.json("status")["rooms"][0]
    assert "its daemon does not run" in dead["headline"]
    lab.forget_table()
    (lab.base / "inventory.yaml").unlink()
    lab.start()
    assert lab.admitted("tools") == {"172.16.1.1", "172.16.1.2"}, "served when it says READY"
    lab.wait(lambda: lab.json("status")["rooms"][0]["state"] == "holding")
    assert lab.admitted("maps") == {"172.16.2.1"}
    assert lab.run("check", "exports").returncode == 2, "no NFS server runs in this laboratory"


def test_hup_reads_the_site_again(lab: ExportdLab) -> None:
    daemon = lab.start()
    lab.wait(lambda: len(lab.admitted("tools")) == 2)
    daemon.send_signal(signal.SIGHUP)
    lab.wait(lambda: "read the site again, as asked" in lab.log())
    lab.declare("tools", "maps", "extra")
    lab.show(tools=("172.16.1.1", "172.16.1.2"), maps=("172.16.2.1",), extra=("172.16.3.1",))
    lab.wait(lambda: lab.admitted("extra") == {"172.16.3.1"})
    assert daemon.poll() is None


def test_a_broken_site_file_is_loud_and_changes_nothing(lab: ExportdLab) -> None:
    daemon = lab.start()
    lab.wait(lambda: len(lab.admitted("tools")) == 2)
    (lab.base / "site.yaml").write_text("site: [\n")
    lab.wait(lambda: '"code": "file-problem"' in lab.log())
    lab.show(tools=("172.16.1.1", "172.16.1.2", "172.16.1.9"), maps=("172.16.2.1",))
    lab.wait(lambda: "172.16.1.9" in lab.admitted("tools"))
    assert daemon.poll() is None
    assert lab.run("status").returncode == 5


def test_a_standby_node_touches_nothing(lab: ExportdLab) -> None:
    lab.declare("tools", "maps", addresses="[203.0.113.77]")
    daemon = lab.start()
    lab.wait(lambda: '"state": "standby"' in lab.log())
    time.sleep(0.5)
    assert lab.admitted("tools") == set()
    assert list(EXPORTS_D.iterdir()) == []
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(10) == 0
    assert lab.run("exports", "apply", "--yes").returncode == 7


def test_a_command_gets_its_turn_beside_the_daemon(lab: ExportdLab) -> None:
    lab.start()
    lab.wait(lambda: len(lab.admitted("tools")) == 2)
    done = lab.run("exports", "apply", "--yes")
    assert done.returncode == 0, done.stderr
    rolled = lab.run("exports", "rollback", "1", "--for", "10m", "--apply", "--yes")
    assert rolled.returncode == 0, rolled.stderr
    lab.show(tools=("172.16.1.1",), maps=("172.16.2.1",))
    lab.wait(lambda: "pinned" in lab.log())
    assert lab.run("exports", "resume", "--yes").returncode == 4, "one listing without it is a doubt, not a proof"
    lab.wait(lambda: lab.admitted("tools") == {"172.16.1.1"})


def test_a_second_daemon_says_who_the_first_is(lab: ExportdLab) -> None:
    lab.start()
    second = lab.run("exports", "run")
    assert second.returncode == 6
    assert re.search(r"labstore-exportd, pid \d+", second.stderr)


def test_once_is_one_cycle(lab: ExportdLab) -> None:
    done = lab.run("exports", "run", "--once")
    assert done.returncode == 0, done.stderr
    assert lab.admitted("maps") == {"172.16.2.1"}


def test_nothing_changed_means_nothing_is_called(lab: ExportdLab) -> None:
    """upstream #11"""
    lab.start()
    lab.wait(lambda: len(lab.admitted("tools")) == 2)
    before = (Path("/var/lib/nfs/etab").stat().st_ino, sorted(EXPORTS_D.iterdir()))
    lab.wait(lambda: lab.json("status")["rooms"][0]["number"] >= 8)
    assert (Path("/var/lib/nfs/etab").stat().st_ino, sorted(EXPORTS_D.iterdir())) == before
    assert lab.log().count('"event": "cycle"') == 1, "and nothing is said (upstream #59)"


# --- without root ----------------------------------------------------------------------------------------------------


def test_as_an_ordinary_user_with_one_sudo_rule(lab: ExportdLab) -> None:
    """As installed: state and exports.d are the daemon's, exportfs runs through the helper, with no more capabilities
    than the unit file leaves."""
    user = pwd.getpwnam("nobody")
    if shutil.which("sudo") is None:
        pytest.skip("sudo is not installed")
    if subprocess.run(
        ["setpriv", "--reuid", user.pw_name, "--clear-groups", "test", "-x", ROOT], check=False
    ).returncode:
        pytest.skip("this checkout is not readable for other users")
    for name in ("state", "run", "sudoers.d"):
        (lab.base / name).mkdir()
    for name in ("state", "run", "exports.d"):
        os.chown(lab.base / name, user.pw_uid, user.pw_gid)
    rule = lab.base / "sudoers.d/labstore"
    rule.write_text(
        (ROOT / "packaging/sudoers.d/labstore").read_text().replace("\nlabstore ALL", f"\n{user.pw_name} ALL")
    )
    rule.chmod(0o440)
    helper = Path(shutil.which("labstore-exports-helper", path=str(ROOT / ".venv/bin")) or "missing")
    with (
        bound(lab.base / "sudoers.d", Path("/etc/sudoers.d")),
        bound(helper, Path("/usr/sbin/labstore-exports-helper")),
    ):
        daemon = lab.start()
        lab.wait(lambda: lab.admitted("tools") == {"172.16.1.1", "172.16.1.2"})
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}", status, re.MULTILINE)
        by_root = lab.run("exports", "apply", "--yes")
        assert by_root.returncode == 0, by_root.stderr
        left = [path for path in (lab.base / "state").rglob("*") if path.lstat().st_uid != user.pw_uid]
        assert left == [], "root leaves nothing behind that would block the daemon (T88579)"
        bounded = _bounded(user, "sudo", "-n", "/usr/sbin/labstore-exports-helper", "reload")
        assert bounded.returncode == 0, bounded.stderr
        for forbidden in (
            ["/usr/sbin/labstore-exports-helper"],
            ["/usr/sbin/labstore-exports-helper", "reload", "x"],
            ["/usr/bin/id"],
        ):
            assert _bounded(user, "sudo", "-n", *forbidden).returncode != 0


def _bounded(user: pwd.struct_passwd, *command: str) -> subprocess.CompletedProcess[str]:
    """A command as this user, with the unit file's capability bounding set."""
    unit = (ROOT / "packaging/systemd/labstore-exportd.service").read_text()
    match = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert match is not None
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in match[1].split())
    become = [
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--bounding-set=-all,{kept}",
    ]
    return subprocess.run([*become, *command], capture_output=True, text=True, timeout=60, check=False)
