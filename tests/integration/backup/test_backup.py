"""Backups as they are used: a real ext4 on an image, generations, a proof by e2fsck and mount, restoring."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from labstore.cli.main import labstore
from labstore.system.block_use import in_use
from tests.integration.backup.site import SIZE, Site, digest
from tests.support.sshd import private_sshd

COMMAND = (sys.executable, "-m", "labstore.cli.backup_serve")


RUNS = int(os.environ.get("LABSTORE_BACKUP_RUNS", "4"))


def check(site: Site) -> tuple[int, str]:
    done = CliRunner().invoke(labstore, ["check", "backup"], env={"LABSTORE_SITE": str(site.file)})
    return done.exit_code, done.output


def test_a_proof_that_fails_later_withdraws_the_verdict(site: Site) -> None:
    site.do("run", "tools")
    assert check(site)[0] == 0
    (only,) = site.target.with_name("target.img.generations").glob("*.img")
    whole = only.read_bytes()
    only.write_bytes(b"not a file system")
    assert "does not restore" in site.do("prove", "tools", expect=1)
    assert [each["verdict"] for each in site.generations()] == ["failed"]
    health, said = check(site)
    assert health == 2
    assert "failed: nothing is proven to restore" in said
    only.write_bytes(whole)
    site.do("prove", "tools")
    assert check(site)[0] == 0, "the same generation was proven once more"


def test_a_failed_proof_of_an_older_one_is_said_although_there_is_a_newer(site: Site) -> None:
    site.do("run", "tools")
    site.write("second")
    site.file.write_text(site.file.read_text().replace("hourly: 3", "hourly: 1"))
    site.do("run", "tools")
    older, newer = (str(each["name"]) for each in site.generations())
    site.target.with_name("target.img.generations").joinpath(f"labstore-tools-{older}.img").write_bytes(b"damaged")
    site.do("prove", "tools", older, expect=1)
    assert check(site)[0] != 0
    site.do("prove", "tools", newer)
    assert check(site)[0] != 0, "that another one restores does not mend it"


def test_what_a_killed_proof_left_mounted_is_in_nobody_s_way(site: Site) -> None:
    """A copy that is mounted can be made no second time where it is a logical volume."""
    site.do("run", "tools")
    (only,) = site.target.with_name("target.img.generations").glob("*.img")
    left = site.folder / "run/backup/proof" / only.with_suffix(".proof").name
    left.mkdir(parents=True)
    copy = site.folder / "copy.img"
    copy.write_bytes(only.read_bytes())
    subprocess.run(["mount", "-o", "loop,ro", copy, left], check=True)
    site.do("prove", "tools")
    assert not left.exists()


def test_runs_in_a_row_each_equal_proven_and_kept_by_policy(site: Site) -> None:
    for number in range(RUNS):
        site.write(f"run {number}")
        site.do("run", "tools")
        assert digest(site.target) == digest(site.source)
    there = site.generations()
    assert {each["verdict"] for each in there} == {"proven"}
    assert len(there) == 3
    made = there[-1]["made"]
    assert isinstance(made, dict)
    assert made["proof"]["held"].keys() == {"sampled checksums", "file system check", "mount", "canary"}
    assert "nothing is to be done" in site.do("plan")


def test_a_damaged_file_system_is_copied_and_not_called_proven(site: Site) -> None:
    site.do("run", "tools")
    with site.source.open("r+b") as file:
        file.seek(1024 + 4096 * 10)
        file.write(b"\xff" * 400_000)
    said = site.do("run", "tools", expect=1)
    assert "does not restore" in said
    assert [each["verdict"] for each in site.generations()] == ["proven", "failed"]


@pytest.mark.parametrize(("after", "said"), [(-3 * 86400, "s before the backup"), (86400, "s after the backup")])
def test_a_canary_of_another_time_is_no_proof(site: Site, after: int, said: str) -> None:
    site.write("a run", after)
    found = site.do("run", "tools", expect=1)
    assert "canary" in found
    assert said in " ".join(found.split())


def test_a_canary_written_between_the_order_and_the_snapshot_is_as_good(site: Site) -> None:
    """What was hard to reach is copied minutes after the moment that gave the generation its name."""
    site.write("a run", 300)
    site.do("run", "tools")
    assert [each["verdict"] for each in site.generations()] == ["proven"]


def test_a_canary_that_was_being_written_is_no_proof(site: Site) -> None:
    site.write("a run")
    subprocess.run(["mount", "-o", "loop", site.source, site.work], check=True)
    (site.work / "canary").write_text("")
    subprocess.run(["umount", site.work], check=True)
    assert "holds no time: write it beside" in " ".join(site.do("run", "tools", expect=1).split())


def test_a_canary_that_is_a_link_is_not_followed(site: Site) -> None:
    subprocess.run(["mount", "-o", "loop", site.source, site.work], check=True)
    (site.work / "canary").unlink()
    outside = site.folder / "outside"
    outside.write_text(datetime.now(UTC).isoformat())
    (site.work / "canary").symlink_to(outside)
    subprocess.run(["umount", site.work], check=True)
    assert "does not restore" in site.do("run", "tools", expect=1)


def test_what_has_a_journal_to_replay_is_proven_mounted_and_restored(site: Site) -> None:
    """A source whose file system is in use is copied as after a loss of power."""
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", site.source], check=True, capture_output=True)
    site.do("run", "tools")
    point = Path(site.do("mount", "tools").split(" until ")[0])
    assert (point / "home" / "first").read_text() == "first" * 1000
    site.do("unmount", "tools")
    site.file.write_text(site.file.read_text().replace("proof: {", "proof: {check: false, "))
    site.do("prove", "tools")
    loops = subprocess.run(
        ["losetup", "--noheadings", "--output", "BACK-FILE"], check=True, capture_output=True, text=True
    )
    assert str(site.folder) not in loops.stdout, "nothing of it stays"


def test_yesterdays_backup_is_mounted_and_todays_job_runs(site: Site) -> None:
    """upstream #39."""
    site.do("run", "tools")
    point = Path(site.do("mount", "tools").split(" until ")[0])
    assert (point / "home" / "first").read_text() == "first" * 1000
    with pytest.raises(OSError, match="Read-only"):
        (point / "x").write_text("x")
    site.write("second")
    site.do("run", "tools")
    assert not (point / "home" / "second").exists()
    assert digest(site.target) == digest(site.source)
    site.do("unmount", "tools")
    assert not point.is_mount()


