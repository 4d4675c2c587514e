"""Record what DRBD says in every state that a pair can be in: `python -m tests.lab.record_drbd [--suite SUITE]`.

Two machines, two resources (`tools` with one volume, `misc` with two), each state brought about as it comes about in
life. For each state and node the programs' standard output goes to tests/captures/drbd/VERSION/STATE/NODE/, as it is;
what they said on standard error and how they ended is in `ends.json`, and so is output of a line or two.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from tests.lab.image import SUITES
from tests.lab.lab import Lab, failure_logs
from tests.lab.layout import LINK, PAIR
from tests.lab.machine import Machine
from tests.lab.ssh import Result

CAPTURES = Path(__file__).parents[1] / "captures" / "drbd"
LOOKS = {
    "status": "drbdadm status",
    "status-verbose": "drbdsetup status --verbose --statistics",
    "events2": "drbdsetup events2 --now --statistics",
    "proc": "cat /proc/drbd",
    "cstate": "drbdadm cstate all",
    "dstate": "drbdadm dstate all",
    "role": "drbdadm role all",
    "get-gi": "drbdadm get-gi all",
}
SHORT = ("cstate", "dstate", "role", "get-gi")
"""What is a word or two per volume, kept in ends.json."""
CONFIG = """
global {{ usage-count no; }}
common {{
  net {{ protocol C; cram-hmac-alg sha256; shared-secret "{secret}"; verify-alg sha256;
         ping-int 3; timeout 30; connect-int 3; ping-timeout 20;
         after-sb-0pri disconnect; after-sb-1pri disconnect; after-sb-2pri disconnect; }}
  disk {{ on-io-error detach; fencing {fencing}; c-plan-ahead 0; resync-rate {rate}; }}
}}
resource tools {{
  device /dev/drbd4 minor 4; disk /dev/lab/tools; meta-disk internal;
  on alpha {{ address 10.78.0.11:7791; }}
  on beta {{ address 10.78.0.12:7791; }}
}}
resource misc {{
  volume 0 {{ device /dev/drbd3 minor 3; disk /dev/lab/misc0; meta-disk internal; }}
  volume 1 {{ device /dev/drbd5 minor 5; disk /dev/lab/misc1; meta-disk internal; }}
  on alpha {{ address 10.78.0.11:7792; }}
  on beta {{ address 10.78.0.12:7792; }}
}}
"""


class Recorder:
    """Writes down what both nodes say."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.alpha, self.beta = lab, lab["alpha"], lab["beta"]
        self.ends: dict[str, dict[str, object]] = {}
        self.into = CAPTURES / "unknown"

    def version(self) -> str:
        self.alpha.run("modprobe drbd")
        kernel = self.alpha.out("head -1 /proc/drbd").split()[1]
        return f"{kernel}-utils-{self.lab.image.versions['drbd-utils'].split('-')[0]}"

    def start(self) -> None:
        self.into = CAPTURES / f"{self.version()}.new"
        shutil.rmtree(self.into, ignore_errors=True)
        self.into.mkdir(parents=True)

    def state(self, name: str) -> None:
        """What every program says in this state, on both nodes."""
        script = "; ".join(
            f"{command} 2>/tmp/stderr; printf '\\x1e%s\\x1e' $?; cat /tmp/stderr; printf '\\x1d'"
            for command in LOOKS.values()
        )
        for machine in (self.alpha, self.beta):
            if machine.running and not machine.frozen:
                said = machine.run(script, check=False).stdout.split("\x1d")
                for (look, command), part in zip(LOOKS.items(), said, strict=False):
                    stdout, status, stderr = part.split("\x1e")
                    self._keep(name, machine, look, Result(command, int(status), stdout, stderr, 0))
        print(name, flush=True)

    def attempt(self, name: str, machine: Machine, verb: str, command: str, deadline: float = 60) -> None:
        """A command whose refusal (or not) is of interest."""
        result = machine.run(command, deadline, check=False)
        self._keep(name, machine, verb, result)
        print(f"  {machine.name}: {command}: {result.status}")

    def log(self, name: str) -> None:
        for machine in (self.alpha, self.beta):
            self._keep(name, machine, "kernel", machine.run("dmesg --notime | grep drbd | tail -40"))

    def _keep(self, name: str, machine: Machine, look: str, result: Result) -> None:
        end = {"command": result.command, "status": result.status, "stderr": result.stderr}
        if look in SHORT or result.stdout.count("\n") < 2:
            end["stdout"] = result.stdout
        else:
            directory = self.into / name / machine.name
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{look}.txt").write_text(result.stdout)
        self.ends[f"{name}/{machine.name}/{look}"] = end

    def end(self, versions: str) -> None:
        (self.into / "ends.json").write_text(json.dumps(self.ends, indent=1) + "\n")
        (self.into / "README.md").write_text(README.format(versions=versions))
        done = self.into.with_suffix("")
        shutil.rmtree(done, ignore_errors=True)
        self.into.rename(done)


