"""A D-Bus client that never waits without a deadline: jeepney's messages over a socket of our own.

(jeepney's own connection waits for the bus's first answer for ever, and sends one call at a time.)
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jeepney import (  # type: ignore[import-untyped]
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_method_call,
)
from jeepney.auth import BEGIN, AuthenticationError, Authenticator  # type: ignore[import-untyped]
from jeepney.low_level import Header  # type: ignore[import-untyped]

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
WINDOW = 64
"""Calls under way at once: enough to hide the round trip, few enough that no buffer fills up."""
LARGEST = 1 << 27
"""Bytes of a message (D-Bus specification)."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came: `packed` is its body on the wire, for telling cheaply that it is the same as last time."""

    header: Any
    packed: bytes
    message: bytes

    def body(self) -> Any:
        """What was answered. Raises CallFailed where that is an error."""
        body = Message.from_buffer(self.message).body
        if self.header.message_type is MessageType.error:
            name = str(self.header.fields.get(HeaderFields.error_name))
            raise CallFailed(name, " ".join(str(part) for part in body).strip())
        return body


class Bus:
    """One connection; `deadline` in seconds holds for connecting and for each call or batch of calls.

    Raises BusFailed; after that the connection is of no use any more.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._path, self._deadline = path, deadline
        self._serials = itertools.count(1)
        self._received = b""
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
        return self.call_all(to, method, signature, [body])[0].body()

    def call_all(
        self, to: DBusAddress, method: str, signature: str | None, bodies: Sequence[tuple[Any, ...]]
    ) -> list[Answer]:
        """The answers to calls that differ in their arguments only, in order. Raises BusFailed."""
        until = time.monotonic() + self._deadline
        answers: list[Answer] = []
        for start in range(0, len(bodies), WINDOW):
            calls = [new_method_call(to, method, signature, body) for body in bodies[start : start + WINDOW]]
            answers += self._exchange(calls, until)
        return answers

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _exchange(self, calls: Sequence[Message], until: float) -> list[Answer]:
        """Send them all, gather the answer to each."""
        serials = list(itertools.islice(self._serials, len(calls)))
        answers: dict[int, Answer] = {}
        with self._in_time(until):
            self._socket.sendall(b"".join(call.serialise(serial) for call, serial in zip(calls, serials, strict=True)))
        while len(answers) < len(serials):
            answer = self._next(until)
            answered = answer.header.fields.get(HeaderFields.reply_serial)
            if answered in serials:
                answers[answered] = answer
        return [answers[serial] for serial in serials]

    def _next(self, until: float) -> Answer:
        """The next message: 16 fixed bytes with the sizes of what follows, fields padded to 8, the body."""
        self._fill(16, until)
        order = {b"l": "little", b"B": "big"}.get(self._received[:1])
        if order is None:
            raise BusFailed(self._path, "does not speak D-Bus")
        body, fields = (int.from_bytes(self._received[at : at + 4], order) for at in (4, 12))  # type: ignore[arg-type]
        size = 16 + -(-fields // 8) * 8 + body
        if size > LARGEST:
            raise BusFailed(self._path, f"a message of {size} bytes")
        self._fill(size, until)
        message, self._received = self._received[:size], self._received[size:]
        return Answer(Header.from_buffer(message)[0], message[size - body :], message)

    def _fill(self, size: int, until: float) -> None:
        """Receive until there are `size` bytes."""
        while len(self._received) < size:
            with self._in_time(until):
                data = self._socket.recv(1 << 18)
            if not data:
                raise BusFailed(self._path, "hung up")
            self._received += data

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
