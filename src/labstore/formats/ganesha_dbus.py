"""What NFS-Ganesha answers over D-Bus (org.ganesha.nfsd.exportmgr, 4.3), to the model.

Readable are, per export, its id, path, pseudo path and the whole list of clients with what each may do. Not readable
are the permissions of the EXPORT level and of EXPORT_DEFAULTS, and Filesystem_Id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from labstore.model.address import Client
from labstore.model.exports import NOBODY_ID, Access, Export, ExportOptions, Security, Squash

WORLD = "*"

# the bits of export_perms (include/nfs_exports.h)
_SQUASH = {0x0: Squash.NONE, 0x2: Squash.ROOT, 0x4: Squash.ALL}
_SQUASH_BITS = 0x7
_ANONYMOUS_BITS = 0x18
_ACCESS = {0x1E0: Access.RW, 0x0A0: Access.RO}
_ACCESS_BITS = 0x1E0
_PRIVILEGED_PORT = 0x200
_SECURITY = {0x2000: Security.SYS, 0x4000: Security.KRB5, 0x8000: Security.KRB5I, 0x10000: Security.KRB5P}
_SECURITY_BITS = 0x1F000
_SAID = _SQUASH_BITS | _ANONYMOUS_BITS | _ACCESS_BITS | _PRIVILEGED_PORT | _SECURITY_BITS


class BadReply(ValueError):
    """A reply that has not the shape of 4.3's."""


class NotAllTaken(ValueError):
    """The server took less than it was handed, or took it with complaints; `said` are its words.

    It reports success all the same: an unknown parameter, a CLIENT it could not parse (the export then has an EMPTY
    list) and a name it could not resolve come as `1 exports updated. Errors found: ...`.
    """

    def __init__(self, said: str) -> None:
        self.said = said
        super().__init__(said)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client may do, as far as the server tells."""

    access: Access
    squash: Squash
    security: frozenset[Security]
    insecure: bool
    anonuid: int
    anongid: int

    @classmethod
    def of(cls, options: ExportOptions) -> Self:
        return cls(
            options.access,
            options.squash,
            frozenset(options.security),
            options.insecure,
            NOBODY_ID if options.anonuid is None else options.anonuid,
            NOBODY_ID if options.anongid is None else options.anongid,
        )


@dataclass(frozen=True, slots=True)
class LiveClient:
    """One entry of the server's list. `name` is canonical where it is an address, else as the server shows it; `terms`
    is None where they are not spelled out in full or are none that labstore writes."""

    name: str
    terms: Terms | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of ShowExports."""

    id: int
    pseudo: str


@dataclass(frozen=True, slots=True)
class LiveExport:
    """One export as the running server has it."""

    id: int
    path: str
    pseudo: str
    clients: tuple[LiveClient, ...]

    def at(self, export: Export) -> bool:
        """Whether it lies where `export` belongs."""
        return self.path == self.pseudo == export.path

    def serves(self, export: Export) -> bool:
        """Whether it is just this export: the place, every client, and what each may do."""
        names = {WORLD} if export.world else set(export.clients)
        return (
            self.at(export)
            and len(self.clients) == len(names)
            and {client.name for client in self.clients} == names
            and {client.terms for client in self.clients} == {Terms.of(export.options)}
        )


def exports_listed(body: Any) -> tuple[Listed, ...]:
    """ShowExports: `(tt) a(qs(...)(tt))`."""
    try:
        _time, exports = body
        return tuple(Listed(int(export[0]), str(export[1])) for export in exports)
    except (TypeError, ValueError, IndexError) as error:
        raise BadReply(f"ShowExports: {error}") from None


def export_shown(body: Any) -> LiveExport:
    """DisplayExport: `q s s s a(siyyiuuuuu)`."""
    try:
        number, path, pseudo, _tag, clients = body
        return LiveExport(int(number), str(path), str(pseudo), tuple(_client(client) for client in clients))
    except (TypeError, ValueError) as error:
        raise BadReply(f"DisplayExport: {error}") from None


def count_taken(body: Any) -> int:
    """How many exports AddExport or UpdateExport took. Raises NotAllTaken for anything but an unreserved success."""
    said = str(body[0]) if body else ""
    match = re.fullmatch(r"([0-9]+) exports (?:added|updated)", said)
    if match is None:
        raise NotAllTaken(" ".join(said.split()))
    return int(match[1])


def _client(struct: tuple[Any, ...]) -> LiveClient:
    name, _version, _address, _mask, _protocol, uid, gid, _expire, bits, said = struct
    return LiveClient(_canonical(name), _terms(uid, gid, bits, said))


def _canonical(name: str) -> str:
    try:
        return Client(name)
    except ValueError:
        return name


@lru_cache(maxsize=4096)
def _terms(uid: int, gid: int, bits: int, said: int) -> Terms | None:
    if said & _SAID != _SAID:
        return None
    squash, access = _SQUASH.get(bits & _SQUASH_BITS), _ACCESS.get(bits & _ACCESS_BITS)
    security = frozenset(flavour for bit, flavour in _SECURITY.items() if bits & bit)
    known = sum(bit for bit in _SECURITY if bits & bit) == bits & _SECURITY_BITS
    if squash is None or access is None or not known:
        return None
    return Terms(access, squash, security, not bits & _PRIVILEGED_PORT, uid, gid)
