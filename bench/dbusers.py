"""Database accounts on real MariaDB servers, on a disk; the last of three servers is a millisecond further away.

Beside ours the statements of the original, one by one over one connection. The baseline is kept lean: no
ledger, no directory, no file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import mariadb
from tests.support.mariadb import PASSWORD, MariaServer

from bench.figures import Figure, compared, counted

ACCOUNTS = int(os.environ.get("LABSTORE_BENCH_ACCOUNTS", "10000"))
DELAYS = (0, 0, 0.001)
ROOT = Path(__file__).parents[1]
ONE_BY_ONE = "three statements for each account in turn"
EACH = "ALTER USER for each"
FLOOR = "the server's own part of it"
IN_TURN = "the same on three servers in turn: three times the nearest one's time"


def figures() -> list[Figure]:
    with mariadb.running(3, disk=True, delays=DELAYS) as servers:
        _set_up(servers)
        with mariadb.scratch("bench") as directory:
            site = _child("dbusers_site", servers, str(directory))
        look = _child("dbusers_hosts", servers, "drift")
        limits = _child("dbusers_hosts", servers, "limits")
        away = _child("dbusers_hosts", servers, "limits-away")
    ours, theirs, bare = (_on_a_new_server(what) for what in ("create", "create-one-by-one", "create-bare"))
    said, one = f"{ACCOUNTS} accounts", f"{ACCOUNTS} accounts, one server"
    shown = "SHOW GRANTS for each account"
    return [
        compared(f"{one}: created", "s", ours["seconds"], theirs["seconds"], ONE_BY_ONE, 3),
        compared(f"{one}: {FLOOR}", "s", bare["seconds"], theirs["seconds"], ONE_BY_ONE),
        compared(
            f"{said} x 3: from an empty ledger, files and all", "s", site["first"], 3 * theirs["seconds"], IN_TURN
        ),
        counted(f"{said} x 3: statements for it", "statements", site["first_statements"]),
        counted(f"{said} x 3: no-change cycle", "s", site["same"]),
        counted(f"{said} x 3: statements of it", "statements", site["same_statements"], 12),
        counted(f"{said} x 3: accounts' rows and files written in it", "writes", site["same_writes"], 0),
        compared(f"{one}: full check, first look", "s", look["first"], look["theirs"], shown),
        compared(f"{one}: full check, one account changed", "s", look["one"], look["theirs"], shown),
        compared(f"{one}: full check, nothing changed", "s", look["same"], look["theirs"], shown, 20),
        compared("limits of 5000 accounts changed", "s", limits["ours"], limits["theirs"], EACH, 20),
        compared(f"limits of 5000 accounts changed: {FLOOR}", "s", limits["bare"], limits["theirs"], EACH),
        compared("limits of 5000 accounts changed, server 1 ms away", "s", away["ours"], away["theirs"], EACH, 20),
        counted(f"{said} x 3: new passwords for all, both good", "s", site["rotated"]),
        counted(f"{said} x 3: peak memory of the daemon", "MiB", site["memory"], 150),
    ]


def _on_a_new_server(what: str) -> dict[str, Any]:
    with mariadb.running(1, disk=True) as servers:
        _set_up(servers)
        return _child("dbusers_hosts", servers, what)


def _set_up(servers: list[MariaServer]) -> None:
    for server in servers:
        server.set_up()
        server.run(f"CREATE USER 'bench'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        server.run("GRANT ALL ON *.* TO 'bench'@'127.0.0.1' WITH GRANT OPTION")
        server.run("GRANT labsdbuser TO 'bench'@'127.0.0.1' WITH ADMIN OPTION")


def _child(module: str, servers: list[MariaServer], what: str) -> dict[str, Any]:
    """Each measurement in a process of its own, so that memory and imports are its own."""
    ports = ",".join(str(server.port) for server in servers)
    argv = [sys.executable, "-m", f"bench.children.{module}", str(ACCOUNTS), ports, what]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=3600, cwd=ROOT)
    return dict(json.loads(done.stdout.splitlines()[-1]))
