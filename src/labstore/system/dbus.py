"""A D-Bus client that never waits without a deadline: jeepney's messages over a socket of our own.

(jeepney's own connection waits for the bus's first answer for ever, and sends one call at a time.)
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jeepney import (  # type: ignore[import-untyped]
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    Parser,
    new_method_call,
)
from jeepney.auth import BEGIN, AuthenticationError, Authenticator  # type: ignore[import-untyped]

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
WINDOW = 64
"""Calls under way at once: enough to hide the round trip, few enough that no buffer fills up."""

_DAEMON = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus")


class BusFailed(Exception):
    """The bus could not be reached, did not answer in time, or hung up; `reason` in words, `late` for the second."""

    def __init__(self, path: Path, reason: str, late: bool = False) -> None:
        self.path, self.reason, self.late = path, reason, late
        super().__init__(f"{path}: {reason}")


class CallFailed(Exception):
    """A call was answered by an error: its D-Bus `name` and what was `said`."""

    def __init__(self, name: str, said: str) -> None:
        self.name, self.said = name, said
        super().__init__(f"{name}: {said}")


class Bus:
    """One connection; `deadline` in seconds holds for connecting and for each call or batch of calls.

    Raises BusFailed; after that the connection is of no use any more.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._path, self._deadline = path, deadline
        self._serials = itertools.count(1)
        self._parser = Parser()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        until = time.monotonic() + deadline
        try:
            with self._in_time(until):
                self._socket.connect(str(path))
                self._authenticate()
            self._exchange([new_method_call(_DAEMON, "Hello")], until)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def has_owner(self, name: str) -> bool:
        """Whether somebody answers to this name."""
        return bool(self.call(_DAEMON, "NameHasOwner", "s", (name,))[0])

    def call(self, to: DBusAddress, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> Any:
        """The body of the answer. Raises CallFailed, BusFailed."""
        return self.call_all(to, method, signature, [body])[0]

    def call_all(
        self, to: DBusAddress, method: str, signature: str | None, bodies: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """The bodies of the answers, in order. Raises CallFailed for the first error, BusFailed."""
        until = time.monotonic() + self._deadline
        answers: list[Any] = []
        for start in range(0, len(bodies), WINDOW):
            calls = [new_method_call(to, method, signature, body) for body in bodies[start : start + WINDOW]]
            answers += [_body(message) for message in self._exchange(calls, until)]
        return answers

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _exchange(self, calls: Sequence[Message], until: float) -> list[Message]:
        """Send them all, gather the answer to each."""
        serials = list(itertools.islice(self._serials, len(calls)))
        answers: dict[int, Message] = {}
        with self._in_time(until):
            self._socket.sendall(b"".join(call.serialise(serial) for call, serial in zip(calls, serials, strict=True)))
        while len(answers) < len(serials):
            message = self._next(until)
            answered = message.header.fields.get(HeaderFields.reply_serial)
            if answered in serials:
                answers[answered] = message
        return [answers[serial] for serial in serials]

    def _next(self, until: float) -> Message:
        while (message := self._parser.get_next_message()) is None:
            with self._in_time(until):
                data = self._socket.recv(1 << 16)
            if not data:
                raise BusFailed(self._path, "hung up")
            self._parser.add_data(data)
        return message

    def _authenticate(self) -> None:
        authenticator = Authenticator()
        for request in authenticator:
            self._socket.sendall(request)
            authenticator.feed(self._socket.recv(1024))
        self._socket.sendall(BEGIN)

    @contextlib.contextmanager
    def _in_time(self, until: float) -> Iterator[None]:
        self._socket.settimeout(max(0.001, until - time.monotonic()))
        try:
            yield
        except TimeoutError:
            raise BusFailed(self._path, f"no answer within {self._deadline:g} s", late=True) from None
        except (OSError, AuthenticationError) as error:
            raise BusFailed(self._path, str(error) or type(error).__name__) from error


def _body(message: Message) -> Any:
    if message.header.message_type is MessageType.error:
        said = " ".join(str(part) for part in message.body).strip()
        raise CallFailed(str(message.header.fields.get(HeaderFields.error_name)), said)
    return message.body
