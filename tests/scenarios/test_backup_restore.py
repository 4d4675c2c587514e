"""The drill: a file, a directory, and a whole volume onto a pair that was built anew and then serves it. What is typed
is what docs/operations/backup.md says, with this lab's names."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from bench.figures import Figure, counted

from tests.lab.lab import Lab
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, SLOW, failover, serve
from tests.scenarios.vault import (
    COPIED,
    HOME,
    PAGE,
    WITH_VAULT,
    device,
    digest,
    generations,
    watch,
    watched,
    write_canary,
)
from tests.scenarios.witness import await_whole, safe
from tests.support.runbook import commands

MACHINES = WITH_VAULT
NAMES = {
    "labstore1004": "alpha",
    "-L 8193G misc": "-L 332M lab",
    "8193G": "332M",
    "tools home": "tools shared/tools/home",
    "/srv/tools/restored/": "/srv/tools/shared/tools/restored/",
}
"""What the page calls things, and what they are called here."""
ON_NODES, ON_ALPHA = ("lvcreate ",), ("labstore failover ", "drbdadm ")
FOREVER = 900.0


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """alpha serves, the client has the share mounted, vault has a copy with a tool's home in it."""
    return stages.at(COPIED)


def tree(machine: Machine, folder: str) -> str:
    """Everything about a tree: names, kinds, owners, modes, times, links, and what is in its files."""
    look = "find . -printf '%P %y %U:%G %m %Ts %n %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum"
    return machine.out(f"cd {folder} && {{ {look}; }}", 60)


def run(lab: Lab, command: str) -> str:
    """One command of the page, where it belongs. Nobody is there to be asked."""
    for theirs, ours in NAMES.items():
        command = command.replace(theirs, ours)
    if command.startswith(ON_NODES):
        return "\n".join(lab[name].out(f"{command} -y -q", SLOW) for name in NODES)
    if command.startswith(ON_ALPHA):
        return lab["alpha"].out(f"{command} --yes" if command.startswith("labstore ") else command, FOREVER)
    return lab["vault"].out(command, FOREVER)


def timed(lab: Lab, wanted: Sequence[str]) -> float:
    """Seconds that these commands take, one after the other."""
    began = time.monotonic()
    for command in wanted:
        print(f"# {command}\n{run(lab, command)}")
    return time.monotonic() - began


@pytest.mark.core
@pytest.mark.deadline(1500)
def test_a_file_and_a_directory_come_back(lab: Lab, figures: list[Figure]) -> None:
    client, vault = lab["client"], lab["vault"]
    before = tree(client, HOME)
    client.run(f"rm -r {HOME}/bin {HOME}/bot && echo changed >{HOME}/replica.my.cnf", 60)
    page = commands(PAGE, "One file, or a directory")
    restore = next(command for command in page if command.startswith("labstore backup restore "))
    directory = timed(lab, page)
    assert tree(client, f"{MOUNT}/restored/wikibugs") == before, "owners, modes, times, links and contents"
    file = timed(lab, [restore.replace("home/wikibugs", "home/wikibugs/replica.my.cnf")])
    assert vault.out("cat /srv/restored/replica.my.cnf") == "secret"
    figures += [
        counted("a directory, found, looked at, restored, on the active node", "s", directory),
        counted("one file", "s", file),
    ]


def ruin(lab: Lab) -> None:
    """Nothing is left of the pair but two machines with labstore, the site file and keys."""
    lab["client"].run(f"systemctl stop canary; umount {MOUNT}", 60)
    failover(lab["alpha"], "down --yes --allow-outage", deadline=600)
    for name in NODES:
        lab[name].run(
            "drbdadm down all; vgremove -ff -y -q lab; wipefs -q -a /dev/vdc; blkdiscard /dev/vdc; "
            "rm -rf /etc/drbd.d/*.res /var/lib/labstore-failover/* /var/lib/labstore/* && "
            "pvcreate -q /dev/vdc && vgcreate -q lab /dev/vdc && lvcreate -q -y -n state -L 64M lab",
            120,
        )


@pytest.mark.deadline(2000)
def test_a_volume_comes_back_onto_a_fresh_pair(lab: Lab, figures: list[Figure]) -> None:
    client, vault, beta = lab["client"], lab["vault"], lab["beta"]
    before = tree(client, f"{MOUNT}/home")
    ruin(lab)
    page = commands(PAGE, "A whole volume, onto a rebuilt pair")
    copied = next(number for number, command in enumerate(page) if "restore" in command)
    back = next(number for number, command in enumerate(page) if command.startswith("labstore failover up"))
    pair = timed(lab, page[:copied])
    assert [each["proof"] for each in generations(vault)] == ["proven"]
    volume = timed(lab, page[copied : copied + 1])
    again = timed(lab, page[copied + 1 : back + 1])
    began = time.monotonic()
    serve(lab)
    assert safe(lab)["alpha"].serving
    assert tree(client, f"{MOUNT}/home") == before
    client.run(f"echo new >{MOUNT}/home/new && sync {MOUNT}/home/new", 60)
    mounted = time.monotonic() - began
    write_canary(client)
    await_whole(lab["alpha"], 300)
    watch(beta)
    timed(lab, page[back + 1 :])
    newest = generations(vault)[-1]
    assert newest["proof"] == "proven"
    assert digest(vault, device(newest)) == watched(beta), "the job goes on as ever"
    figures += [
        counted("a fresh pair", "s", pair),
        counted("the volume of 300 MiB onto both its nodes, read back", "s", volume),
        counted("until it serves", "s", again),
        counted("until a client has it mounted, read and written", "s", mounted),
    ]
