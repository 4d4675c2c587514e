"""A real NFS client (libnfs, NFSv4.0) with the address of an instance: it mounts, reads, writes, and says how it was
refused."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
from collections.abc import Iterator
from ctypes import byref, c_void_p

from labstore.demo.libnfs import library
from labstore.demo.relay import Relays

DEADLINE = 5.0
MODE = 0o660
READ_STEP = 1 << 17
WRITE_STEP = 2048
"""Bytes in one call to the server: libnfs 4.0.0 cannot encode an NFSv4 write of 4,000 bytes, whatever the server takes
("Failed to encode COMPOUND4args")."""


class NfsError(Exception):
    """The server said no, or nothing. `status` is NFSv4's word for it (`NFS4ERR_ACCESS`), empty where there was no
    answer; `number` is the errno that libnfs made of it (it makes up 5 and 34 for what it does not know)."""

    def __init__(self, doing: str, number: int, said: str) -> None:
        self.doing, self.number, self.said = doing, number, said
        match = re.search(r"NFS4ERR_[A-Z0-9_]+", said)
        self.status = match[0] if match else ""
        super().__init__(f"{doing}: {self.status or said or os.strerror(number)}")

    @property
    def refused(self) -> bool:
        """Whether the server denies that this client may be here. A stranger sees no such path at all (NOENT), somebody
        whose rights were taken away is told so (ACCESS), and an export that went leaves stale handles."""
        return self.status in ("NFS4ERR_NOENT", "NFS4ERR_ACCESS", "NFS4ERR_PERM", "NFS4ERR_STALE", "NFS4ERR_WRONGSEC")


class Mount:
    """One mounted path. Paths below are absolute within it. Every function raises NfsError.

    `port` is the server's (or a relay's) on 127.0.0.1. Each call waits at most `deadline` seconds. After a restart of
    the server a mount is of no use any more: libnfs does not come back by itself.
    """

    def __init__(self, port: int, path: str, uid: int = 0, gid: int = 0, deadline: float = DEADLINE) -> None:
        self.path = path
        self._nfs = library()
        self._context = c_void_p(self._nfs.nfs_init_context())
        try:
            self._prepare(port, path, uid, gid, deadline)
            self._check(self._nfs.nfs_mount(self._context, b"127.0.0.1", path.encode()), f"mount {path}")
        except BaseException:
            self.close()
            raise

    def _prepare(self, port: int, path: str, uid: int, gid: int, deadline: float) -> None:
        url = self._nfs.nfs_parse_url_dir(
            self._context, f"nfs://127.0.0.1{path}?version=4&nfsport={port}".encode("ascii")
        )
        if not url:
            raise NfsError(f"mount {path}", 22, self._said())
        self._nfs.nfs_destroy_url(c_void_p(url))
        self._nfs.nfs_set_timeout(self._context, int(deadline * 1000))
        self._nfs.nfs_set_uid(self._context, uid)
        self._nfs.nfs_set_gid(self._context, gid)
        # libnfs names itself by process and second: two contexts of one process would take each other's state away
        self._nfs.nfs4_set_client_name(self._context, secrets.token_hex(8).encode())
        self._nfs.nfs4_set_verifier(self._context, secrets.token_hex(4).encode())

    # --- whole files ------------------------------------------------------------------------------------------------

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """The first `limit` bytes of a file."""
        with self.open(path) as file:
            return file.read(limit)

    def write(self, path: str, content: bytes) -> None:
        """Make a file of this content; when this returns it is on the server's disk."""
        flags = os.O_WRONLY if self._exists(path) else os.O_WRONLY | os.O_CREAT
        with self.open(path, flags) as file:
            file.truncate()
            file.write(content)
            file.sync()

    def remove(self, path: str) -> None:
        self._check(self._nfs.nfs_unlink(self._context, path.encode()), f"remove {path}")

    def list(self, path: str = "/") -> tuple[str, ...]:
        """The names in a directory, sorted, without `.` and `..`."""
        directory = c_void_p()
        self._check(self._nfs.nfs_opendir(self._context, path.encode(), byref(directory)), f"list {path}")
        names: list[str] = []
        while entry := self._nfs.nfs_readdir(self._context, directory):
            names.append(entry.contents.name.decode("utf-8", "replace"))
        self._nfs.nfs_closedir(self._context, directory)
        return tuple(sorted(set(names) - {".", ".."}))

    def open(self, path: str, flags: int = os.O_RDONLY) -> OpenFile:
        """Open a file and keep it open, as an application would."""
        handle = c_void_p()
        status = self._nfs.nfs_open2(self._context, path.encode(), flags, MODE, byref(handle))
        self._check(status, f"open {path}")
        return OpenFile(self, path, handle)

    def close(self) -> None:
        """Forget the mount. The server is not asked, so this works when it is gone."""
        if self._context.value:
            self._nfs.nfs_destroy_context(self._context)
            self._context = c_void_p()

    def __enter__(self) -> Mount:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exists(self, path: str) -> bool:
        try:
            self.open(path).close()
        except NfsError as error:
            if error.status == "NFS4ERR_NOENT":
                return False
            raise
        return True

    # --- for OpenFile -----------------------------------------------------------------------------------------------

    def _call(self, function: str, handle: c_void_p, doing: str, *arguments: object) -> int:
        if not self._context.value:
            raise NfsError(doing, 9, "not mounted")
        return self._check(getattr(self._nfs, function)(self._context, handle, *arguments), doing)

    def _check(self, status: int, doing: str) -> int:
        if status < 0:
            raise NfsError(doing, -status, self._said())
        return status

    def _said(self) -> str:
        return (self._nfs.nfs_get_error(self._context) or b"").decode("utf-8", "replace")


class OpenFile:
    """A file that is open. Every function raises NfsError."""

    def __init__(self, mount: Mount, path: str, handle: c_void_p) -> None:
        self._mount, self._path, self._handle = mount, path, handle

    def read(self, limit: int = 1 << 20, offset: int = 0) -> bytes:
        """At most `limit` bytes from `offset` on; fewer only at the end of the file."""
        taken = bytearray()
        buffer = ctypes.create_string_buffer(READ_STEP)
        while len(taken) < limit:
            size = min(READ_STEP, limit - len(taken))
            doing = f"read {self._path}"
            got = self._mount._call("nfs_pread", self._handle, doing, offset + len(taken), size, buffer)
            taken += buffer.raw[:got]
            if got < size:
                break
        return bytes(taken)

    def write(self, content: bytes, offset: int = 0) -> None:
        written = 0
        while written < len(content):
            part = content[written : written + WRITE_STEP]
            doing = f"write {self._path}"
            written += self._mount._call("nfs_pwrite", self._handle, doing, offset + written, len(part), part)

    def truncate(self, size: int = 0) -> None:
        self._mount._call("nfs_ftruncate", self._handle, f"truncate {self._path}", size)

    def sync(self) -> None:
        self._mount._call("nfs_fsync", self._handle, f"sync {self._path}")

    def close(self) -> None:
        """Close it; that the server cannot be asked any more is no error."""
        with contextlib.suppress(NfsError):
            self._mount._call("nfs_close", self._handle, f"close {self._path}")

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Instance:
    """A machine with this address, as the server sees it."""

    def __init__(self, relays: Relays, address: str, uid: int = 0, gid: int = 0, deadline: float = DEADLINE) -> None:
        self.address, self.uid, self.gid, self.deadline = address, uid, gid, deadline
        self._relays = relays

    def mount(self, path: str) -> Mount:
        """Mount a path of the server. Raises NfsError."""
        return Mount(self._relays.port_of(self.address), path, self.uid, self.gid, self.deadline)

    def may_mount(self, path: str) -> bool:
        """Whether it gets in right now. Raises NfsError for anything that is neither yes nor no."""
        try:
            self.mount(path).close()
        except NfsError as error:
            if error.refused:
                return False
            raise
        return True

    @contextlib.contextmanager
    def mounted(self, path: str) -> Iterator[Mount]:
        """A mount for the length of a block."""
        with self.mount(path) as mount:
            yield mount
