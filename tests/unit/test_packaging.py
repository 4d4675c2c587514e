"""What is shipped beside the program: unit files, the one sudo rule, directories, the installation page."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labstore.cli.exit import Exit
from labstore.daemons import dbusersd, exportd
from labstore.model.site import MetricsSettings
from labstore.system.exportfs import DEADLINE, SudoExportfs
from labstore.telemetry.status import DAEMON, DAEMONS
from tests.support.fake_host import FakeHost

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
UNITS = sorted((PACKAGING / "systemd").iterdir())
INSTALL = (ROOT / "docs/operations/install.md").read_text()
HELPER = SudoExportfs(FakeHost()).helper


def unit(name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(PACKAGING / "systemd" / name)
    return dict(parser["Unit"]) | dict(parser["Service"])


@pytest.mark.starts_processes
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not at hand")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    for each in UNITS:
        (tmp_path / each.name).write_text(each.read_text().replace("/usr/bin/labstore", "/bin/true"))
    copy = tmp_path / path.name
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], check=False, capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if path.name in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.starts_processes
@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not at hand")
def test_sudo_takes_the_rule() -> None:
    done = subprocess.run(
        ["visudo", "-cf", str(PACKAGING / "sudoers.d/labstore")], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_sudo_rule_allows_one_command_with_its_one_argument() -> None:
    rules = [
        line
        for line in (PACKAGING / "sudoers.d/labstore").read_text().splitlines()
        if line and not line.startswith(("#", "Defaults"))
    ]
    assert rules == [f"labstore ALL = (root) NOPASSWD: {HELPER} reload"]


def test_the_daemon_serves_without_waiting_for_the_network() -> None:
    """DESIGN law 3"""
    words = unit("labstore-exportd.service")
    assert not any("network" in words.get(key, "") for key in ("After", "Wants", "Requires", "Requisite", "BindsTo"))
    assert "nfs-server.service" in words["After"].split()


def test_the_daemon_and_its_unit_agree() -> None:
    words = unit("labstore-exportd.service")
    assert (words["Type"], words["User"], words["ExecStart"]) == ("notify", "labstore", "/usr/bin/labstore exports run")
    assert DAEMON == exportd.NAME == "labstore-exportd"
    minutes = int(words["TimeoutStartSec"].removesuffix("min"))
    assert minutes * 60 > DEADLINE, "ready comes after an exportfs"
    assert words["TimeoutStopSec"] == words["TimeoutStartSec"], "a step is finished, and it may be an exportfs"
    assert words["Restart"] == "on-failure"
    assert words["RuntimeDirectoryPreserve"] == "yes", "the newest record outlives the daemon"


@pytest.mark.parametrize(
    ("name", "command"),
    [("labstore-dbusersd", "labstore dbusers run"), ("labstore-dbusers-writer", "labstore dbusers writer")],
)
def test_what_keeps_files_may_give_them_away_and_protect_them_and_nothing_else(name: str, command: str) -> None:
    words = unit(f"{name}.service")
    assert words["ExecStart"] == f"/usr/bin/{command}"
    assert "User" not in words, "it makes files for others"
    assert set(words["CapabilityBoundingSet"].split()) == {
        *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_LINUX_IMMUTABLE"),
    }
    assert words["NoNewPrivileges"] == "yes"
    assert "RuntimeDirectory" not in words, "systemd would give the exports daemon's directory to root"


@pytest.mark.parametrize("name", ["labstore-dbusersd", "labstore-dbusers-writer", "labstore-backup"])
def test_nothing_forbids_opening_beneath_a_directory(name: str) -> None:
    """The filter of RestrictSUIDSGID= cannot see the mode that openat2(2) is given, and makes every such call fail."""
    words = unit(f"{name}.service")
    assert "RestrictSUIDSGID" not in words
    assert words.get("SystemCallFilter", "@system-service") == "@system-service", "@file-system is in there"


def test_the_accounts_daemon_and_its_unit_agree() -> None:
    words = unit("labstore-dbusersd.service")
    assert DAEMONS["dbusers"] == dbusersd.NAME == "labstore-dbusersd"
    assert (words["Type"], words["Restart"]) == ("notify", "always")
    assert float(words["WatchdogSec"].removesuffix("min")) > 0


def test_backups_see_the_machine_s_mounts_and_devices_and_end_orderly() -> None:
    """A mount namespace of its own would keep it from taking away what a person mounted; systemd.exec(5)."""
    words = unit("labstore-backup.service")
    assert (words["Type"], words["ExecStart"]) == ("oneshot", "/usr/bin/labstore backup apply")
    own = {"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ReadWritePaths",
           "ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "ProtectClock"}  # fmt: skip
    assert not own & words.keys()
    assert words["TimeoutStartSec"] == "infinity"
    assert words["KillMode"] == "mixed", "its ssh is not ended before it has said that it ends"
    assert int(words["SuccessExitStatus"]) == Exit.LOCKED
    assert DAEMONS["backup"] == "labstore-backup.timer"
    assert (PACKAGING / "systemd/labstore-backup.timer").exists()


def test_nothing_forbids_the_daemon_its_one_right() -> None:
    """Each of these implies NoNewPrivileges= in a unit with User=, and sudo would no longer work (systemd.exec(5))."""
    words = unit("labstore-exportd.service")
    implying = {
        *("SystemCallFilter", "SystemCallArchitectures", "SystemCallLog", "RestrictAddressFamilies"),
        *("RestrictNamespaces", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs"),
        *("ProtectClock", "ProtectHostname", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID"),
        *("LockPersonality", "DynamicUser"),
    }
    assert words["NoNewPrivileges"] == "no"
    assert not implying & words.keys()
    assert "CAP_SYS_ADMIN" in words["CapabilityBoundingSet"], "exportfs runs in a mount namespace of its own"


def test_the_page_has_no_rights_at_all() -> None:
    words = unit("labstore-web.service")
    assert (words["NoNewPrivileges"], words["CapabilityBoundingSet"], words["User"]) == ("yes", "", "labstore")
    assert "ReadWritePaths" not in words


def test_every_file_that_the_installation_page_names_is_there() -> None:
    named = set(re.findall(r"(?:packaging|docs|requirements)/[\w./-]+", INSTALL))
    assert len(named) >= 8
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_every_file_of_the_packaging_is_installed_by_the_page() -> None:
    shipped = {
        path
        for folder in ("systemd", "sudoers.d", "sysusers.d", "tmpfiles.d", "dbus")
        for path in (PACKAGING / folder).iterdir()
    }
    assert [path.name for path in sorted(shipped) if path.name not in INSTALL] == []


def test_the_addresses_of_the_page_are_the_program_s() -> None:
    assert f":{9310}/" in INSTALL
    assert MetricsSettings().port == 9311


@pytest.mark.starts_processes
@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd is not at hand")
def test_the_directories_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nlabstore:x:990:990::/:/bin/false\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nlabstore:x:990:\n")
    command = ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(PACKAGING / "tmpfiles.d/labstore.conf")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("only root can give directories away")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/exports.d").stat().st_mode & 0o7777 == 0o2775
    assert (tmp_path / "var/lib/labstore").stat().st_uid == 990
