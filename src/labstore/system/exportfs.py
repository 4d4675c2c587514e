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

DEADLINE = 300.0
"""Seconds: 10,000 clients of one path take 3 s (quadratic per path)."""
NSSWITCH = Path(__file__).with_name("nsswitch.files")

_FILES_ONLY = 'if [ -e /etc/nsswitch.conf ]; then mount --bind "$1" /etc/nsswitch.conf; fi; '
_RELOAD = _FILES_ONLY + "exec exportfs -r"
_REHEARSE = (
    _FILES_ONLY
    + "mount -t tmpfs -o mode=755 none /var/lib/nfs; : >/var/lib/nfs/etab; : >/var/lib/nfs/rmtab; "
    + "exportfs -r || true; cat /var/lib/nfs/etab"
)


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
        return self._run("--mount", script=_RELOAD)[1]

    def rehearse(self) -> tuple[str, str]:
        """The table that `reload` would make, and the complaints; nothing outside is touched: the table and the
        kernel's caches are those of namespaces that end with the call. Raises StepFailed."""
        return self._run("--mount", "--net", script=_REHEARSE)

    def _run(self, *namespaces: str, script: str) -> tuple[str, str]:
        argv = ("unshare", *namespaces, "--propagation", "private", "/bin/sh", "-ec", script, "sh", str(self.nsswitch))
        try:
            done = self.host.run(Command(argv, DEADLINE), expect=frozenset({0, 1}))
        except CommandFailed as error:
            raise StepFailed(ApplyFailed("exportfs", str(error))) from error
        return done.stdout, done.stderr.strip()


@dataclass(frozen=True)
class SudoExportfs:
    """The same through the one narrow sudo rule: `labstore ALL=(root) NOPASSWD: HELPER reload, HELPER rehearse`."""

    host: Host
    helper: str = "/usr/sbin/labstore-exports-helper"

    def reload(self) -> str:
        """See RootExportfs.reload."""
        return self._run("reload")[1]

    def rehearse(self) -> tuple[str, str]:
        """See RootExportfs.rehearse."""
        return self._run("rehearse")

    def _run(self, verb: str) -> tuple[str, str]:
        try:
            done = self.host.run(Command.of("sudo", "-n", self.helper, verb, deadline=DEADLINE))
        except CommandFailed as error:
            raise StepFailed(ApplyFailed("exportfs through sudo", str(error))) from error
        return done.stdout, done.stderr.strip()
