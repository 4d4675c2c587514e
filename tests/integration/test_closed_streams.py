"""labstore as the kernel starts DRBD's handlers: without standard input, output and error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from labstore.cli.exit import Exit
from tests.support.hang import HANGS

COMMAND = (
    "import sys; sys.argv = ['labstore', 'exports', 'show', '--debug', '--site', '/nonexistent/site.yaml']\n"
    "from labstore.__main__ import main\nmain()"
)


def test_a_command_that_has_nowhere_to_say_it_ends_as_it_would_otherwise(tmp_path: Path) -> None:
    for closed in ("", "<&- >&- 2>&-", "2>&-", ">&- 2>&-"):
        line = f'exec "$0" -c "$1" {closed}'
        done = subprocess.run(
            ["sh", "-c", line, sys.executable, COMMAND],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=HANGS,
        )
        assert done.returncode == Exit.CONFIGURATION, (closed, done)
