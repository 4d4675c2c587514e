"""A private NFS-Ganesha for tests, with labstore's backend beside it and instances that mount from it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labstore.demo.client import Instance
from labstore.demo.libnfs import LibraryMissing, library
from labstore.demo.relay import Relays
from labstore.demo.server import ROOT_ALONE, PrivateGanesha
from labstore.exports.backends.ganesha import EXPORTS, NfsGanesha
from labstore.model.exports import ExportTable
from labstore.model.names import ExportPath
from labstore.system.clock import SystemClock
from labstore.system.ganesha import Failure, Ganesha, GaneshaFailed

QUIET = re.compile(r":EVENT :|krb5|realm|fixing up")
"""Lines of the log that say nothing about a failure."""


@dataclass
class GaneshaLab:
    """See tests.contracts.export_server.ServerLab."""

    root: Path
    store: Path
    ganesha: PrivateGanesha
    relays: Relays
    server: NfsGanesha = field(init=False)

    def __post_init__(self) -> None:
        self.driver = Ganesha(SystemClock(), self.ganesha.bus, 20.0)
        self.server = self.fresh()

    def fresh(self) -> NfsGanesha:
        return NfsGanesha(self.store, self.driver, SystemClock())

    def restart_server(self) -> None:
        self.ganesha.stop()
        self.ganesha.start()

    def admitted(self, path: ExportPath) -> frozenset[str]:
        with self.driver.connect() as session:
            ids = [each.id for each in session.listed() if each.pseudo == path]
            try:
                return frozenset(client.name for export in session.shown(ids) for client in export.clients)
            except GaneshaFailed as failed:
                if failed.failure is Failure.UNKNOWN_ID:
                    return frozenset()
                raise

    def instance(self, address: str, uid: int = 0, gid: int = 0) -> Instance:
        return Instance(self.relays, address, uid, gid)

    def served(self) -> ExportTable:
        """What a new labstore finds stored; fails where the running server answers otherwise."""
        found = self.fresh().observe()
        value = getattr(found, "value", None)
        assert value is not None, found
        assert value.drift == ()
        return ExportTable(value.stored.exports)


@contextlib.contextmanager
def running_ganesha(
    directory: Path, rest: str = "", grace: int = 0, policy: str = ROOT_ALONE, store: Path | None = None
) -> Iterator[GaneshaLab]:
    """Start one below `directory` (its generations in `store`), end it at the end of the block. Its log stays; what
    matters of it is printed, which pytest shows for a test that failed."""
    store = store or directory / "store"
    ganesha = PrivateGanesha(directory / "g", store / "current" / EXPORTS, rest=rest, grace=grace, policy=policy)
    lab = GaneshaLab(directory / "srv", store, ganesha, Relays(ganesha.port))
    lab.server.prepare()
    try:
        ganesha.start()
        yield lab
    finally:
        print("\n".join(line for line in ganesha.log_text().splitlines() if not QUIET.search(line)))
        lab.relays.close()
        ganesha.close()


def need_ganesha() -> None:
    """Skip where the server or the client is not installed."""
    if shutil.which("ganesha.nfsd") is None:
        pytest.skip("nfs-ganesha and nfs-ganesha-vfs are not installed")
    try:
        library()
    except LibraryMissing as missing:
        pytest.skip(f"{missing} (package libnfs13)")