@pytest.mark.parametrize("by", ["unmount", "apply"])
def test_what_is_mounted_of_a_job_that_was_taken_out_goes_all_the_same(site: Site, by: str) -> None:
    site.do("run", "tools")
    point = Path(site.do("mount", "tools").split(" until ")[0])
    other, before = site.target.with_name("other.img"), site.file.read_text()
    site.file.write_text(before.replace("    tools:", "    misc:").replace(str(site.target), str(other)))
    assert point.is_mount()
    if by == "unmount":
        assert f"{point} is gone" in site.do("unmount", "tools")
    else:
        book = site.folder / "state" / "backup" / "mounts.json"
        book.write_text(re.sub(r'"until": "\d{4}', '"until": "2020', book.read_text()))
        assert "unmounted   tools/" in site.do("apply")
    assert not point.is_mount()
    assert not [*site.target.parent.rglob("*.mount")], "nor its copy"
    site.do("unmount", "tools", expect=2)
    site.file.write_text(before)


def test_a_target_in_use_is_refused_before_anything_is_snapshotted(site: Site) -> None:
    """upstream #39."""
    site.do("run", "tools")
    loop = subprocess.run(["losetup", "-f", "--show", site.target], capture_output=True, text=True, check=True)
    try:
        said = site.do("run", "tools", expect=3)
        assert loop.stdout.strip() in said
        assert not list(site.source.parent.glob("source.img.generations/*.img"))
    finally:
        subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)


def test_a_refused_run_removes_nothing_on_account_of_the_one_it_did_not_make(site: Site) -> None:
    site.file.write_text(
        site.file.read_text().replace("hourly: 3, least: 3", "hourly: 1, daily: 0, weekly: 0, least: 1")
    )
    site.do("run", "tools")
    before = site.generations()
    loop = subprocess.run(["losetup", "-f", "--show", site.target], capture_output=True, text=True, check=True)
    try:
        assert "remove  " not in site.do("plan", "tools", "--now", expect=3)
        site.do("run", "tools", expect=3)
    finally:
        subprocess.run(["losetup", "-d", loop.stdout.strip()], check=True)
    assert site.generations() == before


def test_making_and_destroying_are_said_by_different_words(site: Site) -> None:
    site.file.write_text(
        site.file.read_text().replace("hourly: 3, least: 3", "hourly: 1, daily: 0, weekly: 0, least: 1")
    )
    assert site.do("run", "tools").split() == ["made", f"tools/{site.generations()[0]['name']}"]
    first = site.generations()[0]["name"]
    said = site.do("run", "tools")
    assert said.split() == ["made", f"tools/{site.generations()[0]['name']}", "removed", f"tools/{first}"]
    last = site.generations()[0]["name"]
    os.truncate(site.source, SIZE - 4096)
    said = site.do("run", "tools", expect=1)
    assert said.startswith("failed      tools/")
    assert f"\nkept        tools/{last}\n" in said


