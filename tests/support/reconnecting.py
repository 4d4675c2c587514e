"""Clients that log in over and over with what their credential file says: `... PORT,PORT,... FILE ...`.

Half of them read the file each time; the others keep what they read for a few logins, as long-lived programs do,
and read it again only then. For each line on standard input, a line of what was seen so far is written.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pymysql

REFUSED = (1045, 4151, 1698)
"""Errors that say: wrong password, locked, not this way."""
STALE = 6


@dataclass
class Seen:
    logins: int = 0
    away: int = 0
    refused: list[str] = field(default_factory=list)
    rounds: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def read(path: Path) -> tuple[str, str]:
    lines = dict(line.split(" = ") for line in path.read_text().splitlines() if " = " in line)
    return lines["user"], lines["password"]


def log_in(port: int, user: str, password: str, seen: Seen) -> None:
    try:
        pymysql.connect(
            host="127.0.0.1", port=port, user=user, password=password, connect_timeout=20, read_timeout=20
        ).close()
    except pymysql.MySQLError as error:
        with seen.lock:
            if error.args[0] in REFUSED:
                seen.refused.append(f"{user} at {port}: {error.args}")
            else:
                seen.away += 1
        return
    with seen.lock:
        seen.logins += 1


def client(path: Path, ports: list[int], keeps: bool, seen: Seen, pause: threading.Event) -> None:
    user, password = read(path)
    count = 0
    while True:
        for port in ports:
            if not keeps or count % STALE == 0:
                user, password = read(path)
            count += 1
            log_in(port, user, password, seen)
        with seen.lock:
            seen.rounds[str(path)] = seen.rounds.get(str(path), 0) + 1
        pause.wait(0.05)


def main(ports: list[int], files: list[Path]) -> None:
    seen, pause = Seen(), threading.Event()
    for number, path in enumerate(files):
        threading.Thread(target=client, args=(path, ports, number % 2 == 1, seen, pause), daemon=True).start()
    for _ in sys.stdin:
        with seen.lock:
            slowest = min(seen.rounds.get(str(path), 0) for path in files)
            said = {"logins": seen.logins, "away": seen.away, "refused": seen.refused[:20], "slowest": slowest}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main([int(port) for port in sys.argv[1].split(",")], [Path(name) for name in sys.argv[2:]])
