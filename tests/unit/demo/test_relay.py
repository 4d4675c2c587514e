"""A relay gives each instance an address of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from labstore.demo.relay import Relays
from tests.support.hang import HANGS


class Greeter:
    """Says to whoever connects which address it sees, then echoes."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection, peer[0]), daemon=True).start()

    def _talk(self, connection: socket.socket, address: str) -> None:
        with connection:
            connection.sendall(address.encode() + b"\n")
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def greeter() -> Iterator[Greeter]:
    server = Greeter()
    yield server
    server.close()


def seen_from(relays: Relays, address: str) -> str:
    with socket.create_connection(("127.0.0.1", relays.port_of(address)), 5.0) as connection:
        return connection.makefile().readline().strip()


def test_the_server_sees_the_address_of_the_instance(greeter: Greeter) -> None:
    with Relays(greeter.port) as relays:
        assert seen_from(relays, "127.77.0.5") == "127.77.0.5"
        assert seen_from(relays, "127.77.0.6") == "127.77.0.6"


def test_an_instance_has_one_port(greeter: Greeter) -> None:
    with Relays(greeter.port) as relays:
        assert relays.port_of("127.77.0.5") == relays.port_of("127.77.0.5")


def test_a_megabyte_goes_through_both_ways(greeter: Greeter) -> None:
    sent = bytes(range(256)) * 4096
    with (
        Relays(greeter.port) as relays,
        socket.create_connection(("127.0.0.1", relays.port_of("127.77.0.5")), 5.0) as connection,
    ):
        stream = connection.makefile("rwb")
        stream.readline()
        sender = threading.Thread(target=lambda: (stream.write(sent), stream.flush()), daemon=True)
        sender.start()
        assert stream.read(len(sent)) == sent
        sender.join(5.0)


def test_when_the_server_is_gone_the_instance_sees_the_end(greeter: Greeter) -> None:
    with Relays(greeter.port) as relays:
        port = relays.port_of("127.77.0.5")
        greeter.close()
        with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
            assert connection.recv(1) == b""


def test_closing_ends_open_connections(greeter: Greeter) -> None:
    relays = Relays(greeter.port)
    with socket.create_connection(("127.0.0.1", relays.port_of("127.77.0.5")), 5.0) as connection:
        assert connection.recv(11).startswith(b"127.77.0.5")
        relays.close()
        connection.settimeout(5.0)
        assert connection.recv(1) == b""
    relays.close()


def test_a_port_that_a_connection_of_the_same_instance_has_is_not_taken_for_another(
    greeter: Greeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bind(2) gives it (SO_REUSEADDR), connect(2) does not."""
    monkeypatch.setattr("labstore.demo.relay._RESERVED", range(1021, 1024))
    with Relays(greeter.port) as relays, contextlib.ExitStack() as open_ones:
        for _ in range(6):
            connection = socket.create_connection(("127.0.0.1", relays.port_of("127.77.0.7")), HANGS)
            open_ones.enter_context(connection)
            assert connection.makefile().readline().strip() == "127.77.0.7"
