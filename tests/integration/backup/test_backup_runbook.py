"""docs/operations/backup.md, run: every command of its cases, by the words of the page, on image files, loop devices.

What needs a pair of nodes, LVM or systemd is counted by name in ELSEWHERE; anything else on the page is run here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from labstore.cli.main import labstore
from tests.integration.backup.site import SIZE, Site
from tests.support.runbook import OPERATIONS, commands
from tests.support.sshd import Sshd, private_sshd

PAGE = (OPERATIONS / "backup.md").read_text()
ELSEWHERE = ("lvcreate ", "lvextend ", "labstore failover ", "drbdadm ", "systemctl ", "rsync ")
ONTO = "root@labstore1004:/dev/drbd/by-res/tools/0"


class Drill:
    """A site with one proven generation, and the page's words for it."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.site, self.sshd = Site(folder), sshd
        self.site.write("wikibugs")
        self.site.do("run", "tools")
        self.fresh = folder / "fresh.img"
        self.restored = folder / "restored"
        self.said: dict[str, str] = {}

    def run(self, case: str) -> int:
        """Every command of a case in turn; how many there were."""
        found = [command for command in commands("backup.md", case) if not command.startswith(ELSEWHERE)]
        for command in found:
            self.said[command] = self._one(command)
        return len(found)

    def _one(self, command: str) -> str:
        words = shlex.split(
            command.replace("/srv/restored", str(self.restored)).replace("/srv/backup", str(self.site.mounts))
        )
        if words[0] != "labstore":
            return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
        if ONTO in words:
            serve = f"{sys.executable} -m labstore blocksync serve --state {self.site.folder}/far"
            words[words.index(ONTO)] = f"elsewhere:{self.device()}"
            words += ["--ssh-config", str(self.sshd.config), "--remote", serve]
        environment = {"LABSTORE_SITE": str(self.site.file)}
        done = CliRunner().invoke(labstore, words[1:], env=environment)
        assert done.exit_code == 0, f"{command}: {done.output}"
        return done.output

    def device(self) -> str:
        """A block device that is larger than the volume was, and nobody's."""
        with self.fresh.open("wb") as file:
            file.truncate(SIZE + (4 << 20))
        done = subprocess.run(["losetup", "-f", "--show", self.fresh], capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    with private_sshd(tmp_path / "ssh") as sshd:
        made = Drill(tmp_path, sshd)
        yield made
        made.site.do("unmount", "tools")
        listed = subprocess.run(
            ["losetup", "-n", "-O", "NAME", "-j", made.fresh], capture_output=True, text=True, check=False
        )
        for loop in listed.stdout.split():
            subprocess.run(["losetup", "-d", loop], check=True)


def test_one_file_or_a_directory(drill: Drill) -> None:
    assert drill.run("One file, or a directory") >= 7
    assert "wikibugs" in drill.said["labstore backup ls tools home"]
    assert (drill.restored / "wikibugs").read_text() == "wikibugs" * 1000
    (generation,) = drill.said["ls /srv/backup/tools"].split()
    assert generation == drill.site.generations()[-1]["name"]


def test_a_whole_volume_onto_another_machine(drill: Drill) -> None:
    before = hashlib.sha256(drill.site.source.read_bytes()).hexdigest()
    assert drill.run("A whole volume, onto a rebuilt pair") == 4
    restored = drill.fresh.read_bytes()
    assert hashlib.sha256(restored[:SIZE]).hexdigest() == before
    subprocess.run(["mount", "-o", "loop,ro,noload", drill.fresh, drill.site.work], check=True)
    try:
        assert (drill.site.work / "home/wikibugs").read_text() == "wikibugs" * 1000
    finally:
        subprocess.run(["umount", drill.site.work], check=True)
    assert len(drill.site.generations()) == 2, "the job goes on"


def test_the_backup_host_is_lost_but_for_its_disks(drill: Drill) -> None:
    before = [each["name"] for each in drill.site.generations()]
    subprocess.run(["rm", "-r", drill.site.folder / "state", drill.site.folder / "run"], check=True)
    assert drill.run("The backup host is lost") == 3
    after = drill.site.generations()
    assert [each["name"] for each in after][:-1] == before
    assert {each["verdict"] for each in after} == {"proven"}
    assert drill.site.target.read_bytes() == drill.site.source.read_bytes()


def test_the_backup_host_is_lost_with_its_disks(drill: Drill) -> None:
    subprocess.run(
        ["rm", "-r", drill.site.folder / "state", drill.site.folder / "run", drill.site.target.parent], check=True
    )
    drill.site.target.parent.mkdir()
    assert drill.run("The backup host is lost") == 3
    (only,) = drill.site.generations()
    assert only["verdict"] == "proven"


def test_the_primary_site_is_lost(drill: Drill) -> None:
    drill.site.source.unlink()
    assert drill.run("The primary site is lost") == 4
    (generation,) = drill.said["ls /srv/backup/tools"].split()
    assert (drill.site.mounts / "tools" / generation / "home/wikibugs").read_text() == "wikibugs" * 1000
    drill.site.do("run", "tools", expect=1)
    assert (drill.site.mounts / "tools" / generation / "home/wikibugs").exists(), "a source that is gone costs nothing"


def test_a_source_that_comes_back_empty_replaces_nothing(drill: Drill) -> None:
    before = drill.site.target.read_bytes()
    subprocess.run(["mkfs.ext4", "-q", "-F", drill.site.source], check=True)
    assert "another file system than last time" in " ".join(drill.site.do("run", "tools", expect=1).split())
    assert drill.site.target.read_bytes() == before


def test_every_command_of_the_page_is_one_of_a_case_that_is_run() -> None:
    cases = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    tried = {
        "One file, or a directory",
        "A whole volume, onto a rebuilt pair",
        "The backup host is lost",
        "The primary site is lost",
    }
    assert tried <= set(cases)
    assert set(cases) - tried == {"When a job fails", "Moving a fleet host by host", "Setting up"}


def test_the_overview_shows(drill: Drill) -> None:
    head = PAGE.partition("\n## ")[0]
    for line in re.findall(r"^ {4}(labstore .*)$", head, re.MULTILINE):
        assert drill._one(re.split(r"\s{2,}", line)[0])
