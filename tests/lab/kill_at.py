"""Start a command, and kill -9 a process as soon as a journal says that a step has begun: runs on a machine of the lab.

    kill_at.py --journal FILE --step unmount:tools -- labstore failover down --yes
    kill_at.py --journal FILE --step mount:tools --other "failover agent"

Ends with 0 if something was killed, 3 if the command came to its end first or nothing was there to be killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PAUSE = 0.005
PATIENCE = 280.0
ENDED = 3


def begun(journal: Path, start: int, step: str) -> bool:
    """Whether a line written since `start` says that the step has begun."""
    try:
        with journal.open("rb") as file:
            file.seek(start)
            lines = file.read().splitlines()
    except FileNotFoundError:
        return False
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["event"] == "step" and entry["step"] == step:
            return True
    return False


def find(pattern: str) -> int | None:
    """The process whose command line has `pattern` in it, but this one and ssh."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            line = " ".join(words)
            if pattern in line and "python" in Path(words[0]).name and "kill_at" not in line:
                return int(entry.name)
    return None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--other", default="", help="kill a process with this in its command line, started elsewhere")
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()
    journal: Path = arguments.journal
    start = journal.stat().st_size if journal.exists() else 0
    process = subprocess.Popen(arguments.command, start_new_session=True) if arguments.command else None
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if begun(journal, start, arguments.step):
            victim = process.pid if process else find(arguments.other)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                return 0
        if process and process.poll() is not None:
            return ENDED
        time.sleep(PAUSE)
    return ENDED


if __name__ == "__main__":
    sys.exit(main())
