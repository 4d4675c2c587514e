"""Another machine to sync with: a network namespace of its own with an sshd in it, behind a link that is slow."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.sshd import private_sshd

from bench.blocksync_images import ROOT, Images, measured

RATE = 100e6
DELAY = 0.02
_HERE, _THERE = "198.18.77.1", "198.18.77.2"
"""Of the network for benchmarks (RFC 2544)."""


@dataclass(frozen=True)
class Link:
    """ssh configurations in which the other machine is `elsewhere`: over loopback, and over the slow link."""

    plain: Path
    slow: Path


@contextlib.contextmanager
def link(folder: Path) -> Iterator[Link]:
    """Needs root. The rate is kept by tc on both ends of a veth pair, the delay by a relay, since tc's own way to
    delay (netem) is missing from many kernels."""
    name = f"lsb{os.getpid()}"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="link-", dir=folder)))
        _tc_ip("ip", "netns", "add", name)
        stack.callback(_tc_ip, "ip", "netns", "del", name)
        _veth(name)
        there = ("ip", "netns", "exec", name)
        far = stack.enter_context(private_sshd(folder / "far", _THERE, there))
        near = stack.enter_context(private_sshd(folder / "near"))
        port = stack.enter_context(_late(_THERE, far.port))
        slow = folder / "slow.config"
        reached = far.config.read_text().replace(_THERE, "127.0.0.1").replace(f"Port {far.port}", f"Port {port}")
        slow.write_text(reached)
        yield Link(near.config, slow)


def _veth(name: str) -> None:
    _tc_ip("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
    rate = ("root", "tbf", "rate", f"{RATE:.0f}bit", "burst", "64kb", "latency", "50ms")
    _tc_ip("ip", "addr", "add", f"{_HERE}/30", "dev", f"{name}a")
    _tc_ip("ip", "link", "set", f"{name}a", "up")
    _tc_ip("tc", "qdisc", "add", "dev", f"{name}a", *rate)
    _tc_ip("ip", "-n", name, "addr", "add", f"{_THERE}/30", "dev", f"{name}b")
    _tc_ip("ip", "-n", name, "link", "set", f"{name}b", "up")
    _tc_ip("ip", "-n", name, "link", "set", "lo", "up")
    _tc_ip("tc", "-n", name, "qdisc", "add", "dev", f"{name}b", *rate)


def _tc_ip(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=30)


@contextlib.contextmanager
def _late(host: str, port: int) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    argv = [sys.executable, "-m", "bench.children.delay", str(listen), host, str(port), str(DELAY)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as relay:
        try:
            assert relay.stdout is not None
            assert relay.stdout.readline() == b"ready\n"
            yield listen
        finally:
            relay.terminate()


def over_ssh(images: Images, config: Path) -> tuple[str, ...]:
    """The arguments with which the source is read on the other machine."""
    serve = f"{sys.executable} -m labstore blocksync serve --state {images.state}/there"
    return ("--ssh-config", str(config), "--remote", serve, f"elsewhere:{images.source}")


def seconds_to_fill(images: Images, far: Link, size: int) -> tuple[float, float, int]:
    """How long a first copy of so many incompressible bytes takes over the slow link, how long ssh alone takes to
    carry them, and how many bytes were on the way."""
    made = Images(images.folder / "filled", 0)
    try:
        with made.source.open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        ours = made.ours("blake3", *over_ssh(made, far.slow))
        plain, _ = measured(["bash", "-c", f"ssh -F {far.slow} elsewhere cat {made.source} >/dev/null"])
        return ours.wall, plain.wall, ours.sent
    finally:
        made.remove()