README = """# What DRBD says

Recorded by `python -m tests.lab.record_drbd` from two emulated machines: {versions}.
`STATE/NODE/LOOK.txt` is the standard output of one command on one node, untouched; `ends.json` has, for each of them,
the command, its exit status and its standard error (and its output, where that is a line or two).
`tools` has one volume (minor 4), `misc` has two (minors 3 and 5). The states, in the order in which they were brought
about, are the `recorder.state(...)` lines of the script; what was done to get there stands above each line.
"""


def configure(machine: Machine, secret: str = "s3cret", fencing: str = "dont-care", rate: str = "40M") -> None:
    machine.put("/etc/drbd.d/global_common.conf", CONFIG.format(secret=secret, fencing=fencing, rate=rate))


def both(lab: Lab, command: str, check: bool = True) -> None:
    for machine in lab.machines.values():
        machine.run(command, 60, check=check)


def adjust(lab: Lab, fencing: str = "dont-care", rate: str = "40M") -> None:
    for machine in lab.machines.values():
        configure(machine, fencing=fencing, rate=rate)
    both(lab, "drbdadm adjust all")


def connection(machine: Machine, wanted: str, resource: str = "tools") -> None:
    machine.wait_until(f"drbdadm cstate {resource} | grep -qx '{wanted}'", 60)


def healthy(lab: Lab, resource: str = "all") -> None:
    for machine in lab.machines.values():
        machine.wait_until(f"! drbdadm dstate {resource} | grep -vx UpToDate/UpToDate", 120)


def write(machine: Machine, device: str, megabytes: int, seek: int = 0) -> None:
    options = "oflag=direct conv=notrunc status=none"
    machine.run(f"dd if=/dev/urandom of={device} bs=1M count={megabytes} seek={seek} {options}", 120)


def record(lab: Lab) -> None:
    recorder = Recorder(lab)
    recorder.start()
    for part in (
        coming_up,
        first_sync,
        in_service,
        losing_the_link,
        disks,
        standing_alone,
        split_brain,
        fencing,
        trouble,
    ):
        part(lab, recorder, lab["alpha"], lab["beta"])
    recorder.end(_versions(lab))


