"""A private sshd on loopback, with keys and a home of its own, for one test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class Sshd:
    """`config` is the ssh configuration file that reaches it as host `elsewhere`."""

    config: Path
    authorized: Path
    public: str
    process: subprocess.Popen[bytes]
    port: int

    def allow(self, forced: str | None = None) -> None:
        """Let the key in; with a forced command for that and nothing else."""
        options = f'restrict,command="{forced}" ' if forced else ""
        self.authorized.write_text(options + self.public)


@contextlib.contextmanager
def private_sshd(folder: Path, address: str = "127.0.0.1", within: tuple[str, ...] = ()) -> Iterator[Sshd]:
    """Skips the test where there is no sshd, or where one cannot be run. `within` begins its command line: another
    network namespace, in which it listens on `address`. Who logs in is at home in `folder`: what this machine's own
    account runs at every login (bash reads ~/.bashrc for a command over ssh, too) is no part of what is tested."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("openssh-server is not installed")
    if os.geteuid() != 0:
        pytest.skip("sshd wants root")
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    authorized = folder / "authorized_keys"
    authorized.touch(mode=0o600)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {address}\nHostKey {folder}/host\nAuthorizedKeysFile {authorized}\n"
        f"SetEnv HOME={folder}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "PidFile none\nMaxStartups 100\n"
    )
    (folder / "config").write_text(
        f"Host elsewhere\n HostName {address}\n Port {port}\n IdentityFile {folder}/user\n IdentitiesOnly yes\n"
        f" StrictHostKeyChecking accept-new\n UserKnownHostsFile {folder}/known_hosts\n LogLevel ERROR\n"
    )
    process = subprocess.Popen([*within, SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        _wait_for(address, port, process)
        sshd = Sshd(folder / "config", authorized, (folder / "user.pub").read_text(), process, port)
        sshd.allow()
        yield sshd
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return
        time.sleep(0.02)
    pytest.fail("sshd did not come up")
