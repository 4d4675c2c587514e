"""The disk image of the lab's machines: a Debian root file system, its kernel, and an initrd of five modules.

Built once and kept outside the tree, under the digest of everything that goes into it. labstore itself is not in it
(see payload.py). `image("bookworm")` is all that others need.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import inspect
import json
import lzma
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUITES = ("bookworm", "trixie")
GUEST = Path(__file__).with_name("guest")
PACKAGES = (GUEST / "packages").read_text().split()
MASKED = (GUEST / "masked").read_text().split()
"""Units that a machine that lives for minutes does not need; each costs up to a second of an emulated boot."""
FILES = {
    "lab-setup": ("usr/local/sbin/lab-setup", 0o755),
    "lab-setup.service": ("etc/systemd/system/lab-setup.service", 0o644),
    "sshd.conf": ("etc/ssh/sshd_config.d/lab.conf", 0o644),
    "journald.conf": ("etc/systemd/journald.conf.d/lab.conf", 0o644),
    "system.conf": ("etc/systemd/system.conf.d/lab.conf", 0o644),
    "lvmlocal.conf": ("etc/lvm/lvmlocal.conf", 0o644),
    "sysctl.conf": ("etc/sysctl.d/lab.conf", 0o644),
}
ENABLED = ("lab-setup.service",)
DISABLED = ("nfs-server.service", "rpcbind.service", "rpcbind.socket", "remote-fs.target", "drbd.service")
"""Present and off at boot: what wants them starts them."""
EARLY_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng")
SIZE = "3G"
BUILD_DEADLINE = 1800.0
KEPT = {"image-*": 7 * 86400, "state-*": 7 * 86400, "wheels-*": 7 * 86400, "payload-*": 3600}
"""Seconds since the last use, after which something is removed from the cache."""


@dataclass(frozen=True)
class Image:
    """One built image. `key` opens every machine made from it; `versions` says which packages are in it."""

    directory: Path
    suite: str

    @property
    def digest(self) -> str:
        return self.directory.name.rpartition("-")[2]

    @property
    def root(self) -> Path:
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        return self.directory / "key"

    @property
    def versions(self) -> dict[str, str]:
        return dict(json.loads((self.directory / "versions.json").read_text()))


def cache() -> Path:
    """Where images and saved states are kept: $LABSTORE_CACHE, else below $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("LABSTORE_CACHE"):
        return Path(own).absolute() / "lab"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "labstore" / "lab"


def image(suite: str = "bookworm") -> Image:
    """The image of a suite, built now if it is not there. A second caller waits for the first one's build."""
    if suite not in SUITES:
        raise ValueError(f"no image for {suite!r}; there are {', '.join(SUITES)}")
    directory = cache() / f"image-{suite}-{_digest(suite)}"
    with built_once(directory) as building:
        if building is not None:
            _build(building, suite)
    return Image(directory, suite)


