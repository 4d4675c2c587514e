"""docs/operations/blocksync.md, run: every command of the page, by its words, on image files and over a real sshd."""

from __future__ import annotations

import os
import random
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labstore.cli.main import labstore
from labstore.model.block_sync import PERMIT_HELP
from tests.support.runbook import OPERATIONS, commands
from tests.support.sshd import Sshd, private_sshd

PAGE = (OPERATIONS / "blocksync.md").read_text()
SIZE = 4 << 20


@dataclass
class Desk:
    """The page's devices as image files, `backup1` as this machine behind ssh."""

    folder: Path
    sshd: Sshd

    def path(self, name: str) -> Path:
        return self.folder / name.replace("/", "_")

    def change(self, name: str) -> None:
        content = bytearray(self.path(name).read_bytes()) if self.path(name).exists() else bytearray(SIZE)
        at = random.Random(len(content)).randrange(SIZE - 70_000)
        content[at : at + 70_000] = os.urandom(70_000)
        self.path(name).write_bytes(content)

    def run(self, command: str) -> Result:
        words = shlex.split(command)
        assert words[:2] == ["labstore", "blocksync"]
        words = [re.sub(r"(?<![\w/])/(dev|run)/\S+", lambda found: str(self.path(found[0])), word) for word in words]
        words = [re.sub(r"^backup1:", "elsewhere:", word) for word in words]
        remote = f"{sys.executable} -m labstore blocksync serve --state {self.folder}/far"
        more = ["--state", str(self.folder / "state"), "--ssh-config", str(self.sshd.config), "--remote", remote]
        return CliRunner().invoke(labstore, ["blocksync", "run", *more, *words[2:]])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with private_sshd(tmp_path / "ssh") as sshd:
        desk = Desk(tmp_path, sshd)
        for name in ("/dev/backup/home", "/dev/vg0/home-again"):
            desk.path(name).write_bytes(bytes(SIZE))
        desk.change("/dev/vg0/home-snap")
        yield desk


@pytest.mark.parametrize("case", ["On one machine", "Between two machines", "Slower, or not now"])
def test_every_command_of_the_page(desk: Desk, case: str) -> None:
    desk.sshd.allow()
    desk.path("/run/home.limits").write_text("send 20M\nread 100M\nreads 500\n")
    found = commands("blocksync.md", case)
    assert found
    for command in found:
        done = desk.run(command)
        assert done.exit_code == 0, f"{command}: {done.output}"
        assert desk.path("/dev/backup/home").read_bytes() == desk.path("/dev/vg0/home-snap").read_bytes()
    if "Between" in case:
        assert desk.path("/dev/vg0/home-again").read_bytes() == desk.path("/dev/vg0/home-snap").read_bytes()


def test_the_key_of_the_page_opens_one_device(desk: Desk) -> None:
    (line,) = re.findall(r'^restrict,command="labstore (.*?)"', PAGE, re.MULTILINE)
    forced = line.replace("/dev/backup/home", str(desk.path("/dev/backup/home")))
    desk.sshd.allow(f"{sys.executable} -m labstore {forced} --state {desk.folder}/far")
    first, back = commands("blocksync.md", "Between two machines")
    assert desk.run(first).exit_code == 0
    desk.path("/dev/backup/other").write_bytes(bytes(SIZE))
    for wrong in (back, first.replace("/dev/backup/home", "/dev/backup/other")):
        done = desk.run(wrong)
        assert done.exit_code != 0 and "this key is not for" in " ".join(done.output.split()), done.output
    assert desk.path("/dev/backup/other").read_bytes() == bytes(SIZE)


def test_the_permits_of_the_page_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| `([a-z][a-z-]*)` \|", PAGE, re.MULTILINE)
    assert set(rows) == {str(each) for each in PERMIT_HELP}
