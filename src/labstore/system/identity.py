"""Who is at work: the person behind a command, and the user as whom files are written."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path


def node_name() -> str:
    """This machine's host name, as the site file's nodes are compared with."""
    return socket.gethostname()


def person(environ: Mapping[str, str] = os.environ, host: str | None = None) -> str:
    """Who asked for this, for the history: the person behind sudo, or the login, with the host: `alice@labstore1`."""
    name = environ.get("SUDO_USER") or _login() or f"uid {os.getuid()}"
    return f"{_plain(name)}@{host or node_name()}"


def program(name: str, host: str | None = None) -> str:
    """A program of ours as an actor: `labstore-exportd@labstore1`."""
    return f"{name}@{host or node_name()}"


def become_owner_of(directory: Path) -> str | None:
    """As root, become the user to whom `directory` (or the nearest parent that exists) belongs, for good; returns that
    user's name, None where nothing changed.

    A file that root leaves among the daemon's keeps the daemon from working ever after (upstream 1.2, T88579).
    Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    status = next(path.stat() for path in (directory, *directory.parents) if path.exists())
    if status.st_uid == 0:
        return None
    try:
        user = pwd.getpwuid(status.st_uid)
    except KeyError:
        raise OSError(2, f"uid {status.st_uid}, who owns it, has no name here", str(directory)) from None
    os.initgroups(user.pw_name, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    return user.pw_name


def _login() -> str | None:
    try:
        return os.getlogin()
    except OSError:
        pass  # no terminal
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "?" for c in name)[:64]
