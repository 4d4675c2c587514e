"""Real homes on a real file system, and their writer."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from labstore.model.accounts import AccountKind
from labstore.ports.credential_writer import FileOwner
from labstore.system import beneath
from labstore.system.clock import SystemClock
from labstore.system.credential_files import CredentialFiles
from tests.support import mariadb
from tests.support.dbusers import Homes, flag


@dataclass
class HomesLab:
    homes: Homes
    writer: CredentialFiles

    def make_home(self, owner: FileOwner) -> None:
        name = owner.name.partition(".")[2] if owner.kind is AccountKind.TOOL else owner.name
        self.homes.make(owner.kind, name, owner.uid)

    def file(self, owner: FileOwner) -> Path:
        name = owner.name.partition(".")[2] if owner.kind is AccountKind.TOOL else owner.name
        return self.homes.file(owner.kind, name)

    def unprotect(self, owner: FileOwner) -> None:
        flag(self.file(owner), False)

    def read(self, owner: FileOwner) -> str:
        return as_user(owner.uid, lambda: self.file(owner).read_text()).split("password = ")[1].strip()

    def lose(self) -> None:
        self.homes.clear()


def as_user(uid: int, act: Callable[[], str]) -> str:
    """What an unprivileged process of this uid gets."""

    def become() -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    return in_a_child(become, act)


def with_descriptors(left: int, act: Callable[[], str]) -> str:
    """What a process gets that can open so many files at a time."""

    def become() -> None:
        free = [os.dup(2) for _ in range(left)]
        for each in free:
            os.close(each)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, most))

    return in_a_child(become, act)


def without_openat2(act: Callable[[], str]) -> str:
    """What a process gets whose system calls are filtered as systemd's RestrictSUIDSGID= does it: openat2(2) answers
    ENOSYS."""
    return in_a_child(_forbid_openat2, act)


def _forbid_openat2() -> None:
    """A filter as in seccomp(2): load the number of the call, compare it, answer ENOSYS or let it through."""
    load, equal, answer = 0x20, 0x15, 0x06
    steps = ((load, 0, 0, 0), (equal, 0, 1, 437), (answer, 0, 0, 0x00050000 | errno.ENOSYS), (answer, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    for words in ((no_new_privileges, 1, 0, 0, 0), (set_seccomp, mode_filter, program, 0, 0)):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def in_a_child(first: Callable[[], None], act: Callable[[], str]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            first()
            os.write(writer, act().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return said


@contextmanager
def homes_lab() -> Iterator[HomesLab]:
    if os.geteuid() != 0:
        pytest.skip("homes that belong to others need root")
    with mariadb.scratch("homes") as root:
        homes = Homes(root / "homes")
        try:
            yield HomesLab(homes, CredentialFiles(homes.settings(), SystemClock()))
        finally:
            homes.clear()


def beneath_flag(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return beneath.is_immutable(descriptor)
    finally:
        os.close(descriptor)
