"""The other end of a D-Bus connection, in a thread, saying what a test wants it to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return

Reply = Callable[[Message], Message | bytes | None]
"""What a call is answered with: a message, raw bytes, or nothing at all."""


def hello(call: Message) -> Message:
    return new_method_return(call, "s", (":1.1",))


def error(call: Message, name: str, said: str) -> Message:
    return new_error(call, name, "s", (said,))


class Peer:
    """Answers `Hello` and then what `reply` gives. `authenticates=False`: it accepts and is silent."""

    def __init__(self, path: Path, reply: Reply = lambda call: None, authenticates: bool = True) -> None:
        self._reply, self._authenticates = reply, authenticates
        self.calls: list[Message] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5.0)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection, contextlib.suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(10.0)
        if not self._authenticates:
            connection.recv(1)
            connection.recv(1 << 16)
            connection.recv(1 << 16)
            return
        rest = self._admit(connection)
        parser = Parser()
        parser.add_data(rest)
        for serial in range(1, 1 << 30):
            answer = self._answer(self._next(connection, parser))
            if answer is not None:
                connection.sendall(answer if isinstance(answer, bytes) else answer.serialise(serial))

    def _admit(self, connection: socket.socket) -> bytes:
        received = b""
        answered = False
        while b"BEGIN\r\n" not in received:
            received += connection.recv(1024)
            if not answered and b"AUTH" in received and received.endswith(b"\r\n"):
                connection.sendall(b"OK 1234deadbeef\r\n")
                answered = True
        return received.partition(b"BEGIN\r\n")[2]

    def _next(self, connection: socket.socket, parser: Parser) -> Message:
        while (message := parser.get_next_message()) is None:
            data = connection.recv(1 << 16)
            if not data:
                raise OSError("gone")
            parser.add_data(data)
        return message

    def _answer(self, call: Message) -> Message | bytes | None:
        assert call.header.message_type is MessageType.method_call
        if call.header.fields[HeaderFields.member] == "Hello":
            return hello(call)
        self.calls.append(call)
        return self._reply(call)


@contextlib.contextmanager
def peer(path: Path, reply: Reply = lambda call: None, authenticates: bool = True) -> Iterator[Peer]:
    answering = Peer(path, reply, authenticates)
    try:
        yield answering
    finally:
        answering.close()
