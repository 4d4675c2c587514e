"""A real NFS client for a moment: mount through the service address, look, write, read back, lock, and go away again.

It runs in a mount namespace of its own, so that its mount ends with it however it ends, and it unmounts cleanly: a
client that vanished would be waited for through the whole grace period of the next failover.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labstore.ports.host import Command, CommandFailed, Host
from labstore.system.files import make_directory

OPTIONS = "vers=4.2,proto=tcp,soft,timeo=50,retrans=2,noac,lookupcache=none"

_LOOK = """
mount --make-rprivate /
mount -t nfs4 -o "$3" "$1" "$2"
stat -t "$2" >/dev/null
umount "$2"
"""
_WRITE = """
mount --make-rprivate /
mount -t nfs4 -o "$3" "$1" "$2"
stat -t "$2" >/dev/null
printf '%s\\n' "$4" >"$2/canary.$5"
sync "$2/canary.$5"
read -r back <"$2/canary.$5"
[ "$back" = "$4" ] || { echo "wrote $4, read $back" >&2; exit 9; }
flock --exclusive --timeout 20 "$2/canary.$5" true || { echo "no lock was granted" >&2; exit 9; }
umount "$2"
"""


class ProbeFailed(Exception):
    """The service could not be used through its address; `reason` is what was said."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"NFS at {address} cannot be used: {reason}")
        self.address, self.reason = address, reason


@dataclass(frozen=True)
class NfsProbe:
    host: Host

    def look(self, address: str, path: str, at: Path, deadline: float = 40.0) -> None:
        """Mount and stat: what a server in its grace period grants too. Raises ProbeFailed."""
        self._run(_LOOK, address, path, at, (), deadline)

    def use(self, address: str, path: str, at: Path, word: str, name: str, deadline: float = 90.0) -> None:
        """Write `word`, read it back and lock, as node `name`. Raises ProbeFailed."""
        self._run(_WRITE, address, path, at, (word, name), deadline)

    def _run(self, script: str, address: str, path: str, at: Path, words: tuple[str, ...], deadline: float) -> None:
        make_directory(at, 0o700)
        server = f"[{address}]" if ":" in address else address
        arguments = (f"{server}:{path}", str(at), OPTIONS, *words)
        argv = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec", script, "sh", *arguments)
        try:
            self.host.run(Command(argv, deadline))
        except CommandFailed as error:
            said = [line for line in error.stderr.splitlines() if line.strip()]
            raise ProbeFailed(address, (said[-1] if said else error.reason)[:300]) from error