def test_a_device_that_a_process_may_write_is_in_use(tmp_path: Path) -> None:
    """The kernel's exclusive claim does not see it."""
    if os.geteuid() != 0:
        pytest.skip("loop devices want root")
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=True)
    loop = made.stdout.strip()
    try:
        with subprocess.Popen(["sh", "-c", f"exec 3<>{loop}; echo open; exec cat"], stdin=-1, stdout=-1) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            found = in_use(loop)
            assert found is not None
            assert found.startswith(f"process {holder.pid} (")
            assert found.endswith("has it open for writing")
            holder.communicate()
        assert in_use(loop) is None
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def test_restoring_a_file_a_directory_and_the_whole_volume(site: Site) -> None:
    site.do("run", "tools")
    before = digest(site.source)
    into = site.folder / "restored"
    into.mkdir()
    site.do("restore", "tools", "home/first", "home", "--to", into)
    assert (into / "first").read_text() == "first" * 1000
    assert (into / "home" / "first").read_text() == "first" * 1000
    for path in ("../etc/passwd", "/", ""):
        assert site.do("restore", "tools", path, "--to", into, expect=1)
    fresh = site.folder / "fresh.img"
    site.do("restore", "tools", "--onto", fresh, expect=1)
    fresh.touch()
    site.write("later")
    assert "all read back" in site.do("restore", "tools", "--onto", fresh)
    assert digest(fresh) == before
    subprocess.run(["e2fsck", "-fn", fresh], check=True, capture_output=True)


def test_a_whole_volume_is_never_restored_onto_a_device_in_use(site: Site) -> None:
    site.do("run", "tools")
    used = site.folder / "used.img"
    used.write_bytes(site.source.read_bytes())
    subprocess.run(["mount", "-o", "loop", used, site.work], check=True)
    try:
        assert "loop device" in site.do("restore", "tools", "--onto", used, "--permit", "adopt-target", expect=1)
    finally:
        subprocess.run(["umount", site.work], check=True)


def test_over_ssh_by_a_key_that_opens_nothing_else(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    with private_sshd(tmp_path / "ssh") as sshd:
        reach = f"      nodes: [elsewhere]\n      reach: {{ssh_config: {sshd.config}}}"
        site = Site(tmp_path, reach)
        sshd.allow(f"{' '.join(COMMAND)} --site {site.file} --job tools")
        for number in range(2):
            site.write(f"run {number}")
            site.do("run", "tools")
            assert digest(site.target) == digest(site.source)
        said = subprocess.run(["ssh", "-F", sshd.config, "root@elsewhere", "cat /etc/shadow status"],
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert json.loads(said.stdout)["size"] == SIZE
        assert site.generations()[-1]["node"] == "elsewhere"


def test_every_field_that_is_printed_is_documented(site: Site) -> None:
    site.do("run", "tools")
    page = (Path(__file__).parents[3] / "docs/reference/json.md").read_text()
    named, printed = set(re.findall(r"`([a-z_]+)`", page)), set[str]()
    into = site.folder / "restored"
    into.mkdir()
    for words in (
        ("show",),
        ("show", "tools"),
        ("plan", "--now"),
        ("mount", "tools"),
        ("ls", "tools"),
        ("prove", "tools"),
        ("restore", "tools", "home/first", "--to", into),
        ("unmount", "tools"),
        ("apply",),
    ):
        said = json.loads(site.do(*words, "--json"))
        for part in said if isinstance(said, list) else [said]:
            assert part.keys() <= named, f"{words}: {part.keys() - named}"
            printed |= part.keys()
    section = re.search(r"^## labstore backup show\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert set(re.findall(r"^\| `([a-z_]+)`", section[1], re.MULTILINE)) <= printed, "no field outlives its command"


def test_a_job_that_went_well_is_well_and_is_watched_by_the_age_of_its_proof(site: Site) -> None:
    """upstream #37, #40."""
    told = {"LABSTORE_SITE": str(site.file)}
    never = CliRunner().invoke(labstore, ["check", "backup"], env=told)
    assert (never.exit_code, "tools: never reported" in never.output) == (2, True)
    site.do("run", "tools")
    well = CliRunner().invoke(labstore, ["check", "backup"], env=told)
    assert well.exit_code == 0, well.output
    assert "'tools_proven_age'=" in well.output
    with site.source.open("r+b") as file:
        file.seek(1024 + 4096 * 10)
        file.write(b"\xff" * 400_000)
    site.do("run", "tools", expect=1)
    ill = CliRunner().invoke(labstore, ["status"], env=told)
    assert ill.exit_code == 1
    assert "does not restore" in " ".join(ill.output.split())
    assert "proven to restore" in ill.output, "what there is besides is said too"
