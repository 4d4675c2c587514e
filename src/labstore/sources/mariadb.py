"""What connecting to MariaDB has in common, wherever it is done."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any

from labstore.model.dbusers_settings import Tls
from labstore.model.secret import Secret


def connection_arguments(
    host: str, port: int, socket: Path | None, user: str, password: Secret, tls: Tls, ca_file: Path | None
) -> dict[str, Any]:
    """For pymysql.connect. A socket file needs no encryption; a server is otherwise verified by name, unless the
    configuration turns that off."""
    arguments: dict[str, Any] = {"user": user, "password": password.reveal()}
    if socket is not None:
        return arguments | {"unix_socket": str(socket)}
    arguments |= {"host": host, "port": port}
    if tls is Tls.VERIFY:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        arguments["ssl"] = context
    else:
        arguments["ssl_disabled"] = True
    return arguments


def loopback(host: str) -> bool:
    """Whether this is this machine by its address (or `localhost`)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
