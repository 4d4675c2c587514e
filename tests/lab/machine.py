"""One QEMU machine: how it is started, talked to, and mistreated."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labstore.demo.child import freeze
from tests.lab import leash
from tests.lab.image import Image
from tests.lab.net import Net, mac
from tests.lab.qmp import Qmp, QmpError
from tests.lab.ssh import CommandFailed, Result, Shell, Unreachable
from tests.lab.waiting import patient, wait_until

CPU = "Nehalem"
"""Without AVX, which emulation is slow at and every string function would use."""
KERNEL_LINE = (
    "root=/dev/vda rw console=ttyS0 loglevel=7 mitigations=off random.trust_cpu=on net.ifnames=0 panic=0 "
    "systemd.service_watchdogs=no"
)
PAYLOAD_SIZE = 256 << 20
BOOT_DEADLINE = 180.0


@dataclass(frozen=True)
class Attachment:
    """An interface: on which network, with which address, and how large its frames are."""

    network: str
    address: str
    mtu: int = 1500

    @property
    def ip(self) -> str:
        return self.address.partition("/")[0]


@dataclass(frozen=True)
class Spec:
    """What a machine is made of. `disks` are sizes in MiB; they appear as /dev/vdc, /dev/vdd ...; the interfaces as
    eth1, eth2 ... (eth0 is the way in for ssh)."""

    name: str
    interfaces: tuple[Attachment, ...] = ()
    disks: tuple[int, ...] = ()
    memory: int = 512
    cpus: int = 1
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Address to name, for /etc/hosts."""

    def kernel_line(self) -> str:
        words = [KERNEL_LINE, f"systemd.hostname={self.name}"]
        for number, each in enumerate(self.interfaces, 1):
            words.append(f"lab.if=eth{number},{each.address},{each.mtu}")
        words += [f"lab.host={address},{name}" for address, name in self.hosts.items()]
        return " ".join(words)


@dataclass(frozen=True)
class Resume:
    """How a machine starts other than by booting: from a migration stream, or paused, to be given a snapshot."""

    stream: Path | None = None


