"""exportfs, always for the whole table (`-r`), never for one client, never asking a resolver.

`exportfs -u HOST:PATH` asks two names per other client of the path (95 s for 500 clients behind a dead resolver) and
`-i` costs as much as `-r`; `-r` itself asks none as long as files name addresses only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labstore.ports.host import Command, CommandFailed, Host
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed

DEADLINE = 900.0
"""Seconds: 10,000 clients of one path take 3 s (quadratic per path), 50,000 of 5,000 paths a minute and more."""
NSSWITCH = Path(__file__).with_name("nsswitch.files")

_FILES_ONLY = 'if [ -e /etc/nsswitch.conf ]; then mount --bind "$1" /etc/nsswitch.conf; fi; '
_RELOAD = _FILES_ONLY + "exec exportfs -r"


@dataclass(frozen=True)
class RootExportfs:
    """exportfs, run with our own rights (root) in a mount namespace of its own.

    Its exit status says little: 1 also for a warning about a missing /etc/exports. The table it leaves is what counts.
    """

    host: Host
    nsswitch: Path = NSSWITCH

    def reload(self) -> str:
        """Put what the files say into mountd's table and flush the kernel's caches. Returns what it complained about.
        Raises StepFailed where it cannot be run or does not end."""
        argv = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", _RELOAD, "sh", str(self.nsswitch))
        try:
            return self.host.run(Command(argv, DEADLINE), expect=frozenset({0, 1})).stderr.strip()
        except CommandFailed as error:
            raise StepFailed(ApplyFailed("exportfs", str(error))) from error


@dataclass(frozen=True)
class SudoExportfs:
    """The same through the one narrow sudo rule: `labstore ALL=(root) NOPASSWD: HELPER reload`."""

    host: Host
    helper: str = "/usr/sbin/labstore-exports-helper"

    def reload(self) -> str:
        """See RootExportfs.reload."""
        try:
            return self.host.run(Command.of("sudo", "-n", self.helper, "reload", deadline=DEADLINE)).stderr.strip()
        except CommandFailed as error:
            raise StepFailed(ApplyFailed("exportfs through sudo", str(error))) from error
