"""Image files as block devices (losetup(8))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from labstore.ports.host import Command, Host

_DEADLINE = 60.0


@contextlib.contextmanager
def as_device(host: Host, path: str) -> Iterator[str]:
    """A device to mount `path` by while the block runs: itself, or a loop device for a file, which goes when what was
    mounted of it goes (loop(4), LO_FLAGS_AUTOCLEAR). Raises CommandFailed,
    OSError.

    mount(8) would do that too, but with `ro` it makes a loop device that nobody can write to, and the kernel mounts no
    file system from one whose journal has to be replayed (fs/ext4/super.c, "write access unavailable").
    """
    if not Path(path).is_file():
        yield path
        return
    device = host.run(Command.of("losetup", "--find", "--show", path, deadline=_DEADLINE)).stdout.strip()
    held = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:  # while we hold it, this only has it go with whoever uses it last, be it that we are killed
        host.run(Command.of("losetup", "--detach", device, deadline=_DEADLINE))
        yield device
    finally:
        os.close(held)