class Machine:
    """A machine of a lab. Files are in `directory`; `sockets` is a short path for sockets."""

    def __init__(self, spec: Spec, image: Image, net: Net, directory: Path, sockets: Path, accel: str = "tcg") -> None:
        self.spec, self.image, self.directory = spec, image, directory
        self._net, self._sockets, self._accel = net, sockets, accel
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._shell: Shell | None = None
        self.frozen = False

    @property
    def name(self) -> str:
        return self.spec.name

    def ip(self, network: str) -> str:
        """This machine's address on a network."""
        return next(each.ip for each in self.spec.interfaces if each.network == network)

    def device(self, network: str) -> str:
        """The name of its interface on a network."""
        networks = [each.network for each in self.spec.interfaces]
        return f"eth{networks.index(network) + 1}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def qmp(self) -> Qmp:
        assert self._qmp is not None, f"{self.name} is not running"
        return self._qmp

    # --- commands and files -----------------------------------------------------------------------------------------

    def run(self, command: str, deadline: float = 30.0, check: bool = True, data: bytes | None = None) -> Result:
        """A bash line as root. Raises CommandFailed where it does not end with status 0 (unless `check` is off;
        status 124: it was ended at its deadline), Unreachable where the machine does not answer."""
        if self._shell is None:
            raise Unreachable(f"{self.name} is not running")
        result = self._shell.run(command, deadline, data)
        if check and not result.ok:
            raise CommandFailed(self.name, result)
        return result

    def out(self, command: str, deadline: float = 30.0) -> str:
        """What a command that succeeds says, stripped."""
        return self.run(command, deadline).stdout.strip()

    def put(self, path: str, content: str | bytes | Path, mode: int = 0o644) -> None:
        """Write a file, from text, bytes or a local file."""
        data = content.read_bytes() if isinstance(content, Path) else content
        data = data.encode() if isinstance(data, str) else data
        target = shlex.quote(path)
        self.run(f"mkdir -p $(dirname {target}) && cat >{target} && chmod {mode:o} {target}", 60, data=data)

    def get(self, path: str) -> str:
        return self.run(f"cat {shlex.quote(path)}", 60).stdout

    def wait_until(
        self, condition: str | Callable[[], Any], deadline: float, what: str = "", every: float = 0.3
    ) -> Any:
        """Until a shell line succeeds, or a function gives something true; gives that back (the line's Result)."""
        if callable(condition):
            return wait_until(condition, deadline, f"{self.name}: {what}", every)

        def succeeded() -> Result | None:
            result = self.run(condition, deadline, check=False)
            return result if result.ok else None

        return wait_until(succeeded, deadline, f"{self.name}: {what or condition}", every)

    def start_unit(self, name: str, command: str, **properties: str) -> None:
        """A transient service running a bash line."""
        settings = " ".join(f"--property={shlex.quote(f'{key}={value}')}" for key, value in properties.items())
        self.run(f"systemd-run --quiet --collect --unit={name} {settings} bash -c {shlex.quote(command)}")

    def journal(self, unit: str = "", lines: int = 200) -> str:
        only = f"-u {shlex.quote(unit)} " if unit else ""
        return self.run(f"journalctl --no-pager -o short-precise -n {lines} {only}", 60).stdout

    def install_labstore(self) -> None:
        """Mount the payload, at every boot from now on, and do what installing does: programs, units, the user, the
        sudo rule."""
        self.run(
            "blockdev --flushbufs /dev/vdb; mkdir -p /opt/labstore && "
            "echo '/dev/vdb /opt/labstore ext4 ro 0 0' >>/etc/fstab && mount /opt/labstore"
        )
        self.run("/opt/labstore/install", 60)

    # --- its life ---------------------------------------------------------------------------------------------------

    def launch(self, payload: Path, resume: Resume | None = None) -> None:
        """Start QEMU; `reach` waits for the guest."""
        assert not self.running, f"{self.name} is running"
        self._monitor_path.unlink(missing_ok=True)
        argv = self._argv(payload, resume)
        with (self.directory / "qemu.log").open("ab") as said:
            said.write((shlex.join(argv) + "\n").encode())
            said.flush()
            self._process = leash.start(
                argv, leash.niceness(), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        self.frozen = False
        try:
            self._qmp = Qmp(self._monitor_path)
        except OSError as error:
            raise RuntimeError(f"QEMU for {self.name} did not start: {self._qemu_log()}") from error
        if resume and resume.stream:
            self._take_stream(resume.stream)

    def reach(self, deadline: float = BOOT_DEADLINE) -> None:
        """Wait until the machine can be talked to."""
        if self._shell is not None:
            self._shell.disconnect()
        control = self._sockets / f"{self.name}.ssh"
        self._shell = Shell(self.name, self._ssh_port(), self.image.key, self.image.directory / "known_hosts", control)
        self._shell.connect(deadline)

    def ssh_options(self) -> str:
        """For a shell of one's own."""
        assert self._shell is not None
        return self._shell.options

    def set_clock(self) -> None:
        """A machine that slept in a saved state learns what time it is."""
        self.run(f"date -s @{time.time() + 0.3:.3f} >/dev/null")

    def freeze(self) -> None:
        """It stops dead, and answers nobody; its clocks go on (a hung host)."""
        assert self._process is not None
        freeze(self._process.pid)
        self.frozen = True

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self.frozen = False

    def power_off(self) -> None:
        """The plug is pulled: what was not flushed to disk is lost."""
        if self._shell is not None:
            self._shell.disconnect()
        self._shell = None
        if self._process is not None:
            leash.end(self._process)
        if self._qmp is not None:
            self._qmp.close()
        self._process = self._qmp = None

    def crash(self) -> None:
        """The kernel panics and hangs, as one without kdump does. Only `power_off` helps then."""
        with contextlib.suppress(Unreachable):
            self.run("echo c >/proc/sysrq-trigger", deadline=2, check=False)
        wait_until(lambda: "sysrq triggered crash" in self.console(), 20, f"{self.name} panics")
        if self._shell is not None:
            self._shell.disconnect()
        self._shell = None

    def shutdown(self, deadline: float = 120.0) -> None:
        """An orderly power-off, as systemd does it."""
        with contextlib.suppress(Unreachable):
            self.run("systemctl poweroff --no-block", check=False)
        process = self._process
        assert process is not None
        wait_until(lambda: process.poll() is not None, deadline, f"{self.name} powers itself off")
        self.power_off()

    # --- saved states -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        self.qmp("stop")

    def go_on(self) -> None:
        self.qmp("cont")

    def save(self, tag: str) -> None:
        """Keep memory and disks in the disks themselves. The machine should be paused."""
        self._drop(tag)
        self.qmp.job("snapshot-save", 120, tag=tag, vmstate="root", devices=self._disks)

    def restore(self, tag: str) -> None:
        """Go back to what `save` kept; the machine stays paused."""
        self.qmp("stop")
        self.qmp.job("snapshot-load", 120, tag=tag, vmstate="root", devices=self._disks)

    def _drop(self, tag: str) -> None:
        with contextlib.suppress(QmpError):
            self.qmp.job("snapshot-delete", 60, tag=tag, devices=self._disks)

    def save_stream(self, path: Path) -> None:
        """Write memory to a file and pause for good: the disks' files as they are then belong to it."""
        self.qmp("stop")
        self.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.qmp("migrate", uri=f"exec:cat >{shlex.quote(str(path))}")
        wait_until(lambda: self._migration() == "completed", 120, f"{self.name} is saved", every=0.05)

    def _take_stream(self, path: Path) -> None:
        self.qmp("migrate-incoming", uri=f"exec:cat <{shlex.quote(str(path))}")
        wait_until(lambda: self._migration() == "completed", 120, f"{self.name} is loaded", every=0.02)
        self.qmp("cont")

    def _migration(self) -> str:
        status = str(self.qmp("query-migrate").get("status"))
        if status == "failed":
            raise RuntimeError(f"{self.name}: its state cannot be carried over: {self._qemu_log()}")
        return status

    # --- what it leaves ---------------------------------------------------------------------------------------------

    def console(self) -> str:
        """The kernel's console so far."""
        return _text(self.directory / "console.log")

    def log(self) -> str:
        """The journal so far, of all boots, also of a machine that is dead."""
        return _text(self.directory / "journal.log")

    # --- QEMU -------------------------------------------------------------------------------------------------------

    @property
    def disk_files(self) -> dict[str, Path]:
        """Node name to file, the root disk first."""
        names = ["root", *(f"disk{number}" for number in range(len(self.spec.disks)))]
        return {name: self.directory / f"{name}.qcow2" for name in names}

    def shape(self) -> list[str]:
        """What QEMU is told, without the names of files: a saved state fits only the shape that it was taken from."""
        argv = " ".join(self._argv(Path("payload"), None))
        for directory in (self.directory, self._sockets, self.image.directory):
            argv = argv.replace(str(directory), "")
        return [argv, *map(str, self.spec.disks)]

    @property
    def _disks(self) -> list[str]:
        return list(self.disk_files)

    @property
    def _monitor_path(self) -> Path:
        return self._sockets / f"{self.name}.qmp"

    def _argv(self, payload: Path, resume: Resume | None) -> list[str]:
        accel = "tcg,thread=multi,tb-size=256" if self._accel == "tcg" else self._accel
        argv = ["qemu-system-x86_64", "-name", f"{self.name},process=lab-{self.name}"]
        argv += ["-M", "pc,usb=off,vmport=off", "-nodefaults", "-no-user-config", "-display", "none"]
        argv += ["-accel", accel, "-cpu", CPU if self._accel == "tcg" else "host"]
        argv += ["-smp", str(self.spec.cpus), "-m", str(self.spec.memory), "-rtc", "base=utc"]
        argv += ["-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        argv += ["-append", self.spec.kernel_line(), "-qmp", f"unix:{self._monitor_path},server=on,wait=off"]
        argv += ["-chardev", f"file,id=console,path={self.directory / 'console.log'},append=on"]
        argv += ["-serial", "chardev:console", "-device", "virtio-serial-pci,addr=3"]
        argv += ["-chardev", f"file,id=journal,path={self.directory / 'journal.log'},append=on"]
        argv += ["-device", "virtconsole,chardev=journal", "-device", "virtio-rng-pci,addr=4"]
        argv += self._disk_arguments(payload) + self._net_arguments()
        if resume is not None:
            argv += ["-incoming", "defer"] if resume.stream else ["-S"]
        return argv

    def _disk_arguments(self, payload: Path) -> list[str]:
        files = list(self.disk_files.items())
        argv: list[str] = []
        argv += _disk("root", "qcow2", files[0][1], 5)
        argv += _disk("payload", "raw", payload, 6, "read-only=on")
        for number, (name, path) in enumerate(files[1:]):
            argv += _disk(name, "qcow2", path, 7 + number)
        return argv

    def _net_arguments(self) -> list[str]:
        way_in = "user,id=ssh,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"
        argv = ["-netdev", way_in, "-device", f"virtio-net-pci,netdev=ssh,romfile=,addr=16,mac={mac(self.name, 'ssh')}"]
        for number, each in enumerate(self.spec.interfaces, 1):
            path = self._net.port(each.network, self.name)
            argv += ["-netdev", f"stream,id=net{number},server=off,addr.type=unix,addr.path={path}"]
            device = f"virtio-net-pci,netdev=net{number},romfile=,addr={16 + number},mac={mac(self.name, each.network)}"
            argv += ["-device", device]
        return argv

    def _ssh_port(self) -> int:
        """QEMU took a free port; it knows which."""
        said = self.qmp.monitor("info usernet")
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", said)
        if found is None:
            raise RuntimeError(f"{self.name} has no way in: {said}")
        return int(found[1])

    def _qemu_log(self) -> str:
        return _text(self.directory / "qemu.log")[-1500:]


def _disk(name: str, driver: str, path: Path, slot: int, more: str = "") -> list[str]:
    more = f",{more}" if more else ",discard=unmap,detect-zeroes=unmap,file.discard=unmap"
    node = f"driver={driver},node-name={name},file.driver=file,file.filename={path}{more}"
    return ["-blockdev", node, "-device", f"virtio-blk-pci,drive={name},serial={name},addr={slot}"]


def make_disks(machine: Machine, frozen: Path | None) -> None:
    """Fresh disks: overlays on the image and on nothing, or on the frozen ones of a saved state."""
    sizes = dict(zip(list(machine.disk_files)[1:], machine.spec.disks, strict=True))
    for name, path in machine.disk_files.items():
        argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if frozen is not None:
            argv += ["-b", str(frozen / path.name), "-F", "qcow2", str(path)]
        elif name == "root":
            argv += ["-b", str(machine.image.root), "-F", "raw", str(path)]
        else:
            argv += [str(path), f"{sizes[name]}M"]
        subprocess.run(argv, check=True, timeout=patient(30), stdin=subprocess.DEVNULL)


def blank_payload(path: Path) -> Path:
    """What stands in the payload's place while a machine is booted to be saved."""
    with path.open("wb") as file:
        os.truncate(file.fileno(), PAYLOAD_SIZE)
    return path


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""
