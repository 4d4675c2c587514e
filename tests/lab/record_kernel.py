"""Record what the kernel's NFS server and LVM say: `python -m tests.lab.record_kernel [--suite SUITE]`.

Two machines, alpha serving and client mounting. Output goes to tests/captures/nfs-kernel/VERSION/STATE.txt and
tests/captures/lvm/VERSION/STATE-REPORT.json as it is; how each state came about is in the README beside it.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from tests.lab import client_load
from tests.lab.image import SUITES
from tests.lab.lab import Lab, failure_logs
from tests.lab.layout import ALPHA, CLIENT
from tests.lab.machine import Machine

CAPTURES = Path(__file__).parents[1] / "captures"
NFSD = "/proc/fs/nfsd"
LOOKS = {
    "exportfs-v": "exportfs -v",
    "etab": "cat /var/lib/nfs/etab",
    "nfsd.export": "cat /proc/net/rpc/nfsd.export/content",
    "nfsd.fh": "cat /proc/net/rpc/nfsd.fh/content",
    "auth.unix.ip": "cat /proc/net/rpc/auth.unix.ip/content",
    "rpc-nfsd": "cat /proc/net/rpc/nfsd",
    "proc-fs-nfsd": (
        f"cd {NFSD} && for f in $(find . -maxdepth 1 -type f -perm -400 ! -name 'unlock_*' ! -name filehandle | sort); "
        'do printf "== %s ==\\n" "${f#./}"; timeout 2 head -c 2000 "$f"; echo; done'
    ),
    "clients": (
        f"for f in {NFSD}/clients/*/info {NFSD}/clients/*/states; do "
        '[ -e "$f" ] && printf "== %s ==\\n" "$f" && cat "$f"; done'
    ),
    "nfsdcld": (
        "python3 -c 'import sqlite3; "
        'print("\\n".join(sqlite3.connect("file:/var/lib/nfs/nfsdcld/main.sqlite?mode=ro", uri=True).iterdump()))\''
    ),
    "units": (
        "systemctl show -p Id -p ActiveState -p SubState -p Result nfs-server nfs-mountd nfsdcld rpc-statd "
        "rpcbind.socket nfs-idmapd proc-fs-nfsd.mount"
    ),
    "kernel": "dmesg --notime | grep -iE 'nfs|grace' | tail -20",
}
LVM_REPORTS = {
    "lvs": "lvs -a --reportformat json --units b --nosuffix -o vg_name,lv_name,lv_uuid,lv_attr,lv_size,origin,pool_lv,"
    "data_percent,metadata_percent,snap_percent,lv_snapshot_invalid,lv_time,lv_tags,segtype,lv_health_status,lv_active,"
    "lv_dm_path,lv_role,lv_device_open,devices",
    "lvs-plain": "lvs --reportformat json",
    "vgs": "vgs --reportformat json --units b --nosuffix -o vg_name,vg_uuid,vg_attr,vg_size,vg_free,vg_extent_size,"
    "vg_missing_pv_count,lv_count,snap_count,pv_count",
    "vgs-plain": "vgs --reportformat json",
    "pvs": "pvs --reportformat json --units b --nosuffix -o pv_name,pv_uuid,vg_name,pv_size,pv_free,pv_attr,pv_missing",
}


class Recorder:
    """Writes outputs as they are."""

    def __init__(self, into: Path) -> None:
        self.into = into
        self._story: list[str] = []
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)

    def state(self, machine: Machine, name: str, story: str, looks: dict[str, str], suffix: str) -> None:
        self._story.append(f"- `{name}`: {story}")
        print(name, flush=True)
        for look, command in looks.items():
            result = machine.run(command, 60, check=False)
            if result.stdout.strip():
                path = self.into / name / f"{look}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                path.write_text(result.stdout)

    def end(self, title: str, versions: str, looks: dict[str, str]) -> None:
        commands = "\n".join(f"- `{look}`: `{command}`" for look, command in looks.items())
        self.into.joinpath("README.md").write_text(
            f"# {title}\n\nRecorded by `python -m tests.lab.record_kernel` on emulated machines: {versions}.\n"
            f"A look that said nothing in a state has no file.\n\n## States, in this order\n\n"
            + "\n".join(self._story)
            + f"\n\n## Looks\n\n{commands}\n"
        )


def nfs(lab: Lab, versions: str) -> None:
    alpha, client = lab["alpha"], lab["client"]
    utils = lab.image.versions["nfs-kernel-server"].partition(":")[2].partition("-")[0]
    recorder = Recorder(CAPTURES / "nfs-kernel" / f"{utils}-linux-{alpha.out('uname -r').split('-')[0]}")

    def state(name: str, story: str) -> None:
        recorder.state(alpha, name, story, LOOKS, "txt")

    state("never-started", "nfs-server was never started since boot; /proc/fs/nfsd is not mounted")
    alpha.run("mkdir -p /srv/share/project /srv/two && chmod 777 /srv/share/project")
    alpha.run("systemctl start nfs-server", 60)
    state("no-exports", "started with nothing to export")
    alpha.put(
        "/etc/exports.d/lab.exports",
        "/srv/share/project -rw,sec=sys,sync,no_subtree_check,no_root_squash,fsid=6b0b7a4c-9d5a-5f0c-8f0a-0c9a0e6d1a11 "
        "10.77.0.21 10.77.0.31 10.77.0.0/26\n/srv/two 10.77.0.21(ro,async) *(ro,insecure,fsid=7)\n",
    )
    alpha.run("exportfs -r", check=False)
    state("exports-nobody-yet", "two exports, no client so far")
    client.run("mkdir -p /mnt/a /mnt/two && mount -t nfs4 -o vers=4.2 alpha:/srv/share/project /mnt/a", 60)
    client.run("mount -t nfs4 -o vers=4.1 alpha:/srv/two /mnt/two", 60)
    client.put("/var/tmp/client_load.py", Path(client_load.__file__))
    client.start_unit("load", "python3 /var/tmp/client_load.py run --mount /mnt/a --state /var/tmp/load")
    client.start_unit("tail", "cd /mnt/a; echo x >read-me; exec 7<read-me 8>>append; flock -s 7 sleep 600")
    time.sleep(12)
    state("clients-at-work", "one machine with two mounts: writers, readers, POSIX, OFD and flock locks")
    refused = client.run("ip address add 10.99.0.9/32 dev lo; mount -t nfs4 alpha:/srv/nowhere /mnt", 60, check=False)
    state("refused", f"somebody asked for a path that is not exported ({refused.stderr.strip()})")
    alpha.run("systemctl restart nfs-server", 60)
    state("in-grace", "just restarted: clients are expected to reclaim")
    alpha.wait_until("dmesg | grep -q 'ending NFSv4 grace\\|NFSD: end of grace'", 120, what="grace ends")
    time.sleep(3)
    state("after-grace", "all clients have reclaimed")
    alpha.run("systemctl stop nfs-server", 60)
    state("stopped", "stopped under its clients; nfsdcld goes on")
    alpha.run("systemctl start nfs-server", 60)
    client.power_off()
    time.sleep(2)
    state("client-dead-in-grace", "restarted, and the client that it waits for is gone")
    recorder.end("The kernel's NFS server", versions, LOOKS)


def lvm(lab: Lab, versions: str) -> None:
    alpha = lab["alpha"]
    recorder = Recorder(CAPTURES / "lvm" / lab.image.versions["lvm2"].split("-")[0])

    def state(name: str, story: str) -> None:
        recorder.state(alpha, name, story, LVM_REPORTS, "json")

    state("nothing", "no physical volume at all")
    alpha.run("truncate -s 200M /var/tmp/pv2 && losetup /dev/loop7 /var/tmp/pv2")
    alpha.run("pvcreate -q /dev/vdc /dev/loop7 && vgcreate -q misc /dev/vdc && lvcreate -q -y -n tools -L 100M misc")
    alpha.run("lvcreate -q -y -n test -L 32M misc && lvchange -q -an misc/test")
    state("linear", "two volumes, one of them not active; a physical volume in no group")
    alpha.run("mkfs.ext4 -q /dev/misc/tools && mount /dev/misc/tools /mnt")
    alpha.run("lvcreate -q -s -n tools-20260529 -L 16M --addtag labstore misc/tools")
    alpha.run("dd if=/dev/urandom of=/mnt/f bs=1M count=6 conv=fsync status=none")
    state("snapshot", "a snapshot, partly filled, of a mounted volume")
    alpha.run("dd if=/dev/urandom of=/mnt/g bs=1M count=30 conv=fsync status=none")
    state("snapshot-overflown", "the same, after more was written than it holds: invalid")
    alpha.run("lvremove -qy misc/tools-20260529; lvcreate -q -s -n tools-a -L 8M misc/tools")
    alpha.run("umount /mnt; lvconvert -q --merge misc/tools-a; lvs >/dev/null")
    state("merged", "a snapshot merged back")
    alpha.run("lvcreate -q -y --type thin-pool -n pool -L 64M misc && lvcreate -q -y -T -n thin -V 200M misc/pool", 120)
    alpha.run("lvcreate -q -y -s -n thin-snap misc/thin && lvchange -q -ay -K misc/thin-snap", 120)
    alpha.run("dd if=/dev/urandom of=/dev/misc/thin bs=1M count=20 oflag=direct status=none")
    state("thin", "a thin pool with a volume and a snapshot of it")
    alpha.run("dd if=/dev/urandom of=/dev/misc/thin bs=1M count=44 oflag=direct status=none", check=False)
    state("thin-full", "the pool without room")
    alpha.run("lvremove -qfy misc/pool; vgextend -q misc /dev/loop7", 120)
    alpha.run("lvcreate -qy -n wide -l 100%PVS misc /dev/loop7", 120)
    alpha.run("vgchange -qan misc/wide; lvchange -an misc/wide; losetup -d /dev/loop7; vgscan -q", check=False)
    state("partial", "a physical volume of the group is missing")
    recorder.end("LVM's reports", versions, LVM_REPORTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    parser.add_argument("--only", choices=("nfs", "lvm"))
    arguments = parser.parse_args()
    specs = (ALPHA,) if arguments.only == "lvm" else (ALPHA, CLIENT)
    with Lab(specs, arguments.suite) as lab_, failure_logs(lab_, Path("build/lab-logs/record-kernel")):
        lab_.start()
        packages = ("nfs-kernel-server", "lvm2")
        kernel = lab_["alpha"].out("uname -r")
        said = ", ".join(f"{package} {lab_.image.versions[package]}" for package in packages)
        said = f"Debian {arguments.suite}, Linux {kernel}, {said}"
        if arguments.only != "nfs":
            lvm(lab_, said)
        if arguments.only != "lvm":
            nfs(lab_, said)
