"""/proc/fs/nfsd/clients/N/{info,states} (Linux 5.3 and later): YAML by intention, read here as the lines they are.

Names and owners are bytes that the client chose; the kernel escapes them (`\\x0a`, `\\"`), and escaped they stay.
Names of open files it does not escape (fs/nfsd/nfs4state.c, nfs4_show_fname): a line may be torn in two by one, or
carry what looks like more fields, behind those that are the kernel's own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from labstore.model.nfsd import ClientState, ClientStatus, FileId, NfsClient, StateKind


class BadClient(ValueError):
    """A file that is not of the kernel's form."""


_PAIR = re.compile(r"^([A-Za-z][A-Za-z ]*): ?(.*)$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_STATE = re.compile(r"^- 0x[0-9a-f]+: \{ type: (\w+)(?:, (.*?))?(?: \})?$")
_FIELD = re.compile(r'(\w+): ("(?:[^"\\]|\\.)*"|[^,\s]+)')
_ADDRESS = re.compile(r"^\[?([^\]]+?)\]?:(\d+)$")


def client(info: str, states: str = "") -> NfsClient:
    """One client from its two files. Raises BadClient."""
    values = {found[1]: found[2] for line in info.splitlines() if (found := _PAIR.match(line))}
    try:
        address, port = _address(_unquoted(values["address"]))
        return NfsClient(
            id=values["clientid"],
            name=_unquoted(values["name"]),
            address=address,
            port=port,
            status=ClientStatus(values["status"]),
            minor_version=int(values["minor version"]),
            renewed=int(values["seconds from last renew"]) if "seconds from last renew" in values else None,
            implementation=_unquoted(values.get("Implementation name", '""')),
            callback=values.get("callback state", ""),
            states=tuple(_states(states)),
        )
    except KeyError as error:
        raise BadClient(f"no {error} in the client's info: {info[:200]!r}") from None
    except ValueError as error:
        raise BadClient(f"{error}: {info[:200]!r}") from None


def _states(text: str) -> Iterator[ClientState]:
    """What can be read of it; what the name of a file made of a line stops nobody."""
    for line in text.split("\n"):
        with contextlib.suppress(BadClient):
            yield state(line)


def state(line: str) -> ClientState:
    """One line of `states`. A state whose file is gone has no superblock. Raises BadClient."""
    found = _STATE.match(line)
    if found is None:
        raise BadClient(f"not a line of states: {line[:200]!r}")
    values = dict[str, str]()
    for key, value in _FIELD.findall(found[2] or ""):
        values.setdefault(key, _unquoted(value))
    try:
        return ClientState(
            kind=StateKind(found[1]),
            file=_file(values["superblock"]) if "superblock" in values else None,
            access=values.get("access", ""),
            deny=values.get("deny", ""),
            owner=values.get("owner", ""),
            filename=values.get("filename", ""),
        )
    except ValueError as error:
        raise BadClient(f"{error}: {line[:200]!r}") from None


def _file(superblock: str) -> FileId:
    major, minor, inode = superblock.split(":")
    return FileId((int(major, 16), int(minor, 16)), int(inode))


def _unquoted(text: str) -> str:
    found = _QUOTED.fullmatch(text)
    return found[1] if found else text


def _address(text: str) -> tuple[str, int]:
    found = _ADDRESS.match(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is not an address with a port")
    return found[1].removeprefix("::ffff:"), int(found[2])
