"""Files replaced atomically: owner and mode set before the name appears, file and directory synced."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

STAGED = ".labstore-new-"
"""Begins the names of files being written. The dot keeps exportfs from reading them (exports(5): names must not
begin with a dot and must end in `.exports`; upstream #18)."""


class FileTooLarge(Exception):
    """A file is larger than anything sensible; `path`, `limit` and `size` in bytes."""

    def __init__(self, path: Path, limit: int, size: int) -> None:
        self.path, self.limit, self.size = path, limit, size
        super().__init__(f"{path} has {size} bytes; at most {limit} are read")


def write_atomic(path: Path, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Replace `path` by a file of this content. Raises OSError; then the old file is still there, untouched.

    A reader sees the old file or the new one, also after a power cut.
    """
    with staged(path) as new:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o755, parents: int = 0o755) -> None:
    """Make `path` and what is missing above it; what is made has these modes whatever the umask says. Raises OSError.

    A directory that is there stays as it is.
    """
    if path.is_dir():
        return
    make_directory(path.parent, parents, parents)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(mode)


def switch_symlink(link: Path, target: str) -> None:
    """Let `link` point to `target` from one moment to the next, durably. Raises OSError."""
    with staged(link) as new:
        new.symlink_to(target)
    sync_directory(link.parent)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A name beside `path` to build under; renamed over `path` at the end, removed on an error."""
    new = path.with_name(STAGED + os.urandom(8).hex())
    try:
        yield new
        new.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def sync_files(paths: Sequence[Path]) -> None:
    """Have the content of these files on disk when this returns; several at a time, so that a journaling file system
    commits them together. Raises OSError."""

    def sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - most who write a file write one

    with ThreadPoolExecutor(min(16, len(paths) or 1)) as pool:
        for _ in pool.map(sync, paths):
            pass


def kernel_text(path: Path) -> str:
    """A table of the kernel's in /proc or /sys. Names in it may hold any byte: none is refused, and none but the line
    feed, which the kernel escapes, ends a line, so split it at that and nothing else. Raises OSError."""
    return path.read_bytes().decode(errors="surrogateescape")


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises FileTooLarge, OSError (also for what is not a
    regular file: a FIFO would block for ever)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not os.path.isfile(f"/proc/self/fd/{descriptor}"):  # noqa: PTH113 - asks about the open file, not the name
            raise OSError(22, "not a regular file", str(path))
        content = _at_most(file, limit + 1)
        if len(content) > limit:
            raise FileTooLarge(path, limit, max(status.st_size, len(content)))
        return content


def _at_most(file: IO[bytes], size: int) -> bytes:
    """In pieces: one read of `size` bytes would ask for that much memory first, whatever is in the file."""
    pieces: list[bytes] = []
    while size > 0 and (piece := file.read(min(size, 1 << 20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
