"""What a whole volume is restored onto: never a part of the backups, by whatever name, nor what holds something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backup.site import SIZE, Site, digest
from tests.support.sshd import private_sshd

OTHER = """    other:
      source: {folder}/other-source.img
      target: {folder}/backup/other.img
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    made = Site(tmp_path, OTHER.format(folder=tmp_path))
    (tmp_path / "other-source.img").write_bytes(made.source.read_bytes())
    made.do("run", "tools", "other")
    yield made
    made.do("unmount", "tools")


def files(site: Site) -> dict[str, str]:
    there = [path for path in site.folder.rglob("*.img") if path.is_file()]
    return {str(path): digest(path) for path in there}


def test_nothing_that_backups_are_made_of_is_overwritten(site: Site) -> None:
    (ours,) = site.target.with_name("target.img.generations").glob("*.img")
    (theirs,) = site.target.with_name("other.img.generations").glob("*.img")
    tags = theirs.with_suffix(".json")
    link, hard = site.folder / "link", site.folder / "hard"
    link.symlink_to(theirs)
    hard.hardlink_to(site.target)
    before = files(site)
    for path, what in (
        (site.source, "the source of job tools"),
        (site.folder / "other-source.img", "the source of job other"),
        (site.target, "the target of job tools"),
        (site.target.with_name("other.img"), "the target of job other"),
        (ours, "a generation of job tools"),
        (theirs, "a generation of job other"),
        (tags, "a generation of job other"),
        (link, "a generation of job other"),
        (hard, "the target of job tools"),
        (f"localhost:{site.target}", "the target of job tools"),
    ):
        for permit in ((), ("--permit", "adopt-target")):
            said = site.do("restore", "tools", "--onto", path, *permit, expect=1)
            assert what in " ".join(said.split()), said
    assert files(site) == before


def test_a_loop_device_over_a_part_of_the_backups_is_that_part(site: Site) -> None:
    made = subprocess.run(["losetup", "-f", "--show", site.target], capture_output=True, text=True, check=True)
    try:
        said = site.do("restore", "tools", "--onto", made.stdout.strip(), "--permit", "adopt-target", expect=1)
        assert "the target of job tools" in " ".join(said.split())
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


def test_what_holds_something_is_overwritten_only_where_that_is_permitted(site: Site) -> None:
    text = site.folder / "notes.txt"
    text.write_text("years of work\n")
    said = site.do("restore", "tools", "--onto", text, expect=3)
    assert "--permit adopt-target" in said
    assert text.read_text() == "years of work\n"
    site.do("restore", "tools", "--onto", text, "--permit", "adopt-target")
    assert digest(text) == digest(site.source)
    site.write("later")
    site.do("restore", "tools", "--onto", text)
    assert digest(text) == digest(site.target), "what is this volume already is made what it was"
    subprocess.run(["mkfs.ext4", "-q", "-F", text], check=True)
    assert "ext4" in site.do("restore", "tools", "--onto", text, expect=3), "also where it was restored onto before"


def test_a_blank_one_is_free_to_take_again_and_again(site: Site) -> None:
    fresh = site.folder / "fresh"
    for _ in range(2):
        fresh.unlink(missing_ok=True)
        fresh.touch()
        os.truncate(fresh, SIZE)
        site.do("restore", "tools", "--onto", fresh)
        assert digest(fresh) == digest(site.target)


@pytest.mark.parametrize("kind", ["directory", "pipe", "terminal"])
def test_what_no_volume_can_be_is_refused(site: Site, kind: str) -> None:
    path = site.folder / kind
    {"directory": path.mkdir, "pipe": lambda: os.mkfifo(path), "terminal": lambda: path.symlink_to("/dev/null")}[kind]()
    said = site.do("restore", "tools", "--onto", path, "--permit", "adopt-target", expect=1)
    assert "no block device and no file" in " ".join(said.split())


def test_another_machine_looks_for_itself(site: Site) -> None:
    there = site.folder / "there.img"
    there.write_bytes(b"years of work")
    serve = f"{sys.executable} -m labstore blocksync serve --state {site.folder}/far"
    with private_sshd(site.folder / "ssh") as sshd:
        words = ("tools", "--onto", f"elsewhere:{there}", "--ssh-config", sshd.config, "--remote", serve)
        assert "--permit adopt-target" in site.do("restore", *words, expect=3)
        assert there.read_bytes() == b"years of work"
        site.do("restore", *words, "--permit", "adopt-target")
        assert digest(there) == digest(site.target)
        site.do("restore", *words)
        there.rename(site.folder / "aside")
        there.write_bytes(b"others are at this place now")
        said = site.do("restore", *words, expect=3)
        assert "--permit adopt-target" in said
        assert "another one than last time" in " ".join(said.split())
