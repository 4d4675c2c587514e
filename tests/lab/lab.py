"""A lab: machines on links of their own, up together, gone together.

with Lab(PAIR) as lab:
    lab.start()
    lab["alpha"].run("drbdadm up all")
    lab.net.cut("link", "alpha", "beta")
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.accel import accelerator
from tests.lab.image import Image, built_once, cache, digest_of, image, sweep
from tests.lab.machine import Machine, Resume, Spec, blank_payload, make_disks
from tests.lab.net import Net
from tests.lab.ssh import Unreachable


class Lab:
    """See the module. `cold`: boot, rather than wake from the saved states of earlier boots."""

    def __init__(self, specs: Sequence[Spec], suite: str = "bookworm", payload: Path | None = None, cold: bool = False):
        sweep()
        self.image: Image = image(suite)
        self.cold, self.accel = cold, accelerator(self.image)
        self.sockets = Path(tempfile.mkdtemp(prefix="labstore-lab-"))
        """A short path: names of sockets have a hundred characters at most."""
        self.directory, self._lock = _run_directory(self.sockets)
        self.net = Net(self.sockets)
        self.payload = self.directory / "payload.img"
        if payload is None:
            blank_payload(self.payload)
        else:
            self.payload.hardlink_to(payload)  # ours, whatever becomes of the cache's
        self.machines: dict[str, Machine] = {}
        for spec in specs:
            directory = self.directory / spec.name
            directory.mkdir()
            self.machines[spec.name] = Machine(spec, self.image, self.net, directory, self.sockets, self.accel)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill everything and remove every file."""
        for machine in self.machines.values():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                machine.power_off()
        self.net.close()
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.close()

    # --- starting ---------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start these machines (all, if none is named) as new, with fresh disks, and wait until they can be used."""
        machines = [self.machines[name] for name in names or self.machines]
        frozen: dict[str, Path] = {}
        if not self.cold:
            frozen = self._saved_states(machines)
        for machine in machines:
            state = frozen.get(machine.name)
            make_disks(machine, state)
            machine.launch(self.payload, Resume(state / "memory") if state else None)
        _together(machines, Machine.reach)
        if frozen:
            _together(machines, Machine.set_clock)

    def boot(self, *names: str) -> None:
        """Start machines that were powered off, with the disks that they had."""
        machines = [self.machines[name] for name in names]
        for machine in machines:
            machine.launch(self.payload)
        _together(machines, Machine.reach)

    def _saved_states(self, machines: list[Machine]) -> dict[str, Path]:
        """A state per machine, just after its boot; what is not there yet is made now."""
        states = {machine.name: self._state(machine.spec) for machine in machines}
        with contextlib.ExitStack() as stack:
            missing: list[Machine] = []
            for name, directory in sorted(states.items()):
                building = stack.enter_context(built_once(directory))
                if building is not None:
                    spec = self.machines[name].spec
                    missing.append(Machine(spec, self.image, self.net, building, self.sockets, self.accel))
            try:
                for machine in missing:
                    make_disks(machine, None)
                    machine.launch(blank_payload(self.directory / "blank.img"))
                _together(missing, Machine.reach)
                _together(missing, _settle)
                for machine in missing:
                    machine.save_stream(machine.directory / "memory")
            finally:
                for machine in missing:
                    machine.power_off()
        return states

    def _state(self, spec: Spec) -> Path:
        version = subprocess.run(
            ["qemu-system-x86_64", "--version"], capture_output=True, check=True, timeout=20, stdin=subprocess.DEVNULL
        )
        digest = digest_of(self.image.digest, *self.machines[spec.name].shape(), version.stdout)
        return cache() / f"state-{self.image.suite}-{spec.name}-{digest}"

    # --- resetting --------------------------------------------------------------------------------------------------

    def save(self, tag: str) -> None:
        """Keep the state of all running machines, taken at one moment."""
        machines = [machine for machine in self.machines.values() if machine.running]
        for machine in machines:
            machine.pause()
        try:
            _together(machines, lambda machine: machine.save(tag))
        finally:
            for machine in machines:
                machine.go_on()

    def restore(self, tag: str) -> None:
        """Back to a moment that `save` kept, wherever the machines have got to since, also if they are off."""
        self.net.heal_all()
        machines = list(self.machines.values())
        for machine in machines:
            if not machine.running:
                machine.launch(self.payload, Resume())
            machine.thaw()
            machine.pause()
        _together(machines, lambda machine: machine.restore(tag))
        for machine in machines:
            machine.go_on()
        _together(machines, Machine.reach)
        _together(machines, Machine.set_clock)

    # --- what happened ----------------------------------------------------------------------------------------------

    def collect(self, into: Path) -> None:
        """Everything that explains a failure, also from machines that do not answer."""
        into.mkdir(parents=True, exist_ok=True)
        for machine in self.machines.values():
            for name in ("console.log", "journal.log", "qemu.log"):
                with contextlib.suppress(OSError):
                    shutil.copyfile(machine.directory / name, into / f"{machine.name}-{name}")
            (into / f"{machine.name}-state.txt").write_text(_look(machine))
        (into / "switch.txt").write_text("\n".join(f"{way}: {n}" for way, n in sorted(self.net.carried().items())))


LOOK = """
set -x; date; uptime; ip address; cat /proc/mounts; ps axfww; cat /proc/drbd; drbdadm status; exportfs -v
cat /proc/net/rpc/nfsd.export/content; cat /proc/fs/nfsd/threads; nft list ruleset; lsblk; systemctl --failed --no-pager
for states in /proc/fs/nfsd/clients/*/states; do echo $states; cat $states; done; systemctl list-jobs; dmesg | tail -60
"""


def _look(machine: Machine) -> str:
    try:
        return str(machine.run(LOOK, deadline=30, check=False))
    except Unreachable as error:
        return f"{error}\n"


def _settle(machine: Machine) -> None:
    """Nothing is going on any more, and nothing is in memory that need not be."""
    machine.run("systemctl is-system-running --wait || true; sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1", 120)


def _together(machines: Sequence[Machine], action: Callable[[Machine], None]) -> None:
    """Do it to all at once; the first failure is raised when all have ended."""
    if not machines:
        return
    with ThreadPoolExecutor(len(machines)) as pool:
        futures = [pool.submit(action, machine) for machine in machines]
    for future in futures:
        future.result()


def _run_directory(sockets: Path) -> tuple[Path, _Lock]:
    """A directory for this lab's files. Those of runs that were killed are removed: their lock is free."""
    cache().mkdir(parents=True, exist_ok=True)
    for old in cache().glob("run-*.lock"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), old.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in (old.with_suffix(""), Path(file.read().strip() or "/nonexistent")):
                shutil.rmtree(left, ignore_errors=True)
            old.unlink(missing_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=cache()))
    return directory, _Lock(directory.with_name(directory.name + ".lock"), sockets)


class _Lock:
    """Says that a run is alive, and where its sockets are."""

    def __init__(self, path: Path, sockets: Path) -> None:
        self._path, self._file = path, path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.write(f"{sockets}\n")
        self._file.flush()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


@contextlib.contextmanager
def failure_logs(lab: Lab, into: Path) -> Iterator[None]:
    """Collects the logs if the block fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            lab.collect(into)
        raise