@contextlib.contextmanager
def built_once(directory: Path) -> Iterator[Path | None]:
    """Yields None when `directory` is there; else a directory to fill, which becomes it in one rename if the block
    ends well. One builder at a time; what a killed builder left is removed by the next."""
    if directory.is_dir():
        os.utime(directory)
        yield None
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(directory.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.is_dir():
            yield None
            return
        building = directory.with_name(directory.name + ".building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=0o700)
        yield building
        building.rename(directory)


def sweep() -> None:
    """Remove what nobody has used for long: images of other package lists, states of other images, older trees."""
    for pattern, age in KEPT.items():
        for old in cache().glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if old.is_dir() and old.stat().st_mtime < time.time() - age:
                    shutil.rmtree(old, ignore_errors=True)
                    old.with_name(old.name + ".lock").unlink(missing_ok=True)


def digest_of(*parts: bytes | str) -> str:
    """Sixteen hex digits that change with any of the parts."""
    sum_ = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sum_.update(len(data).to_bytes(8, "big") + data)
    return sum_.hexdigest()[:16]


def _digest(suite: str) -> str:
    guest = [GUEST.joinpath(name).read_bytes() for name in sorted(FILES)]
    code = [inspect.getsource(each) for each in (_bootstrap, _customise, _keys, _initrd, _modules, _file_system)]
    return digest_of(
        suite,
        " ".join((*PACKAGES, *MASKED, *ENABLED, *DISABLED, *EARLY_MODULES)),
        repr(FILES),
        SIZE,
        _INIT,
        *code,
        *guest,
    )


def _build(into: Path, suite: str) -> None:
    started = time.monotonic()
    root = into / "root"
    _bootstrap(root, suite)
    _customise(root, into)
    version = next((root / "usr/lib/modules").iterdir()).name
    shutil.copyfile(root / "boot" / f"vmlinuz-{version}", into / "vmlinuz")
    _initrd(root, version, into / "initrd")
    (into / "versions.json").write_text(json.dumps(_versions(root), indent=1))
    for name in (f"vmlinuz-{version}", f"initrd.img-{version}"):
        (root / "boot" / name).unlink(missing_ok=True)
    _file_system(root, into / "root.img")
    shutil.rmtree(root)
    (into / "seconds").write_text(f"{time.monotonic() - started:.1f}\n")


def _bootstrap(root: Path, suite: str) -> None:
    """mmdebstrap's own default mirror, or the one in $LABSTORE_LAB_MIRROR."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
    mirror = [os.environ["LABSTORE_LAB_MIRROR"]] if "LABSTORE_LAB_MIRROR" in os.environ else []
    include = "--include=" + ",".join(PACKAGES)
    _run("mmdebstrap", "--variant=minbase", "--mode=root", *excluded, include, suite, str(root), *mirror)


def _customise(root: Path, into: Path) -> None:
    for name, (target, mode) in FILES.items():
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GUEST / name, path)
        path.chmod(mode)
    for unit in (*ENABLED, *DISABLED):
        _run("systemctl", f"--root={root}", "enable" if unit in ENABLED else "disable", unit)
    _run("systemctl", f"--root={root}", "mask", *MASKED)
    _keys(root, into)
    root.joinpath("etc/hostname").unlink(missing_ok=True)
    root.joinpath("etc/machine-id").write_text("")
    root.joinpath("etc/fstab").write_text("")
    root.joinpath("etc/resolv.conf").unlink(missing_ok=True)


def _keys(root: Path, into: Path) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(into / "key"))
    for old in root.joinpath("etc/ssh").glob("ssh_host_*"):
        old.unlink()
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(host_key))
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(into / "key.pub", ssh / "authorized_keys")
    # the machines reach each other as operators' hosts do: root's key from one opens the other
    shutil.copyfile(into / "key", ssh / "id_ed25519")
    (ssh / "id_ed25519").chmod(0o600)
    public = host_key.with_suffix(".pub").read_text().split()
    (ssh / "known_hosts").write_text(f"* {public[0]} {public[1]}\n")
    (into / "known_hosts").write_text(f"* {public[0]} {public[1]}\n")


def _versions(root: Path) -> dict[str, str]:
    said = _run("dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f=${Package} ${Version}\n")
    return dict(line.split(" ", 1) for line in said.splitlines())


def _file_system(root: Path, path: Path) -> None:
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), "-E", "lazy_itable_init=0,discard", "-m", "0", str(path), SIZE)


# --- the initrd -------------------------------------------------------------------------------------------------------

_INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
for module in {modules}; do $B insmod /lib/$module; done
while [ ! -b /dev/vda ]; do $B usleep 10000; done
$B mount -t ext4 -o rw,noatime /dev/vda /root
$B mount -o move /dev /root/dev
exec $B switch_root /root /lib/systemd/systemd
"""


def _initrd(root: Path, version: str, path: Path) -> None:
    """Enough to find the root file system: the package's own initrd starts udev and takes seconds under emulation."""
    modules = _modules(root / "usr/lib/modules" / version)
    archive = _Cpio()
    for directory in ("bin", "dev", "lib", "root"):
        archive.add(directory, 0o40755, b"")
    archive.add("dev/console", 0o20600, b"", device=(5, 1))
    archive.add("bin/busybox", 0o100755, root.joinpath("bin/busybox").read_bytes())
    for name, data in modules.items():
        archive.add(f"lib/{name}", 0o100644, data)
    archive.add("init", 0o100755, _INIT.format(modules=" ".join(modules)).encode())
    path.write_bytes(gzip.compress(archive.end(), 1, mtime=0))


def _modules(directory: Path) -> dict[str, bytes]:
    """The early modules and what they need, in the order in which they load."""
    needs = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    by_name = {re.sub(r"\.ko(\.xz)?$", "", Path(name).name).replace("-", "_"): name for name in needs}
    ordered: dict[str, None] = {}
    for module in EARLY_MODULES:
        if module in by_name:
            for name in (*reversed(needs[by_name[module]]), by_name[module]):
                ordered[name] = None
    return {Path(name).name.removesuffix(".xz"): _plain(directory / name) for name in ordered}


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


class _Cpio:
    """The `newc` archive that the kernel unpacks."""

    def __init__(self) -> None:
        self._out, self._inode = bytearray(), 0

    def add(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        numbers = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        self._out += b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0"
        self._pad()
        self._out += data
        self._pad()

    def end(self) -> bytes:
        self.add("TRAILER!!!", 0, b"")
        return bytes(self._out)

    def _pad(self) -> None:
        self._out += b"\0" * (-len(self._out) % 4)


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout
