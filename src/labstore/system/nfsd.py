"""The kernel's NFS server: its threads, its clients, its export table, its scope, its grace period, its neighbours.

Everything here is read from the kernel (/proc/fs/nfsd, /proc/net/rpc) or asked over the network, never from the files
of nfs-utils: etab survives a restart and tells of exports that nobody serves.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labstore.formats import nfs4_wire
from labstore.formats.nfs4_wire import BadReply, ServerIdentity
from labstore.formats.nfsd_clients import client
from labstore.model.nfsd import Connection, NfsClient
from labstore.ports.host import Command, Host
from labstore.system.client_records import DATABASE
from labstore.system.files import kernel_text

PORT = 2049
SERVER = "nfs-server.service"


class NoAnswer(Exception):
    """The NFS server was asked and did not answer as it should."""


@dataclass(frozen=True)
class NfsdPaths:
    """Where the kernel shows and nfs-utils keeps things; tests have their own."""

    control: Path = Path("/proc/fs/nfsd")
    statistics: Path = Path("/proc/net/rpc/nfsd")
    export_cache: Path = Path("/proc/net/rpc/nfsd.export/content")
    handle_cache: Path = Path("/proc/net/rpc/nfsd.fh/content")
    cgroups: Path = Path("/sys/fs/cgroup/system.slice")
    proc: Path = Path("/proc")


@dataclass(frozen=True)
class Nfsd:
    host: Host
    paths: NfsdPaths = NfsdPaths()

    # --- the server itself ------------------------------------------------------------------------------------------

    def threads(self) -> int:
        """How many serve; 0 where the server was never started. Raises OSError, ValueError for anything else."""
        counted = threads_in(self.paths.statistics)
        if counted is not None:
            return counted
        try:
            return int((self.paths.control / "threads").read_text().split()[0])
        except FileNotFoundError:
            return 0

    def start(self, unit: str = SERVER, deadline: float = 60.0) -> None:
        """Through its unit, which brings mountd along. Raises CommandFailed."""
        self.host.run(Command.of("systemctl", "start", unit, deadline=deadline))

    def stop(self, *units: str, deadline: float = 60.0) -> None:
        """Through its unit, with others that systemd stops in their order; where the unit does not know that threads
        run (they were started by hand), by hand too. Raises CommandFailed."""
        self.host.run(Command.of("systemctl", "stop", *(units or (SERVER,)), deadline=deadline))
        if self.threads():
            self.host.run(Command.of("rpc.nfsd", "0", deadline=deadline))

    def forget_exports(self) -> None:
        """Let the kernel ask mountd afresh for every client; entries that pin a file system go. Raises
        CommandFailed."""
        self.host.run(Command.of("exportfs", "-f"))

    def cached_paths(self) -> frozenset[str]:
        """The paths that the kernel's export and handle caches hold, and thereby pin. Raises OSError."""
        found: set[str] = set()
        for cache in (self.paths.export_cache, self.paths.handle_cache):
            with contextlib.suppress(FileNotFoundError):
                found |= set(_paths(kernel_text(cache)))
        return frozenset(found)

    def in_grace(self) -> bool | None:
        """Whether only reclaims are taken at present; None where the kernel does not say."""
        try:
            return (self.paths.control / "v4_end_grace").read_text().strip() != "Y"
        except OSError:
            return None

    def end_grace(self) -> None:
        """Take new locks from now on; clients that have not reclaimed lose theirs. Raises OSError."""
        (self.paths.control / "v4_end_grace").write_text("Y")

    # --- its clients ------------------------------------------------------------------------------------------------

    def clients(self) -> tuple[NfsClient, ...]:
        """Every NFSv4 client with what it holds. A client that leaves meanwhile is passed over. Raises OSError,
        BadClient."""
        directory = self.paths.control / "clients"
        try:
            entries = sorted(directory.iterdir(), key=lambda entry: (len(entry.name), entry.name))
        except FileNotFoundError:
            return ()
        return tuple(found for entry in entries if (found := _client(entry)) is not None)

    def count_clients(self) -> int:
        """How many NFSv4 clients there are. Raises OSError."""
        try:
            return len(os.listdir(self.paths.control / "clients"))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return 0

    def connections(self, port: int = PORT) -> tuple[Connection, ...]:
        """Established TCP connections to the server's port. Raises OSError, ValueError."""
        found: list[Connection] = []
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):
                found += _established((self.paths.proc / "net" / name).read_text(), port)
        return tuple(found)

    # --- its neighbours ---------------------------------------------------------------------------------------------

    def pids(self, unit: str) -> tuple[int, ...]:
        """The processes of a unit, from its cgroup: much cheaper than asking systemd, and true."""
        try:
            text = (self.paths.cgroups / unit / "cgroup.procs").read_text()
        except OSError:
            return ()
        return tuple(int(line) for line in text.split())

    def open_directories(self, pids: tuple[int, ...]) -> frozenset[str]:
        """The directories of the files that these processes have open."""
        found: set[str] = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                for entry in os.scandir(self.paths.proc / str(pid) / "fd"):
                    with contextlib.suppress(OSError):
                        found.add(str(Path(os.readlink(entry.path)).parent))  # noqa: PTH115 - no path is made of it
        return frozenset(found)


def _client(directory: Path) -> NfsClient | None:
    try:
        info = (directory / "info").read_text(errors="backslashreplace")
        states = (directory / "states").read_text(errors="backslashreplace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        if error.errno in (6, 116):  # ENXIO, ESTALE: it has just gone
            return None
        raise
    return client(info, states)


def _paths(cache: str) -> Iterator[str]:
    """The path stands second in nfsd.export, last in nfsd.fh."""
    for line in cache.split("\n"):
        if line.startswith("#"):
            continue
        for word in line.split():
            if word.startswith("/"):
                yield re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word).partition("(")[0]


_ESTABLISHED = "01"


def _established(table: str, port: int) -> Iterator[Connection]:
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 4 or words[3] != _ESTABLISHED:
            continue
        (server, server_port), (peer, peer_port) = _endpoint(words[1]), _endpoint(words[2])
        if server_port == port:
            yield Connection(server, server_port, peer, peer_port)


def _endpoint(text: str) -> tuple[str, int]:
    """`0100007F:0801`: each 32 bits in the machine's own order. An IPv4 address in IPv6 clothing is undressed."""
    address, port = text.split(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(raw) == 16 and raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)


# --- asking over the network -----------------------------------------------------------------------------------------


def identity(address: str, deadline: float = 5.0, port: int = PORT) -> ServerIdentity:
    """Who answers NFSv4.1 at this address, and under which scope. Raises NoAnswer."""
    ends = time.monotonic() + deadline
    xid = secrets.randbits(31)
    try:
        with socket.create_connection((address, port), timeout=deadline) as connection:
            connection.sendall(nfs4_wire.question(xid, b"labstore probe", secrets.token_bytes(8)))
            return nfs4_wire.answer(xid, _reply(connection, ends))
    except (OSError, BadReply) as error:
        raise NoAnswer(f"NFS at {address}: {error}") from error


def _reply(connection: socket.socket, ends: float) -> bytes:
    whole = b""
    while True:
        size, last = nfs4_wire.length(_exactly(connection, 4, ends))
        whole += _exactly(connection, size, ends)
        if len(whole) > nfs4_wire.LIMIT:
            raise BadReply("an answer without end")
        if last:
            return whole


def _exactly(connection: socket.socket, size: int, ends: float) -> bytes:
    taken = b""
    while len(taken) < size:
        connection.settimeout(max(0.01, ends - time.monotonic()))
        piece = connection.recv(size - len(taken))
        if not piece:
            raise BadReply("the connection was closed")
        taken += piece
    return taken


def threads_in(statistics: Path) -> int | None:
    """The living threads by the kernel's statistics, None where these do not say. They are read first: `threads` is
    root's alone, and whoever reads it while a server cannot end hangs with it."""
    try:
        return int(next(line.split()[1] for line in statistics.read_text().splitlines() if line.startswith("th ")))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


# --- nfsdcld's records -----------------------------------------------------------------------------------------------


def recorded_clients(directory: Path) -> tuple[str, ...]:
    """The names of the clients that may reclaim at the next start, from nfsdcld's database. Raises OSError,
    sqlite3.Error; FileNotFoundError where there is none yet."""
    return recorded_in(directory / DATABASE)


def recorded_in(database: Path) -> tuple[str, ...]:
    """The same, from that database or from a copy of it."""
    database.stat()
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2)) as opened:
        tables = [row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names: set[str] = set()
        for table in tables:
            if re.fullmatch(r"rec-[0-9a-f]{16}", table):
                names |= {_name(row[0]) for row in opened.execute(f'SELECT id FROM "{table}"')}  # noqa: S608
    return tuple(sorted(names))


def _name(value: object) -> str:
    raw = value if isinstance(value, bytes) else str(value).encode()
    return raw.decode("ascii", "backslashreplace")
