"""The stage on which backups are tested: a pair that serves, a client that writes, and a machine that pulls copies."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.lab import Lab
from tests.lab.layout import ALL, FRONT, MTU, NAMES
from tests.lab.machine import Attachment, Machine, Spec
from tests.lab.ssh import Result
from tests.lab.stages import Stage
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, SERVING, SITE, SLOW
from tests.support.runbook import commands

ADDRESS = "10.77.0.51"
"""Instances, which are on the same network, have those from .31 to .49."""
VAULT = Spec("vault", (Attachment(FRONT, f"{ADDRESS}/24", MTU),), disks=(2048,), hosts={**NAMES, ADDRESS: "vault"})
WITH_VAULT = (*ALL, VAULT)
PAGE = "backup.md"
CANARY = "shared/tools/backup-canary"
HOME = f"{MOUNT}/home/wikibugs"
TREE = (
    f"mkdir -p {HOME}/bin {MOUNT}/home/other && cd {HOME} && head -c 3M /dev/urandom >bin/bot && ln bin/bot bot && "
    "ln -s bin/bot link && echo secret >replica.my.cnf && chmod 400 replica.my.cnf && chown -R 50001:50380 . && "
    "touch -d 2020-02-02T02:02:02 bin/bot"
)
"""A tool's home, for those who will miss it."""
LIMITS = "/etc/labstore/backup.limits"
JOBS = f"""
backup:
  control: {LIMITS}
  jobs:
    tools:
      source: lab/tools
      target: backup/tools
      cluster: primary
      room: 96M
      keep: {{least: 3, hourly: 0, daily: 0, weekly: 0}}
      proof: {{canary: {CANARY}}}
"""
ALONE = """
site: lab
clusters: {primary: {volumes: {plain: {mount: /mnt}}}}
inventory: {source: file, file: /etc/labstore/inventory.yaml}
backup:
  jobs:
    plain: {source: backup/plain, target: backup/copy, keep: {least: 3, hourly: 0, daily: 0, weekly: 0}}
"""
"""Source and target on one machine: what LVM does is the same."""
WITNESS = """
known=" $(cat /run/known) "
found() { [[ -b $1 && $known != *" $1 "* ]] && dmsetup table "$1" | grep -q ' snapshot ' && exec 3<"$1"; }
while :; do
    for each in /dev/lab/labstore-tools-*; do found "$each" && break 2; done
    sleep 0.5
done
sha256sum <&3 >/run/witness.part && mv /run/witness.part /run/witness.sum
"""
"""Plain programs that hold and read the source's next snapshot while labstore reads it. For a moment LVM shows the room
of a snapshot under its name, before it is one."""


def backup(vault: Machine, arguments: str, check: bool = True, deadline: float = SLOW) -> Result:
    return vault.run(f"labstore backup {arguments}", deadline, check)


def generations(vault: Machine, job: str = "tools") -> list[dict[str, str]]:
    """The generations of a job, oldest first: the tags of volumes, read by LVM alone."""
    said = vault.out("lvs --noheadings -o lv_tags -S 'tags=labstore.backup.kind=generation' backup", 60)
    tags = ([tag.removeprefix("labstore.backup.") for tag in line.split(",")] for line in said.split())
    rows = [{"proof": "untried", **dict(tag.split("=", 1) for tag in each)} for each in tags]
    return sorted((row for row in rows if row["job"] == job), key=lambda row: row["at"])


def device(generation: dict[str, str]) -> str:
    return f"/dev/backup/labstore-{generation['job']}-{generation['at']}"


def made(vault: Machine, generation: dict[str, str]) -> dict[str, Any]:
    """How the copy went, as labstore remembers it."""
    path = f"/var/lib/labstore/backup/generations/{generation['job']}/{generation['at']}.json"
    return dict(json.loads(vault.get(path))["result"])


def digest(machine: Machine, path: str) -> str:
    return machine.out(f"sha256sum <{path}", 120).split()[0]


def watch(node: Machine, known: bool = True) -> None:
    """Have the next snapshot of the volume on that node (or, without `known`, one that is there) read by somebody who
    is not labstore."""
    seen = "echo /dev/lab/labstore-tools-*" if known else ":"
    node.run(f"rm -f /run/witness.*; {seen} >/run/known")
    node.put("/run/witness", WITNESS)
    node.start_unit("witness", "bash /run/witness")


