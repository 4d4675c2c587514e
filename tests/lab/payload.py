"""labstore, as the lab's machines get it: a read-only disk with the tree's own wheel and the pinned wheels, unpacked.

Built from the working tree under the digest of what goes in; a second's work, after the dependencies were unpacked
once. A machine mounts it at /opt/labstore and runs its `install`, which does what a package's postinst does. Unpacking
and byte-compiling inside an emulated machine would take minutes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.image import built_once, cache, digest_of
from tests.lab.machine import PAYLOAD_SIZE

TREE = Path(__file__).parents[2]
LOCK = TREE / "requirements" / "run.txt"
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
HOME = "/opt/labstore"

INSTALL = """#!/bin/sh
# What installing labstore does to a machine, once its files are there.
set -e
for program in labstore nfs-exportd nfs-manage nfs-manage-binds; do
    [ ! -e {home}/bin/$program ] || ln -sf {home}/bin/$program /usr/bin/$program
done
ln -sf {home}/bin/labstore-exports-helper /usr/sbin/labstore-exports-helper
cp {home}/packaging/systemd/*.service /etc/systemd/system/
cp {home}/packaging/sysusers.d/*.conf /usr/lib/sysusers.d/
cp {home}/packaging/tmpfiles.d/*.conf /usr/lib/tmpfiles.d/
install -m 440 {home}/packaging/sudoers.d/* /etc/sudoers.d/
systemd-sysusers labstore.conf
systemd-tmpfiles --create labstore.conf
systemctl daemon-reload
"""


def payload(suite: str = "bookworm") -> Path:
    """The disk image for machines of a suite."""
    python = PYTHONS[suite]
    directory = cache() / f"payload-{python}-{_digest(python)}"
    with built_once(directory) as building:
        if building is not None:
            _build(building, python)
    return directory / "labstore.img"


def _digest(python: str) -> str:
    sources = [path for folder in ("src", "packaging") for path in sorted((TREE / folder).rglob("*")) if _counts(path)]
    named = (f"{path.relative_to(TREE)}\0".encode() + path.read_bytes() for path in sources)
    files = (TREE / "pyproject.toml", LOCK, Path(__file__))
    return digest_of(python, *(path.read_bytes() for path in files), *named)


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)


def _build(into: Path, python: str) -> None:
    root = into / "root"
    packages = root / "lib" / f"python{python}" / "site-packages"
    shutil.copytree(_dependencies(python), packages)
    _pip("install", "--no-deps", "--target", str(packages), "--upgrade", str(_wheel(into)))
    _programs(packages, root / "bin")
    shutil.copytree(TREE / "packaging", root / "packaging")
    root.joinpath("pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    install = root / "install"
    install.write_text(INSTALL.format(home=HOME))
    install.chmod(0o755)
    _compile(packages, python)
    image = into / "labstore.img"
    size = f"{PAYLOAD_SIZE >> 10}k"
    _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", str(root), str(image), size)
    shutil.rmtree(root)


def _dependencies(python: str) -> Path:
    """The pinned wheels, unpacked and compiled; kept until the pins change."""
    directory = cache() / f"wheels-{python}-{digest_of(LOCK.read_bytes(), python)}"
    with built_once(directory) as building:
        if building is not None:
            target = ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
            _pip("install", "--require-hashes", "-r", str(LOCK), "--target", str(building / "packages"), *target)
            shutil.rmtree(building / "packages" / "bin", ignore_errors=True)
            _compile(building / "packages", python)
    return directory / "packages"


def _wheel(into: Path) -> Path:
    """The wheel of a copy of the tree, so that building leaves nothing in the tree."""
    tree = into / "tree"
    shutil.copytree(TREE / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(TREE / name, tree / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), str(tree))
    shutil.rmtree(tree)
    return next(into.glob("labstore-*.whl"))


def _programs(packages: Path, into: Path) -> None:
    """The scripts that the wheel asks for, run by the interpreter of the machine."""
    into.mkdir()
    into.joinpath("python3").symlink_to("/usr/bin/python3")
    points = next(packages.glob("labstore-*.dist-info")) / "entry_points.txt"
    for line in points.read_text().splitlines():
        name, _, where = (part.strip() for part in line.partition("="))
        if where:
            module, _, function = where.partition(":")
            script = into / name
            start = f"#!{HOME}/bin/python3\nimport sys\n"
            script.write_text(f"{start}from {module} import {function}\nsys.exit({function}())\n")
            script.chmod(0o755)


def _compile(packages: Path, python: str) -> None:
    """Byte code that is never compared with its source; made here only where the interpreters are the same. A module
    that does not compile fails where it is imported."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == python:
        there = f"{HOME}/lib/python{python}/site-packages"
        options = ["-qq", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", str(packages), "-p", there]
        _run(sys.executable, "-m", "compileall", *options, str(packages), statuses=(0, 1))


def _pip(*arguments: str) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def _run(*argv: str, statuses: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode not in statuses:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
