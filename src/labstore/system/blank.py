"""Whether a block device holds anything: asked of the kernel, of libblkid, and of the bytes themselves."""

from __future__ import annotations

import errno
import os
import random
import stat
from dataclasses import dataclass
from pathlib import Path

from labstore.formats.systemd_show import blocks
from labstore.ports.host import Command, Host

EDGE = 4 << 20
"""Bytes at the beginning and at the end that are read whole."""
SAMPLE = 64 << 10
SAMPLES = 256
"""Pieces in between that are looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """`kind` is libblkid's name for what is there (`ext4`, `LVM2_member`, `drbd`), empty where it knows nothing;
    `zero` is whether all the bytes that were looked at are zero."""

    exists: bool
    busy: bool = False
    size: int = 0
    kind: str = ""
    zero: bool = False


@dataclass(frozen=True)
class Blank:
    host: Host

    def look(self, path: Path) -> Found:
        """Raises OSError, CommandFailed."""
        try:
            if not stat.S_ISBLK(path.stat().st_mode):
                return Found(False)
        except FileNotFoundError:
            return Found(False)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return Found(True, busy=True)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            return Found(True, False, size, self.kind(path), _zero(descriptor, size))
        finally:
            os.close(descriptor)

    def kind(self, path: Path) -> str:
        """What libblkid sees there, by its low-level probe, which asks no cache. Raises CommandFailed."""
        done = self.host.run(
            Command.of("blkid", "--probe", "--output", "export", str(path)), expect=frozenset({0, 2, 8})
        )
        if done.status == 8:
            return "several things at once"
        values = next(iter(blocks(done.stdout)), {})
        return values.get("TYPE") or values.get("PTTYPE") or ("something" if values.get("USAGE") else "")

    def make_filesystem(self, path: Path, kind: str, deadline: float = 600.0) -> None:
        """Raises CommandFailed; mkfs refuses by itself what is mounted."""
        quiet = ("-q",) if kind.startswith("ext") else ()
        self.host.run(Command.of(f"mkfs.{kind}", *quiet, str(path), deadline=deadline))


def _zero(descriptor: int, size: int) -> bool:
    chosen = random.SystemRandom()
    places = [(0, min(EDGE, size)), (max(0, size - EDGE), min(EDGE, size))]
    places += [(chosen.randrange(0, max(1, size - SAMPLE)), min(SAMPLE, size)) for _ in range(SAMPLES)]
    return all(_is_zero(descriptor, start, length) for start, length in places)


def _is_zero(descriptor: int, start: int, length: int) -> bool:
    while length > 0:
        piece = os.pread(descriptor, min(length, 1 << 20), start)
        if not piece:
            return True
        if piece.count(0) != len(piece):
            return False
        start, length = start + len(piece), length - len(piece)
    return True
