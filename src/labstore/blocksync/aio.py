"""Many reads at once without a thread for each: io_submit(2), which for a file that was opened with O_DIRECT returns
before anything was read."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_CALLS = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "submit": 2, "getevents": 4},
}
"""The numbers of the calls (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
_POINTER = 8
"""Bytes of an address; a program of 4 on the same machine calls by other numbers."""
_REQUEST = struct.Struct("<QIIHhIQQqQII")
"""struct iocb of linux/aio_abi.h where the low byte comes first: data, key, flags, opcode, priority, file, buffer,
length, offset, and three that are 0."""
_EVENT = struct.Struct("<QQqq")
"""struct io_event: the data of the request, its address, what came of it (bytes, or an error below 0), and a 0."""
_PREAD = 0
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Request:
    """Read `length` bytes from `offset` on to `address`. For O_DIRECT all three are multiples of a sector."""

    address: int
    length: int
    offset: int


class Queue:
    """Room for `depth` reads at a time, of which one lot may be under way. Raises OSError where the kernel has none
    (fs.aio-max-nr, a container that forbids it, a machine whose calls have other numbers). For one thread at a time.

    What is read into must outlive `wait`, or `close`.
    """

    def __init__(self, depth: int) -> None:
        calls = _CALLS.get(platform.machine())
        if calls is None or ctypes.sizeof(ctypes.c_void_p) != _POINTER:
            raise OSError(errno.ENOSYS, "io_submit is not known here")
        self._calls, self._depth, self._under_way = calls, depth, 0
        self._context: ctypes.c_ulong | None = ctypes.c_ulong(0)
        self._call("setup", depth, ctypes.byref(self._context))
        self._requests = ctypes.create_string_buffer(depth * _REQUEST.size)
        at = ctypes.addressof(self._requests)
        self._pointers = (ctypes.c_void_p * depth)(*(at + each * _REQUEST.size for each in range(depth)))
        self._events = ctypes.create_string_buffer(depth * _EVENT.size)

    def _call(self, name: str, *arguments: object) -> int:
        """Raises OSError."""
        done = int(_LIBC.syscall(self._calls[name], *arguments))
        if done < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return done

    def begin(self, descriptor: int, requests: Sequence[Request]) -> None:
        """Begin these, at most `depth`; those that the kernel does not take are left to whoever asks what came."""
        assert not self._under_way
        assert len(requests) <= self._depth
        for number, each in enumerate(requests):
            fields = (number, 0, 0, _PREAD, 0, descriptor, each.address, each.length, each.offset, 0, 0, 0)
            _REQUEST.pack_into(self._requests, number * _REQUEST.size, *fields)
        while self._context is not None and self._under_way < len(requests):
            rest = ctypes.byref(self._pointers, self._under_way * ctypes.sizeof(ctypes.c_void_p))
            try:
                self._under_way += self._call("submit", self._context, len(requests) - self._under_way, rest)
            except OSError as error:
                if error.errno != errno.EINTR:
                    return

    def wait(self) -> dict[int, int]:
        """How many bytes each of what was begun has read, by its number; one that failed, or was not taken, is not
        among them. Where nobody can ask what came, nothing did, and nothing will be begun: the queue is closed."""
        came: dict[int, int] = {}
        while self._under_way:
            try:
                count = self._call("getevents", self._context, 1, self._under_way, self._events, None)
            except OSError as error:
                if error.errno != errno.EINTR:
                    self.close()
                    return {}
                continue
            for at in range(count):
                number, _, result, _ = _EVENT.unpack_from(self._events, at * _EVENT.size)
                if result >= 0:
                    came[number] = result
            self._under_way -= count
        return came

    def close(self) -> None:
        """Returns when nothing is under way any more, and not before the kernel has put the queue away."""
        if self._context is not None:
            self._call("destroy", self._context)
            self._context, self._under_way = None, 0
