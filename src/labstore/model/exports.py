"""Exports in the terms of exports(5): a path, its options, its clients, and the whole table of them."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Self

from labstore.model.address import Client, in_order
from labstore.model.names import ExportPath, Name, shown

FSID_NAMESPACE = uuid.UUID("b4f0a5c6-5a40-5d0e-9f7e-6c1f6a1f7b11")

NOBODY_ID = 65534
"""Who squashed callers become where nobody says otherwise (exports(5), anonuid); written or not, it is the same."""


class Access(StrEnum):
    RW = "rw"
    RO = "ro"


class Squash(StrEnum):
    """Whose identity a client's root (or everybody) gets. ROOT is the safe default (upstream #15)."""

    ROOT = "root"
    ALL = "all"
    NONE = "none"


class Security(StrEnum):
    """RPC security flavours, exports(5) `sec=`."""

    SYS = "sys"
    KRB5 = "krb5"
    KRB5I = "krb5i"
    KRB5P = "krb5p"


class Owner(Name):
    """Whose file an export stands in: a project's name, or `public_<name>`. The file is `<owner>.exports`."""

    __slots__ = ()
    what = "export owner"


class Fsid(str):
    """A file system id as exports(5) takes it: a UUID, or 1..2^32-1. `0` (the pseudo-root) is not for shares.

    The same on both nodes of a cluster, or clients get stale handles after a failover (upstream #32).
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 32:
            return super().__new__(cls, str(int(text)))
        try:
            return super().__new__(cls, str(uuid.UUID(text)))
        except ValueError:
            raise ValueError(f"{shown(text)} is not an fsid (a UUID or a number from 1 to 4294967295)") from None

    @classmethod
    def of_path(cls, cluster: str, path: ExportPath) -> Self:
        """An id made from the cluster's name and the path: no node, no mount order, no gid in it."""
        return cls(str(uuid.uuid5(FSID_NAMESPACE, f"{cluster}:{path}")))

    @classmethod
    def of_gid(cls, gid: int) -> Self:
        """The original's form: 17 zeros, the five-digit gid, 10 zeros (upstream 1.2), for shares that had it."""
        if not 10000 <= gid <= 99999:
            raise ValueError(f"gid {gid} has not the five digits that the original's fsid needs; use fsid: path")
        return cls("0" * 17 + str(gid) + "0" * 10)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of one export; the defaults are the safe ones.

    `sync`: a reply means stable storage. `subtree_check` is off as everywhere (upstream #14): isolation between
    projects rests on the clients, and on one volume per project where it must hold against a hostile root.
    `insecure`: client ports above 1023 are taken (clients behind NAT). `mountpoint`: the path that must be mounted
    for the export to be served at all, so that an empty directory is never exported (upstream #13).
    `anonuid`/`anongid`: who squashed callers become, None for the server's nobody.
    """

    access: Access = Access.RW
    squash: Squash = Squash.ROOT
    sync: bool = True
    security: tuple[Security, ...] = (Security.SYS,)
    subtree_check: bool = False
    insecure: bool = False
    crossmnt: bool = False
    nohide: bool = False
    fsid: Fsid | None = None
    mountpoint: ExportPath | None = None
    anonuid: int | None = None
    anongid: int | None = None

    def __post_init__(self) -> None:
        if not self.security:
            raise ValueError("an export needs at least one security flavour")
        for what, number in (("anonuid", self.anonuid), ("anongid", self.anongid)):
            if number is not None and not 0 <= number < 1 << 32:
                raise ValueError(f"{what} {number} is not a numeric id")
            if number == NOBODY_ID:
                object.__setattr__(self, what, None)


@dataclass(frozen=True, slots=True)
class Export:
    """One path, offered to these clients under these options. No clients means nobody; such an export is not written.

    `world` is the explicit exception: a public share for every address (`*`), only ever from a declaration.
    """

    owner: Owner
    path: ExportPath
    options: ExportOptions = ExportOptions()
    clients: tuple[Client, ...] = ()
    world: bool = False

    @classmethod
    def of(
        cls,
        owner: str,
        path: str,
        clients: Iterable[str] = (),
        options: ExportOptions | None = None,
        world: bool = False,
    ) -> Self:
        """An export with its clients parsed, in numeric order and each once. Raises ValueError."""
        canonical = in_order({Client(client) for client in clients})
        return cls(Owner(owner), ExportPath(path), options or ExportOptions(), canonical, world)

    @property
    def nobody(self) -> bool:
        return not self.clients and not self.world


@dataclass(frozen=True)
class ExportTable:
    """All exports that labstore owns on one server: at most one per path, in order of the path."""

    exports: tuple[Export, ...] = ()
    by_path: Mapping[ExportPath, Export] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.exports, key=lambda export: export.path))
        by_path = {export.path: export for export in ordered}
        if len(by_path) != len(ordered):
            twice = next(a.path for a, b in itertools.pairwise(ordered) if a.path == b.path)
            raise ValueError(f"{twice} is exported twice")
        object.__setattr__(self, "exports", ordered)
        object.__setattr__(self, "by_path", by_path)

    def __iter__(self) -> Iterator[Export]:
        return iter(self.exports)

    def __len__(self) -> int:
        return len(self.exports)

    def replacing(self, changes: Mapping[ExportPath, Export | None]) -> ExportTable:
        """The table with these paths set (or, for None, taken out); an export to nobody is taken out too."""
        kept = [export for export in self.exports if export.path not in changes]
        put = [export for export in changes.values() if export is not None and not export.nobody]
        return ExportTable(tuple(kept + put))

    @cached_property
    def by_owner(self) -> Mapping[Owner, tuple[Export, ...]]:
        grouped: dict[Owner, list[Export]] = {}
        for export in self.exports:
            grouped.setdefault(export.owner, []).append(export)
        return {owner: tuple(exports) for owner, exports in sorted(grouped.items())}

    @property
    def clients(self) -> int:
        """How many (path, client) pairs the table grants."""
        return sum(len(export.clients) for export in self.exports)

    @cached_property
    def digest(self) -> str:
        """A short name of the content: equal tables have equal digests on every node."""
        content = hashlib.blake2b(digest_size=12)
        for export in self.exports:
            content.update(repr((export.owner, export.path, export.options, export.clients, export.world)).encode())
        return content.hexdigest()
