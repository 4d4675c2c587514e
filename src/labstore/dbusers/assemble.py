"""Settings as a working reconciler: the only place of the room where they become connections and files."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from labstore.dbusers.crew import Crew
from labstore.dbusers.cycle import DbCycle
from labstore.dbusers.governor import Governor
from labstore.dbusers.observe import Observer
from labstore.dbusers.vault import Vault
from labstore.model.database import FoundAccount
from labstore.model.dbusers_settings import DbusersSettings, FileDirectorySettings, LedgerSettings
from labstore.ports.clock import Clock
from labstore.ports.credential_writer import CredentialWriter
from labstore.ports.directory import Directory
from labstore.ports.ledger import Ledger
from labstore.ports.node import Node
from labstore.ports.replica_server import ReplicaServer
from labstore.sources.file_directory import FileDirectory
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import MariaStore, SqliteStore
from labstore.sources.remote_files import FilesByKind, RemoteFiles
from labstore.sources.replica_hands import connect
from labstore.sources.replica_server import MariaReplica
from labstore.system.credential_files import CredentialFiles
from labstore.system.locks import exclusive
from labstore.system.node import LocalNode


def directory(settings: DbusersSettings, clock: Clock) -> Directory:
    if isinstance(settings.directory, FileDirectorySettings):
        return FileDirectory(settings.directory, settings.uids, clock)
    # python-ldap is an extra: a site with a file of people does without
    from labstore.sources.ldap_directory import LdapDirectory  # noqa: PLC0415

    return LdapDirectory(settings.directory, settings.uids, clock)


def ledger(settings: LedgerSettings, clock: Clock) -> Ledger:
    return SqlLedger(MariaStore(settings) if settings.sqlite is None else SqliteStore(settings.sqlite, clock))


def servers(
    settings: DbusersSettings, clock: Clock, before: Callable[[str], None] = lambda _sql: None
) -> list[ReplicaServer]:
    known: dict[FoundAccount, FoundAccount] = {}
    return [MariaReplica(host, clock, partial(connect, host, before), known) for host in settings.hosts]


def writer(settings: DbusersSettings, clock: Clock) -> CredentialWriter:
    """Files on this machine; those of some kinds on others, if the site says so."""
    here = CredentialFiles(settings.files, clock)
    services = {remote: RemoteFiles(remote, clock) for remote in set(settings.files.remote.values())}
    elsewhere = {kind: services[remote] for kind, remote in settings.files.remote.items()}
    return FilesByKind(here, elsewhere) if elsewhere else here


def holder(state_dir: Path, machine: Path = Path("/etc/machine-id")) -> str:
    """Who leads: the processes of this machine with this state directory. They take turns by a lock there, which ends
    with the process that holds it. Names of machines may be equal, their numbers (machine-id(5)) are not."""
    try:
        number = machine.read_bytes().strip()
    except OSError:
        number = b""
    mark = hashlib.sha256(number + b" " + os.fsencode(state_dir)).hexdigest()[:8]
    return f"{socket.gethostname()} ({mark})"


def cycle(settings: DbusersSettings, clock: Clock, node: Node | None = None) -> DbCycle:
    """Everything put together. Nothing is asked yet."""
    observer = Observer(
        settings=settings,
        directory=directory(settings, clock),
        ledger=ledger(settings.ledger, clock),
        crew=Crew(servers(settings, clock), clock, settings.pacing.back_off),
        writer=writer(settings, clock),
        clock=clock,
        vault=Vault(),
    )
    turn = partial(exclusive, settings.state_dir / "dbusers.lock", "labstore dbusers")
    return DbCycle(observer, node or LocalNode(clock), holder(settings.state_dir), turn=turn)


def governor(cycle: DbCycle) -> Governor:
    """Let a governor work beside this cycle, on its servers. The daemon starts it, and stops it before it closes
    them."""
    cycle.governor = Governor(cycle.observer.crew.servers, cycle.settings, cycle.observer.clock)
    return cycle.governor
