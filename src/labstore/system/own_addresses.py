"""The addresses of this machine's interfaces, from libc: asked for by commands that must be quick, where loading a
netlink library would take longer than all the rest."""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Any

from labstore.model.address import Client


class _Sockaddr(ctypes.Structure):
    """As much of a sockaddr_in or sockaddr_in6 as holds the address."""

    _fields_ = (("family", ctypes.c_uint16), ("port", ctypes.c_uint16), ("rest", ctypes.c_ubyte * 24))


class _Ifaddrs(ctypes.Structure):
    """getifaddrs(3)."""


_Ifaddrs._fields_ = (
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_Sockaddr)),
)
_libc = ctypes.CDLL(None, use_errno=True)


def own_addresses() -> frozenset[Client]:
    """Every address of every interface. Raises OSError."""
    first: Any = ctypes.POINTER(_Ifaddrs)()
    if _libc.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        found, at = set[Client](), first
        while at:
            if at.contents.address:
                text = _text(at.contents.address.contents)
                if text is not None:
                    found.add(Client(text))
            at = at.contents.next
        return frozenset(found)
    finally:
        _libc.freeifaddrs(first)


def _text(address: _Sockaddr) -> str | None:
    if address.family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, bytes(address.rest[:4]))
    if address.family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, bytes(address.rest[4:20]))
    return None
