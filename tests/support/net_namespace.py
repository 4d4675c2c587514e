"""Network namespaces of the test's own: each is a thread that has left the machine's network, and does what it is
told there."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from tests.support.hang import HANGS

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


class Net:
    """One namespace. Needs root; ends with `close`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._id = self.do(self._enter)

    def _enter(self) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        return threading.get_native_id()

    def do(self, act: Callable[[], T]) -> T:
        """Carry it out in the namespace; sockets that are made there stay in it."""
        return self._thread.submit(act).result(HANGS)

    def cable(self, other: Net, name: str, there: str) -> None:
        """A cable between the two, its ends named and up."""

        def lay() -> None:
            with IPRoute() as netlink:
                netlink.link("add", ifname=name, kind="veth", peer={"ifname": there})
                end = netlink.link_lookup(ifname=there)[0]
                descriptor = os.open(Path(f"/proc/self/task/{other._id}/ns/net"), os.O_RDONLY)
                try:
                    netlink.link("set", index=end, net_ns_fd=descriptor)
                finally:
                    os.close(descriptor)

        self.do(lay)
        self.do(lambda: up(name))
        other.do(lambda: up(there))

    def close(self) -> None:
        self._thread.shutdown(wait=True)


def up(name: str) -> None:
    with IPRoute() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")


def give(name: str, address: str, prefix: int) -> None:
    """An address of the kind that a machine has of its own."""
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=name)[0]
        flags = {"flags": 0x02} if ":" in address else {}
        netlink.addr("add", index=index, address=address, prefixlen=prefix, **flags)