def coming_up(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    both(lab, "modprobe -r drbd || true")
    recorder.state("module-not-loaded")
    both(
        lab,
        "pvcreate -q /dev/vdc && vgcreate -q lab /dev/vdc && for lv in tools:160 misc0:24 misc1:24; do "
        "lvcreate -q -y -n ${lv%:*} -L ${lv#*:}M lab; done",
    )
    for machine in (alpha, beta):
        configure(machine)
    recorder.state("configured-module-not-loaded")
    recorder.attempt("configured-module-not-loaded", alpha, "dump", "drbdadm dump all")
    recorder.attempt("configured-module-not-loaded", alpha, "dump-xml", "drbdadm dump-xml all")
    recorder.attempt("configured-and-down", alpha, "up-without-metadata", "drbdadm up tools")
    recorder.attempt("configured-and-down", beta, "secondary", "modprobe drbd; drbdadm secondary tools")
    recorder.attempt("configured-and-down", alpha, "down", "drbdadm down tools")
    recorder.state("configured-and-down")
    recorder.attempt("configured-and-down", alpha, "create-md", "drbdadm create-md --force all")
    recorder.attempt("configured-and-down", alpha, "create-md-again", "drbdadm create-md all </dev/null")
    recorder.attempt("configured-and-down", alpha, "dump-md", "drbdadm dump-md tools")
    beta.run("mkfs.ext4 -q /dev/lab/tools")
    recorder.attempt("configured-and-down", beta, "create-md-over-data", "drbdadm create-md tools </dev/null")
    beta.run("wipefs -qa /dev/lab/tools; drbdadm create-md --force all")
    # the first of two nodes comes up
    alpha.run("drbdadm up all")
    recorder.state("first-node-up")
    recorder.attempt("first-node-up", alpha, "primary", "drbdadm primary tools")
    recorder.attempt("first-node-up", alpha, "wait-connect", "drbdadm --wfc-timeout=2 wait-connect tools")
    # and the second: connected, and neither has data
    beta.run("drbdadm up all")
    connection(alpha, "Connected")
    recorder.state("fresh")
    recorder.attempt("fresh", alpha, "primary", "drbdadm primary tools")
    recorder.attempt("fresh", alpha, "show", "drbdsetup show")


def first_sync(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    adjust(lab, rate="3M")
    recorder.attempt("first-sync", alpha, "primary-force", "drbdadm primary --force all")
    time.sleep(4)
    recorder.state("first-sync")
    alpha.run("drbdadm pause-sync tools")
    recorder.state("sync-paused")
    recorder.attempt("sync-paused", beta, "primary", "drbdadm primary tools")
    alpha.run("drbdadm resume-sync tools")
    # the link goes while beta has half of the data
    lab.net.cut(LINK, "alpha", "beta")
    connection(beta, "WFConnection")
    connection(alpha, "WFConnection")
    recorder.state("sync-target-alone")
    recorder.attempt("sync-target-alone", beta, "primary", "drbdadm primary tools")
    lab.net.heal_all()
    beta.wait_until("drbdadm cstate tools | grep -q SyncTarget", 60)
    adjust(lab)
    healthy(lab)


def in_service(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    alpha.run("mkfs.ext4 -q /dev/drbd4 && mount /dev/drbd4 /mnt && echo one >/mnt/file && sync")
    recorder.state("healthy")
    recorder.attempt("healthy", alpha, "primary-again", "drbdadm primary tools")
    recorder.attempt("healthy", beta, "primary-of-two", "drbdadm primary tools")
    recorder.attempt("healthy", beta, "primary-of-two-forced", "drbdadm primary --force tools")
    recorder.attempt("healthy", alpha, "secondary-while-mounted", "drbdadm secondary tools")
    recorder.attempt("healthy", alpha, "down-while-mounted", "drbdadm down tools")
    recorder.state("healthy-after-refused-down")
    recorder.attempt("healthy", beta, "mount-on-secondary", "mount /dev/drbd4 /mnt")
    recorder.attempt("healthy", beta, "read-on-secondary", "dd if=/dev/drbd4 of=/dev/null bs=4096 count=1")
    recorder.attempt("healthy", alpha, "adjust-dry-run", "drbdadm --dry-run adjust all")
    configure(alpha, rate="7M")
    recorder.attempt("healthy", alpha, "adjust-dry-run-changed", "drbdadm --dry-run adjust all")
    recorder.attempt("healthy", alpha, "adjust-changed", "drbdadm adjust all")
    # nobody serves
    alpha.run("umount /mnt; drbdadm connect tools; drbdadm adjust all", check=False)
    healthy(lab)
    alpha.run("drbdadm secondary all")
    recorder.state("both-secondary")
    recorder.attempt("both-secondary", alpha, "mount", "mount /dev/drbd4 /mnt")
    # roles crossed: one resource served here, the other there
    alpha.run("drbdadm primary tools")
    beta.run("drbdadm primary misc")
    recorder.state("roles-crossed")
    beta.run("drbdadm secondary misc")
    # online verification, on data that differs underneath
    beta.run("drbdadm verify tools", check=False)
    time.sleep(1)
    recorder.state("verifying")
    alpha.wait_until("drbdadm cstate tools | grep -qx Connected", 120)
    recorder.attempt("verifying", alpha, "invalidate-remote", "drbdadm pause-sync tools; drbdadm resume-sync tools")


def losing_the_link(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    follow = "timeout 45 drbdsetup events2 --timestamps --statistics >/tmp/events2"
    for machine in (alpha, beta):
        machine.start_unit("follow", follow)
    lab.net.cut(LINK, "alpha", "beta")
    time.sleep(0.5)
    recorder.state("link-just-cut")
    connection(alpha, "WFConnection")
    connection(beta, "WFConnection")
    write(alpha, "/dev/drbd4", 80)
    recorder.state("link-cut")
    recorder.attempt("link-cut", beta, "outdate", "drbdadm outdate tools")
    recorder.state("outdated")
    recorder.attempt("outdated", beta, "primary", "drbdadm primary tools")
    adjust(lab, rate="3M")
    lab.net.heal_all()
    beta.wait_until("drbdadm cstate tools | grep -q SyncTarget", 60)
    time.sleep(1.5)
    recorder.state("resync")
    recorder.attempt("resync", beta, "primary", "drbdadm primary tools")
    recorder.attempt("resync", alpha, "secondary", "drbdadm secondary tools")
    recorder.state("resync-both-secondary")
    alpha.run("drbdadm primary tools; true")
    adjust(lab)
    healthy(lab)
    time.sleep(1)
    for machine in (alpha, beta):
        machine.run("systemctl stop follow", check=False)
        recorder.attempt("link-cut-and-healed", machine, "events2-followed", "cat /tmp/events2")
    recorder.log("link-cut-and-healed")
    # one direction only
    lab.net.cut(LINK, "beta", "alpha", both=False)
    connection(alpha, "WFConnection")
    time.sleep(2)
    recorder.state("link-cut-one-way")
    lab.net.heal_all()
    healthy(lab)
    # the partner is powered off
    beta.power_off()
    connection(alpha, "WFConnection")
    recorder.state("partner-dead")
    recorder.attempt("partner-dead", alpha, "secondary", "drbdadm secondary tools")
    recorder.state("partner-dead-secondary")
    recorder.attempt("partner-dead", alpha, "primary", "drbdadm primary tools")
    write(alpha, "/dev/drbd4", 4)
    lab.boot("beta")
    beta.run("modprobe drbd; drbdadm up all")
    healthy(lab)
    # the active node is powered off; its partner takes over; it comes back
    alpha.power_off()
    connection(beta, "WFConnection")
    recorder.state("primary-dead")
    recorder.attempt("primary-dead", beta, "primary", "drbdadm primary tools")
    write(beta, "/dev/drbd4", 4)
    recorder.state("taken-over")
    lab.boot("alpha")
    alpha.run("modprobe drbd; drbdadm attach all", check=False)
    recorder.state("dead-primary-back-unconnected")
    recorder.attempt("dead-primary-back-unconnected", alpha, "primary", "drbdadm primary misc")
    alpha.run("drbdadm secondary misc; drbdadm up all; drbdadm adjust all", check=False)
    healthy(lab)
    recorder.state("dead-primary-back")
    beta.run("drbdadm secondary all")
    alpha.run("drbdadm primary all")


def disks(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    recorder.attempt("diskless-secondary", beta, "detach", "drbdadm detach tools")
    recorder.state("diskless-secondary")
    recorder.attempt("diskless-secondary", beta, "primary", "drbdadm primary tools")
    beta.run("drbdadm attach tools")
    healthy(lab)
    recorder.attempt("diskless-primary", alpha, "detach", "drbdadm detach tools")
    write(alpha, "/dev/drbd4", 2)
    recorder.state("diskless-primary")
    lab.net.cut(LINK, "alpha", "beta")
    connection(alpha, "WFConnection")
    recorder.state("diskless-primary-alone")
    recorder.attempt(
        "diskless-primary-alone", alpha, "read", "dd if=/dev/drbd4 of=/dev/null bs=4096 count=1 iflag=direct"
    )
    lab.net.heal_all()
    connection(alpha, "Connected")
    alpha.run("drbdadm attach tools")
    healthy(lab)
    # the disk under the active node breaks: I/O errors from the device mapper
    alpha.run(
        "size=$(blockdev --getsz /dev/lab/tools); dmsetup suspend lab-tools; "
        'echo "0 $size error" | dmsetup load lab-tools; dmsetup resume lab-tools'
    )
    recorder.attempt(
        "failed-disk", alpha, "write", "dd if=/dev/zero of=/dev/drbd4 bs=4096 count=1 oflag=direct conv=notrunc"
    )
    time.sleep(1)
    recorder.state("failed-disk")
    recorder.log("failed-disk")
    recorder.attempt("failed-disk", alpha, "attach", "drbdadm attach tools")
    alpha.run("vgchange -qan lab/misc0; lvchange --refresh lab/tools", check=False)
    alpha.run("drbdadm attach tools")
    healthy(lab)


def standing_alone(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    recorder.attempt("disconnected", beta, "disconnect", "drbdadm disconnect tools")
    time.sleep(1)
    recorder.state("disconnected")
    beta.run("drbdadm connect tools")
    healthy(lab)
    recorder.attempt("partner-down", beta, "down", "drbdadm down tools")
    time.sleep(1)
    recorder.state("partner-down")
    beta.run("drbdadm up tools")
    healthy(lab)
    # a partner with another secret
    beta.run("drbdadm disconnect tools")
    configure(beta, secret="0ther")
    recorder.attempt("wrong-secret", beta, "adjust", "drbdadm adjust tools")
    time.sleep(8)
    recorder.state("wrong-secret")
    recorder.log("wrong-secret")
    configure(beta)
    both(lab, "drbdadm disconnect tools; drbdadm adjust tools", check=False)
    healthy(lab)
    # a partner with another protocol
    beta.run("drbdadm disconnect tools; sed -i 's/protocol C/protocol A/' /etc/drbd.d/global_common.conf")
    recorder.attempt("other-protocol", beta, "adjust", "drbdadm adjust tools")
    time.sleep(5)
    recorder.state("other-protocol")
    recorder.log("other-protocol")
    configure(beta)
    both(lab, "drbdadm disconnect tools; drbdadm adjust tools", check=False)
    healthy(lab)


def split_brain(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    lab.net.cut(LINK, "alpha", "beta")
    connection(alpha, "WFConnection")
    connection(beta, "WFConnection")
    recorder.attempt("split-brain-not-met", beta, "primary", "drbdadm primary tools")
    write(alpha, "/dev/drbd4", 3, seek=20)
    write(beta, "/dev/drbd4", 5, seek=40)
    recorder.state("split-brain-not-met")
    lab.net.heal_all()
    alpha.wait_until("dmesg | grep -q Split-Brain", 60)
    time.sleep(3)
    recorder.state("split-brain")
    recorder.log("split-brain")
    recorder.attempt("split-brain", alpha, "connect", "drbdadm connect tools")
    time.sleep(1)
    recorder.state("split-brain-one-connects")
    recorder.attempt("split-brain", beta, "connect", "drbdadm connect tools")
    time.sleep(4)
    recorder.state("split-brain-both-connected")
    # the writer of less gives way
    recorder.attempt("split-brain", alpha, "discard-while-primary", "drbdadm connect --discard-my-data tools")
    alpha.run("drbdadm disconnect tools", check=False)
    recorder.attempt("split-brain", alpha, "secondary", "drbdadm secondary tools")
    recorder.state("split-brain-victim-demoted")
    adjust(lab, rate="3M")
    alpha.run("drbdadm disconnect tools", check=False)
    beta.run("drbdadm connect tools", check=False)
    recorder.attempt("split-brain", alpha, "discard", "drbdadm connect --discard-my-data tools")
    time.sleep(1.5)
    recorder.state("split-brain-resolving")
    recorder.log("split-brain-resolving")
    adjust(lab)
    healthy(lab)
    recorder.state("split-brain-resolved")
    beta.run("drbdadm secondary tools")
    alpha.run("drbdadm primary tools")


def fencing(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    adjust(lab, fencing="resource-only")
    lab.net.cut(LINK, "alpha", "beta")
    connection(alpha, "WFConnection")
    time.sleep(3)
    recorder.state("fencing-without-handler")
    recorder.log("fencing-without-handler")
    recorder.attempt("fencing-without-handler", beta, "primary", "drbdadm primary tools")
    recorder.attempt("fencing-without-handler", beta, "primary-force", "drbdadm primary --force tools")
    recorder.state("fencing-forced")
    beta.run("drbdadm secondary tools")
    lab.net.heal_all()
    time.sleep(6)
    both(lab, "drbdadm disconnect tools", check=False)
    beta.run("drbdadm connect --discard-my-data tools")
    alpha.run("drbdadm connect tools")
    healthy(lab)
    adjust(lab, fencing="resource-and-stonith")
    lab.net.cut(LINK, "alpha", "beta")
    connection(alpha, "WFConnection")
    time.sleep(3)
    recorder.state("fencing-suspended")
    alpha.start_unit("writer", "dd if=/dev/zero of=/dev/drbd4 bs=4k count=1 oflag=direct conv=notrunc")
    time.sleep(2)
    recorder.attempt("fencing-suspended", alpha, "writer-waits", "systemctl is-active writer; ps -o stat= -C dd")
    recorder.attempt("fencing-suspended", alpha, "resume-io", "drbdadm resume-io tools")
    recorder.state("fencing-resumed")
    lab.net.heal_all()
    adjust(lab)
    healthy(lab)


def trouble(lab: Lab, recorder: Recorder, alpha: Machine, beta: Machine) -> None:
    alpha.run("drbdadm suspend-io tools")
    recorder.state("io-suspended-by-hand")
    alpha.run("drbdadm resume-io tools")
    beta.freeze()
    connection(alpha, "WFConnection")
    recorder.state("partner-frozen")
    beta.thaw()
    healthy(lab)
    both(lab, "umount /mnt; drbdadm secondary all; drbdadm down all", check=False)
    recorder.state("all-down")


def _versions(lab: Lab) -> str:
    versions = lab.image.versions
    kernel = lab["alpha"].out("uname -r")
    return f"Debian {lab.image.suite}, Linux {kernel}, drbd-utils {versions['drbd-utils']}, lvm2 {versions['lvm2']}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    with Lab(PAIR, parser.parse_args().suite) as lab_, failure_logs(lab_, Path("build/lab-logs/record-drbd")):
        lab_.start()
        record(lab_)
