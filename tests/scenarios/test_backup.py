"""Copies of a volume that a client writes meanwhile: equal to the source byte for byte, whole, restorable, and never
called good when they are not."""

from __future__ import annotations

import os

import pytest
from bench.figures import Figure, counted

from labstore.cli.exit import Exit
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.scenarios.pair import MOUNT, untouched, words
from tests.scenarios.vault import (
    COPIED,
    WITH_VAULT,
    Running,
    backup,
    changes,
    device,
    digest,
    generations,
    limit,
    watch,
    watched,
)
from tests.scenarios.witness import await_whole, safe

MACHINES = WITH_VAULT
ROUNDS = int(os.environ.get("LABSTORE_BACKUP_ROUNDS", "2"))


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """alpha serves, the client has the share mounted, vault has a first copy from beta."""
    return stages.at(COPIED)


def write(client: Machine, number: int) -> str:
    """Change the volume through the share: new bytes, bytes in place, a file that goes. Gives what must be there."""
    return client.out(
        f"cd {MOUNT} && head -c 4M /dev/urandom >round-{number} && "
        f"dd if=/dev/urandom of=base bs=64k count=16 seek={number * 24 % 480} conv=notrunc status=none && "
        f"rm -f round-{number - 2} && sync round-{number} base && sha256sum round-{number}",
        120,
    ).split()[0]


def sound(vault: Machine, path: str, number: int) -> str:
    """Look into a generation with nothing but LVM, e2fsck and mount; gives the digest of that round's file."""
    vault.run(f"lvcreate -q -y -s -kn -p rw -n look {path.removeprefix('/dev/')}", 60)
    vault.run("e2fsck -fy -E journal_only /dev/backup/look || test $? = 1", 60)
    vault.run("e2fsck -fn /dev/backup/look", 120)
    found = vault.out(
        "mount -t ext4 -o ro /dev/backup/look /mnt && "
        f"sha256sum /mnt/shared/tools/round-{number}; umount /mnt; lvremove -q -y backup/look >&2",
        90,
    )
    return found.split()[0]


@pytest.mark.core
@pytest.mark.deadline(900 + 150 * ROUNDS)
def test_copies_while_a_client_writes(lab: Lab, figures: list[Figure]) -> None:
    alpha, beta, client, vault = (lab[name] for name in ("alpha", "beta", "client", "vault"))
    (first,) = generations(vault)
    assert (first["proof"], first["node"]) == ("proven", "beta")
    assert beta.out("lvs --noheadings -o lv_name lab").split() == ["state", "tools"], "no snapshot is left there"
    active, seconds = changes(alpha), []
    load = Load(client, MOUNT, writers=1, holders=1, pause=0.5).start()
    for number in range(ROUNDS):
        written = write(client, number)
        watch(beta)
        done = backup(vault, "run tools")
        seconds.append(done.seconds)
        newest = generations(vault)[-1]
        assert (newest["proof"], newest["node"]) == ("proven", "beta"), done
        assert digest(vault, device(newest)) == watched(beta), "the copy is the source's snapshot, byte for byte"
        assert sound(vault, device(newest), number) == written
    load.moves(60, "after all")
    untouched(load)
    assert len(generations(vault)) == min(ROUNDS + 1, 3)
    assert changes(alpha) == active, "the node that serves is never touched"
    figures += [
        counted("copies equal to the source's snapshot", "copies", len(seconds)),
        counted("a run, its proof included", "s", sum(seconds) / len(seconds)),
    ]


def whole(vault: Machine, before: dict[str, str], content: str) -> None:
    """The generation that was there is there, alone, proven, and has not changed by a byte."""
    (now,) = generations(vault)
    assert now == before and now["proof"] == "proven"
    assert digest(vault, device(now)) == content


def recovers(lab: Lab, standby: str = "beta", known: bool = True) -> None:
    """The next run makes a generation that is equal to the snapshot it was read from."""
    vault, node = lab["vault"], lab[standby]
    watch(node, known)
    done = backup(vault, "run tools")
    newest = generations(vault)[-1]
    assert (newest["proof"], newest["node"]) == ("proven", standby), done
    assert digest(vault, device(newest)) == watched(node)


@pytest.mark.deadline(1500)
def test_the_source_loses_its_power_in_the_middle(lab: Lab) -> None:
    vault, beta = lab["vault"], lab["beta"]
    (before,) = generations(vault)
    content = digest(vault, device(before))
    lab["client"].run(f"head -c 24M /dev/urandom >{MOUNT}/more && sync {MOUNT}/more", 120)
    limit(vault, "send 512K")
    running = Running(vault)
    running.await_written(4 << 20)
    beta.power_off()
    status, said = running.result()
    print(said)
    assert status == Exit.FAILED
    assert "the connection to the other end is lost" in said or "beta is not reached" in said, (
        "as the last try found it"
    )
    whole(vault, before, content)
    refused = backup(vault, "run tools", check=False)
    assert not refused.ok
    assert "no machine can be read" in words(refused) and "alpha: it is not the standby" in words(refused)

    lab.boot("beta")
    await_whole(lab["alpha"], 300)
    limit(vault, "send none")
    recovers(lab, known=False)
    assert safe(lab)["alpha"].serving


@pytest.mark.deadline(900)
def test_the_sources_snapshot_overflows(lab: Lab) -> None:
    """upstream #41, on the real device mapper."""
    vault, beta, client = lab["vault"], lab["beta"], lab["client"]
    (before,) = generations(vault)
    content = digest(vault, device(before))
    beta.run("sed -i 's/room: 96M/room: 4M/' /etc/labstore/site.yaml")
    client.run(f"head -c 24M /dev/urandom >{MOUNT}/more && sync {MOUNT}/more", 120)
    limit(vault, "send 512K")
    running = Running(vault)
    running.await_written(1 << 20)
    client.run(f"head -c 64M /dev/urandom >{MOUNT}/base && sync {MOUNT}/base", 200)
    status, said = running.result()
    print(said)
    assert status == Exit.FAILED
    assert "% full; what is read from it cannot be trusted any more" in said
    assert "snapshot invalid" in beta.out("lvs --noheadings -o lv_snapshot_invalid lab", 60), "it did overflow"
    whole(vault, before, content)
    limit(vault, "send none")
    recovers(lab)
