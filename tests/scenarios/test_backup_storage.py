"""Backups on real LVM, source and target on one machine: thick and thin, and targets that must not be written."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from labstore.cli.exit import Exit
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.scenarios.pair import words
from tests.scenarios.vault import ONE_COPY, VAULT, backup, device, digest, generations, made

MACHINES = (VAULT,)
pytestmark = pytest.mark.deadline(900)
TREE = Path(__file__).parents[2]


@pytest.fixture
def vault(stages: Stages) -> Machine:
    """With one proven generation of a thin volume, which is mounted at /mnt."""
    return stages.at(ONE_COPY)["vault"]


def write(vault: Machine, size: str) -> None:
    vault.run(f"head -c {size} /dev/urandom >/mnt/base && sync -f /mnt", 60)


def test_lvm_keeps_the_contract_of_snapshots(vault: Machine) -> None:
    """tests/contracts/test_snapshots.py on a thick and on a thin volume."""
    vault.run("lvcreate -q -y -n thick -L 32M backup && lvcreate -q -y -n thin -V 32M --thinpool pool backup", 60)
    vault.run("mkdir -p /var/tmp/contract && tar -xC /var/tmp/contract", 120, data=contract())
    done = vault.run(
        "cd /var/tmp/contract && PYTHONDONTWRITEBYTECODE=1 LABSTORE_TEST_VOLUMES='backup/thick backup/thin' "
        "PYTHONPATH=/var/tmp/contract /opt/labstore/bin/python3 -m pytest -q --noconftest -p no:cacheprovider "
        "-k real tests/contracts/test_snapshots.py",
        600,
        check=False,
    )
    print(done.stdout)
    assert done.ok, done
    assert "passed" in done.stdout
    assert vault.out("dmsetup ls | grep -c ^labstore; losetup --list --noheadings", 60).split() == ["0"]


def contract() -> bytes:
    """pytest and the suite, as an archive."""
    packages, archive = Path(pytest.__file__).parents[1], BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("pytest", "_pytest", "pluggy", "iniconfig", "py.py"):
            tar.add(packages / name, name, filter=lambda each: None if "__pycache__" in each.name else each)
        for name in ("tests/__init__.py", "tests/contracts/__init__.py", "tests/contracts/test_snapshots.py"):
            tar.add(TREE / name, name)
        for path in (TREE / "tests/support").glob("*.py"):
            tar.add(path, f"tests/support/{path.name}")
    return archive.getvalue()


def test_between_two_snapshots_of_a_thin_volume_only_what_changed_is_read(vault: Machine) -> None:
    """The pool says itself what is different."""
    write(vault, "1M")
    done = backup(vault, "run plain")
    newest = generations(vault, "plain")[-1]
    assert newest["proof"] == "proven", done
    (base,) = vault.out("lvs --noheadings -o lv_name -S 'origin=plain' backup", 60).split()
    assert digest(vault, device(newest)) == digest(vault, f"/dev/backup/{base}")
    assert made(vault, newest)["passed"] == "hinted"
    assert made(vault, newest)["read"] < 16 << 20


def test_generations_of_a_thick_volume_stay_whole_while_the_next_copy_is_written(vault: Machine) -> None:
    vault.run(
        "lvcreate -q -y -W y -n thick -L 128M backup && "
        "sed -i 's|target: backup/copy|target: backup/thick, target_room: 8M|' /etc/labstore/site.yaml",
        60,
    )
    thin = generations(vault, "plain")
    backup(vault, "run plain")
    (before,) = [each for each in generations(vault, "plain") if each not in thin]
    content = digest(vault, device(before))
    write(vault, "24M")
    backup(vault, "run plain")
    assert digest(vault, device(before)) == content, "it was given more room than it had"
    newest = generations(vault, "plain")[-1]
    assert made(vault, newest)["passed"] == "hinted", "by the snapshot that the run before has left"
    content = digest(vault, device(newest))
    vault.run("lvcreate -q -y -n full -l $(($(vgs --noheadings -o vg_free_count backup) - 2)) backup", 60)
    write(vault, "24M")
    failed = backup(vault, "run plain", check=False)
    print(words(failed), vault.out("lvs backup"))
    assert failed.status == Exit.FAILED and "would be lost if more of the target were written" in words(failed), failed
    assert generations(vault, "plain")[-1] == newest
    assert digest(vault, device(newest)) == content
    vault.run("lvremove -q -y backup/full", 60)
    backup(vault, "run plain")
    assert generations(vault, "plain")[-1]["proof"] == "proven"
    assert digest(vault, device(newest)) == content


def test_a_target_that_is_somebody_elses_is_refused_before_anything_is_snapshotted(vault: Machine) -> None:
    """upstream #39."""
    (before,) = generations(vault, "plain")
    site = "/etc/labstore/site.yaml"
    vault.run("lvcreate -q -y -n theirs -V 128M --thinpool pool backup && mkfs.ext4 -q /dev/backup/theirs", 60)
    untouched = vault.out("vgs --noheadings -o vg_seqno backup")
    for take, give, said in (
        ("mount -t ext4 -o ro,noload /dev/backup/copy /srv", "umount /srv", "mounted at /srv"),
        (
            "dmsetup create theirs --table '0 8192 linear /dev/backup/copy 0'",
            "dmsetup remove --retry theirs",
            "is built on it",
        ),
        (
            "systemd-run -q --unit theirs bash -c 'exec 3<>/dev/backup/copy; exec sleep 1000' && sleep 2",
            "systemctl stop theirs",
            "has it open for writing",
        ),
        (
            f"sed -i 's|target: backup/copy|target: backup/theirs|' {site}",
            f"sed -i 's|target: backup/theirs|target: backup/copy|' {site}",
            "and it was never written as this backup",
        ),
    ):
        vault.run(take, 60)
        refused = backup(vault, "run plain", check=False)
        print(words(refused))
        assert refused.status == Exit.REFUSED and said in words(refused), refused
        vault.run(give, 60)
    assert vault.out("vgs --noheadings -o vg_seqno backup") == untouched, "nothing was ever done to any volume"
    assert generations(vault, "plain") == [before]


def test_yesterdays_backup_mounted_and_in_use_does_not_stop_todays(vault: Machine) -> None:
    """upstream #39."""
    (before,) = generations(vault, "plain")
    backup(vault, "mount plain --for 1h")
    point = f"/srv/backup/plain/{before['at']}"
    vault.run(f"systemd-run -q --unit reader bash -c 'cd {point} && exec sleep 1000'")
    content = digest(vault, f"{point}/base")
    write(vault, "8M")
    backup(vault, "run plain")
    assert generations(vault, "plain")[-1]["proof"] == "proven"
    assert digest(vault, f"{point}/base") == content
    held = backup(vault, "unmount plain", check=False)
    assert not held.ok and "cannot be unmounted" in words(held), held
    vault.run("systemctl stop reader")
    backup(vault, "unmount plain")
    assert not vault.run(f"mountpoint -q {point}", check=False).ok
    assert vault.out("lvs --noheadings -o lv_name backup | grep -c -e -mount -e -proof || true", 60) == "0"