def watched(node: Machine) -> str:
    """The SHA-256 of the snapshot that `watch` has seen."""
    node.wait_until("test -s /run/witness.sum", 120, "the witness has read the snapshot")
    return node.out("cat /run/witness.sum").split()[0]


def changes(node: Machine, group: str = "lab") -> int:
    """How often anything in a volume group was changed, by LVM's own count."""
    return int(node.out(f"vgs --noheadings -o vg_seqno {group}", 60))


class Running:
    """`labstore backup run tools`, going on while the test does something to it."""

    def __init__(self, vault: Machine) -> None:
        self.vault = vault
        vault.run("rm -f /run/backup.*")
        vault.put("/run/backup", "labstore backup run tools >/run/backup.said 2>&1; echo $? >/run/backup.status\n")
        vault.start_unit("backup-run", "bash /run/backup")

    def await_written(self, size: int) -> None:
        """Until so many bytes have been written to the target (and elsewhere, which is little)."""
        pid = "pgrep -of '^[^ ]*python3 /usr/bin/labstore backup run'"
        written = f"test $(awk '/^wchar/ {{print $2}}' /proc/$({pid})/io) -ge {size}"
        self.vault.wait_until(written, 200, "it is in the middle", every=0.5)
        assert not self.ended

    @property
    def ended(self) -> bool:
        return self.vault.run("test -s /run/backup.status", check=False).ok

    def result(self, deadline: float = SLOW) -> tuple[int, str]:
        """With what it ended, and what it said in one line."""
        self.vault.wait_until("test -s /run/backup.status", deadline, "the run ends", every=1)
        return int(self.vault.out("cat /run/backup.status")), " ".join(self.vault.out("cat /run/backup.said").split())


def limit(vault: Machine, text: str) -> None:
    """What a copy may take from now on, in the words of the control file."""
    vault.put(LIMITS, text + "\n")


def furnish(vault: Machine, volumes: str, site: str) -> None:
    """labstore, a thin pool with these volumes, and the page's units."""
    vault.install_labstore()
    vault.run(
        "pvcreate -q /dev/vdc && vgcreate -q backup /dev/vdc && lvcreate -q -y -L 1200M -T backup/pool && "
        f"for each in {volumes}; do "
        "lvcreate -q -y -n ${each%:*} -V ${each#*:} --thinpool pool backup || exit; done",
        120,
    )
    vault.put("/etc/labstore/site.yaml", site)
    for line in commands(PAGE, "Setting up"):
        if line.startswith(("ssh-keygen ", "install ")):
            vault.run(f"cd /opt/labstore && {line}", 60)


def write_canary(client: Machine) -> None:
    """Every few seconds, as the page says."""
    (command,) = (line for line in commands(PAGE, "Setting up") if line.endswith(" backup-canary"))
    again = command.replace("/data/project", MOUNT)
    client.start_unit("canary", f"while :; do {again}; sleep 5; done")


def build(lab: Lab) -> None:
    """By the words of the page: *Setting up*. The first copy is made by the unit that the timer starts."""
    vault, hosts = lab["vault"], list[str]()
    furnish(vault, "tools:300M", SITE + JOBS)
    (key_line,) = (line for line in commands(PAGE, "Setting up") if line.startswith("restrict,command="))
    key = key_line.partition(" ssh-ed25519 ")[0] + " " + vault.out("cat /etc/labstore/backup_key.pub")
    for name in NODES:
        node = lab[name]
        node.run(f"cat >>/root/.ssh/authorized_keys <<'EOF'\n{key}\nEOF")
        node.put("/etc/labstore/site.yaml", SITE + JOBS)
        hosts.append(" ".join((name, *node.out("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])))
    vault.put("/etc/labstore/backup_known_hosts", "\n".join(hosts) + "\n")
    client = lab["client"]
    write_canary(client)
    client.run(f"head -c 32M /dev/urandom >{MOUNT}/base && {TREE} && sync -f {MOUNT}", 120)
    vault.run("systemctl start labstore-backup.service", SLOW)


COPIED = Stage("copied", build, before=SERVING)


def build_alone(lab: Lab) -> None:
    vault = lab["vault"]
    furnish(vault, "plain:128M copy:128M", ALONE)
    vault.run("mkfs.ext4 -q /dev/backup/plain && mount /dev/backup/plain /mnt", 60)
    vault.run("head -c 32M /dev/urandom >/mnt/base && sync -f /mnt", 60)
    vault.run("systemctl start labstore-backup.service", SLOW)


ONE_COPY = Stage("one copy", build_alone)
