"""Real homes on a real file system, and their writer."""

from __future__ import annotations

import os
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
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
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
