"""The network between the machines: an Ethernet switch in a process of its own.

QEMU connects each network interface to a Unix stream socket (`-netdev stream`); frames come with a four-byte length.
Every way from one port to another can be cut alone, which a multicast group cannot do, and what a frozen machine does
not read is dropped, as a wire would. Runs as `python switch.py DIRECTORY`; commands are JSON lines on standard input,
each answered by one line; it ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

QUEUE_LIMIT = 4 << 20
"""Bytes that wait for one machine before frames to it are dropped."""
READ_SIZE = 1 << 18
PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


@dataclass
class Port:
    """One interface of one machine on one network."""

    network: str
    machine: str
    listener: socket.socket
    stream: socket.socket | None = None
    taken: bytearray = field(default_factory=bytearray)
    waiting: bytearray = field(default_factory=bytearray)


class Switch:
    """Learns addresses, forwards frames, keeps what is cut."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._selector = selectors.DefaultSelector()
        self._ports: dict[tuple[str, str], Port] = {}
        self._learned: dict[tuple[str, bytes], Port] = {}
        self._cuts: set[tuple[str, str, str]] = set()
        self._carried: Counter[str] = Counter()
        self._captures: dict[str, BinaryIO] = {}
        self._commands = bytearray()
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Until standard input ends."""
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    if not self._command_input():
                        return
                elif isinstance(key.fileobj, socket.socket):
                    self._serve(key.data, key.fileobj, events)

    def _serve(self, port: Port, ready: socket.socket, events: int) -> None:
        if ready is port.listener:
            self._accept(port)
        elif ready is port.stream:
            if events & selectors.EVENT_WRITE:
                self._drain(port)
            if events & selectors.EVENT_READ and port.stream is not None:
                self._receive(port)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _accept(self, port: Port) -> None:
        stream, _ = port.listener.accept()
        self._hang_up(port)
        stream.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            stream.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        port.stream = stream
        self._selector.register(stream, selectors.EVENT_READ, port)

    def _hang_up(self, port: Port) -> None:
        if port.stream is not None:
            self._selector.unregister(port.stream)
            port.stream.close()
        port.stream = None
        port.taken.clear()
        port.waiting.clear()

    def _receive(self, port: Port) -> None:
        assert port.stream is not None
        try:
            data = port.stream.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(port)
            return
        port.taken += data
        at, end = 0, len(port.taken)
        while end - at >= 4:
            following = at + 4 + int.from_bytes(port.taken[at : at + 4], "big")
            if following > end:
                break
            self._forward(port, bytes(port.taken[at:following]))
            at = following
        del port.taken[:at]

    def _forward(self, source: Port, frame: bytes) -> None:
        """`frame` still has its length in front."""
        network, target, sender = source.network, frame[4:10], frame[10:16]
        self._learned[network, sender] = source
        known = self._learned.get((network, target))
        if known is not None:
            self._deliver(source, known, frame)
            return
        for port in self._ports.values():
            if port.network == network and port is not source:
                self._deliver(source, port, frame)

    def _deliver(self, source: Port, port: Port, frame: bytes) -> None:
        way = (source.network, source.machine, port.machine)
        if way in self._cuts:
            self._carried["cut " + " ".join(way)] += 1
            return
        if port.stream is None:
            return
        if len(port.waiting) + len(frame) > QUEUE_LIMIT:
            self._carried["overflow " + " ".join(way)] += 1
            return
        self._carried[" ".join(way)] += 1
        if capture := self._captures.get(source.network):
            _record(capture, frame[4:])
        idle = not port.waiting
        port.waiting += frame
        if idle:
            self._drain(port)

    def _drain(self, port: Port) -> None:
        assert port.stream is not None
        try:
            sent = port.stream.send(port.waiting) if port.waiting else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(port)
            return
        del port.waiting[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.waiting else 0)
        if self._selector.get_key(port.stream).events != events:
            self._selector.modify(port.stream, events, port)

    # --- commands ---------------------------------------------------------------------------------------------------

    def _command_input(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            data = os.read(0, 65536)
            if not data:
                return False
            self._commands += data
        while b"\n" in self._commands:
            line, _, rest = bytes(self._commands).partition(b"\n")
            self._commands = bytearray(rest)
            answer = self._command(json.loads(line))
            os.write(1, json.dumps(answer).encode() + b"\n")
        return True

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"do": "port", "network": str(network), "machine": str(machine)}:
                return {"path": self._port(network, machine)}
            case {"do": "cut" | "heal" as verb, "network": str(network), "from": str(source), "to": str(target)}:
                change = self._cuts.add if verb == "cut" else self._cuts.discard
                change((network, source, target))
            case {"do": "heal all"}:
                self._cuts.clear()
            case {"do": "capture", "network": str(network), "path": str(path)}:
                self._captures[network] = Path(path).open("wb", buffering=0)  # noqa: SIM115 (closed by "capture off")
                self._captures[network].write(PCAP_HEADER)
            case {"do": "capture off", "network": str(network)}:
                if capture := self._captures.pop(network, None):
                    capture.close()
            case {"do": "carried"}:
                return {"carried": dict(self._carried)}
            case _:
                return {"error": f"no such command: {command}"}
        return {}

    def _port(self, network: str, machine: str) -> str:
        path = self._directory / f"{network}-{machine}.sock"
        if (network, machine) not in self._ports:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(path))
            listener.listen(4)
            listener.setblocking(False)
            port = self._ports[network, machine] = Port(network, machine, listener)
            self._selector.register(listener, selectors.EVENT_READ, port)
        return str(path)


def _record(capture: BinaryIO, frame: bytes) -> None:
    now = time.time_ns() // 1000
    capture.write(struct.pack("=IIII", now // 1_000_000, now % 1_000_000, len(frame), len(frame)) + frame)


if __name__ == "__main__":
    Switch(Path(sys.argv[1])).run()
