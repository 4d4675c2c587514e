"""What people ask of backups that cannot be, and what they are told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from click.testing import CliRunner

from labstore.cli.main import labstore
from tests.integration.backup.site import Site


def test_a_group_that_a_person_mistyped_is_not_asked_again_by_itself() -> None:
    done = CliRunner().invoke(labstore, ["snapshots", "show", "no-such-group/tools"])
    assert done.exit_code == 1, done.output
    assert "look at its name" in done.output
    assert "by itself" not in done.output


def test_two_of_one_name_do_not_become_one_and_what_is_replaced_is_said(site: Site) -> None:
    subprocess.run(["mount", "-o", "loop", site.source, site.work], check=True)
    (site.work / "home2").mkdir()
    (site.work / "home2" / "first").write_text("another")
    subprocess.run(["umount", site.work], check=True)
    site.do("run", "tools")
    into = site.folder / "restored"
    into.mkdir()
    said = site.do("restore", "tools", "home/first", "/home2/first/", "--to", into, expect=1)
    assert "home/first and home2/first: both would be" in " ".join(said.split())
    assert list(into.iterdir()) == []
    assert "replaced" not in site.do("restore", "tools", "home/first", "home/first", "--to", into).partition("\n")[0]
    (into / "home").mkdir()
    (into / "home" / "first").write_text("work of today")
    (into / "home" / "kept").write_text("kept")
    said = site.do("restore", "tools", "home", "--to", into)
    assert f"replaced {into}/home/first\n" in said
    assert "kept" not in said
    assert (into / "home" / "kept").read_text() == "kept"
    (into / "first").write_text("x")
    assert json.loads(site.do("restore", "tools", "home2/first", "--to", into, "--json"))["replaced"] == ["first"]


def test_a_mount_that_only_stands_in_the_book_is_made_again(site: Site) -> None:
    """After a reboot; what a person mounted stays mounted for them."""
    site.do("run", "tools")
    point = Path(site.do("mount", "tools").split(" until ")[0])
    subprocess.run(["umount", point], check=True)
    into = site.folder / "restored"
    into.mkdir()
    try:
        site.do("restore", "tools", "home/first", "--to", into)
        assert (into / "first").read_text() == "first" * 1000
        assert point.is_mount()
    finally:
        site.do("unmount", "tools")


def test_with_json_what_went_wrong_is_a_report(site: Site) -> None:
    site.do("run", "tools")
    for words, status, code in (
        (("run", "tool"), 2, "backup-no-job"),
        (("mount", "tool"), 2, "backup-no-job"),
        (("mount", "tools", "nope"), 1, "backup-no-generation"),
        (("prove", "tools", "nope"), 1, "backup-no-generation"),
        (("ls", "tools", "nope"), 1, "backup-not-in-generation"),
        (("restore", "tools", "nope", "--to", site.folder), 1, "backup-not-in-generation"),
        (("restore", "tools", "--onto", site.target), 1, "backup-restore-refused"),
        (("restore", "tools", "--onto", site.file), 3, "backup-restore-holds"),
    ):
        said = json.loads(site.do(*words, "--json", expect=status))
        assert said["code"] == code
        assert said["remedy"]


def test_paths_and_times_that_cannot_be_are_refused(site: Site) -> None:
    site.do("run", "tools")
    for path in ("../..", "..", "home/../.."):
        assert "not a path within the volume" in site.do("ls", "tools", path, expect=1)
    for path in ("", "/", ".", "./"):
        assert "home/" in site.do("ls", "tools", path)
    said = site.do("ls", "tools", "nope", expect=1)
    assert "nope: No such file" in said
    assert "restored:" not in said
    assert "an empty path" in site.do("restore", "tools", "", "--to", site.folder, expect=1)
    for time in ("0m", "30s", "100000w", "5", ""):
        assert "write 1m to 520w" in site.do("mount", "tools", "--for", time, expect=2)
