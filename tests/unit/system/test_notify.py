"""The supervisor's protocol, by a socket that listens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labstore.system.notify import Supervisor


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + address[1:] if address.startswith("@") else address)
        heard.settimeout(5.0)
        yield heard


@pytest.mark.parametrize("abstract", [False, True])
def test_words_arrive(tmp_path: Path, abstract: bool) -> None:
    address = f"@labstore-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with listening(address) as heard:
        Supervisor({"NOTIFY_SOCKET": address}).tell(READY="1", STATUS="two\nlines")
        assert heard.recv(1000) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "relative", "@nobody-listens"])
def test_nobody_to_tell_is_no_trouble(address: str) -> None:
    Supervisor({"NOTIFY_SOCKET": address} if address else {}).tell(READY="1")


def test_the_watchdog_is_kept_quiet_while_all_is_well(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    well = [True]
    with listening(address) as heard:
        supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
        over = supervisor.watch(lambda: well[0])
        assert heard.recv(1000) == b"WATCHDOG=1"
        well[0] = False
        time.sleep(0.1)
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                heard.recv(1000)
        time.sleep(0.05)
        with pytest.raises(BlockingIOError):
            heard.recv(1000)
        over()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0.0),
    ],
)
def test_whose_watchdog_it_is(environ: dict[str, str], seconds: float) -> None:
    assert Supervisor(environ).watchdog == seconds
