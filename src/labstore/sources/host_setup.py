"""Making labstore's login and its procedures on a replica server, as that server's administrator."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labstore.formats.account_procedures import Setup
from labstore.model.accounts import NATIVE_PLUGIN, NativeHash
from labstore.model.dbusers_settings import ReplicaSettings, Tls
from labstore.model.secret import NO_SECRET, Secret
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import NotSetUp
from labstore.sources.mariadb import loopback
from labstore.sources.replica_hands import Lost, PlainHands, ProcedureHands, Refused, Wire, connect


@dataclass(frozen=True)
class Admin:
    """How the server's administrator logs in: by its socket, or over the network."""

    user: str = "root"
    password: Secret = NO_SECRET
    socket: Path | None = None


def setup_of(host: ReplicaSettings, source: str) -> Setup:
    """Raises ValueError for names that are none."""
    return Setup(host.procedures, host.user, source, host.grant_type, host.role, host.keep_binlog)


def login_statements(host: ReplicaSettings, source: str) -> tuple[str, ...]:
    """The login itself; repeating them changes nothing but the password."""
    login = f"'{host.user}'@'{source}'"
    if host.password:
        proof = f"IDENTIFIED VIA {NATIVE_PLUGIN} USING '{NativeHash.of(host.password)}'"
    else:
        proof = "IDENTIFIED VIA unix_socket"
    encrypted = " REQUIRE SSL" if host.tls is Tls.VERIFY and host.socket is None else ""
    return (f"CREATE USER IF NOT EXISTS {login} {proof}{encrypted}", f"ALTER USER {login} {proof}{encrypted}")


def statements(host: ReplicaSettings, source: str, plain: bool = False) -> tuple[str, ...]:
    """Everything, in order: the login, then the procedures, or (`plain`) the rights that it needs without them.
    Raises ValueError."""
    setup = setup_of(host, source)
    return (*login_statements(host, source), *(setup.plain_rights() if plain else setup.statements()))


def source_towards(host: ReplicaSettings) -> str:
    """The address of this machine that the server sees. Raises OSError."""
    if host.socket is not None:
        return "localhost"
    if loopback(host.key.host):
        return "127.0.0.1"
    family, kind, _, _, address = socket.getaddrinfo(host.key.host, host.key.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # a datagram socket sends nothing by this
        return str(probe.getsockname()[0])


def carry_out(
    host: ReplicaSettings, admin: Admin, wanted: Sequence[str], done: Callable[[int], None] = lambda _number: None
) -> None:
    """As administrator; `done` is told of each. Raises StepFailed with what the server said."""
    as_admin = replace(host, user=admin.user, password=admin.password, socket=admin.socket or host.socket)
    number = 0
    try:
        with contextlib.closing(Wire(as_admin)) as wire:
            if not host.keep_binlog:
                wire.ask("SET SESSION sql_log_bin = 0")
            for number, statement in enumerate(wanted, 1):
                wire.ask(statement)
                done(number)
    except (Lost, Refused) as error:
        where = f"statement {number}: {wanted[number - 1][:60]} ...: " if number else ""
        raise StepFailed(NotSetUp(str(host.key), f"{where}{error}")) from error


def proven(host: ReplicaSettings) -> str:
    """What labstore's own login can do there now, in words. Raises StepFailed."""
    try:
        hands = connect(host)
        try:
            hands.digests()
        finally:
            hands.close()
    except (Lost, Refused) as error:
        raise StepFailed(NotSetUp(str(host.key), f"labstore's login does not work: {error}")) from error
    if isinstance(hands, ProcedureHands):
        return "by the procedures, with no other right"
    assert isinstance(hands, PlainHands)
    return "by rights of its own: the procedures are not there, or not of this program"
