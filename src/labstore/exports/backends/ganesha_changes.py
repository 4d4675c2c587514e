"""How to get NFS-Ganesha from what it serves to what it shall serve, takings-away first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from labstore.formats.ganesha_conf import Numbered
from labstore.formats.ganesha_dbus import WORLD, LiveExport, Terms
from labstore.model.address import in_order
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ExportPath


@dataclass(frozen=True)
class Changes:
    """In this order: exports that go (by id, the deepest paths first, since an export that has others below it cannot
    go), exports that lose something, exports that gain something, new ones."""

    remove: tuple[int, ...] = ()
    narrow: tuple[Numbered, ...] = ()
    widen: tuple[Numbered, ...] = ()
    add: tuple[Numbered, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.remove or self.narrow or self.widen or self.add)


def changes(
    live: Mapping[ExportPath, LiveExport],
    table: ExportTable,
    ids: Mapping[ExportPath, int],
    servable: Callable[[ExportPath], bool],
) -> Changes:
    """From `live` (the exports that are ours, by their path) to `table`. A path that is not `servable` yet (its
    directory is not there) is left for later."""
    gone = {path for path, export in live.items() if not _stays(export, table.by_path.get(path), ids)}
    gone |= {path for path in live if _below(path, gone)}
    changed = [
        (live[export.path], Numbered(ids[export.path], export))
        for export in table
        if export.path in live and export.path not in gone and not live[export.path].serves(export)
    ]
    return Changes(
        remove=tuple(live[path].id for path in sorted(gone, reverse=True)),
        narrow=tuple(_narrowed(old, new) for old, new in changed if _loses(old, new.export)),
        widen=tuple(new for old, new in changed if not _loses(old, new.export) or _gains(old, new.export)),
        add=tuple(
            Numbered(ids[export.path], export)
            for export in table
            if (export.path not in live or export.path in gone) and servable(export.path)
        ),
    )


def differing(
    live: Mapping[ExportPath, LiveExport], table: ExportTable, servable: Callable[[ExportPath], bool]
) -> tuple[ExportPath, ...]:
    """The paths at which the server answers otherwise than `table` says."""
    wrong = {export.path for export in table if export.path in live and not live[export.path].serves(export)}
    absent = {export.path for export in table if export.path not in live and servable(export.path)}
    return tuple(sorted(wrong | absent | (live.keys() - table.by_path.keys())))


def _stays(live: LiveExport, wanted: Export | None, ids: Mapping[ExportPath, int]) -> bool:
    return wanted is not None and live.at(wanted) and live.id == ids[wanted.path]


def _below(path: ExportPath, others: Collection[ExportPath]) -> bool:
    """Whether one of `others` is a parent of this path."""
    parts = path.split("/")
    return any("/".join(parts[:depth]) in others for depth in range(2, len(parts)))


def _names(export: Export) -> frozenset[str]:
    return frozenset({WORLD} if export.world else export.clients)


def _loses(live: LiveExport, wanted: Export) -> bool:
    """Whether somebody who is served now will not be, or not as now."""
    before = {client.name for client in live.clients}
    same_terms = {client.terms for client in live.clients} <= {Terms.of(wanted.options)}
    return not before <= _names(wanted) or not same_terms


def _gains(live: LiveExport, wanted: Export) -> bool:
    return not _names(wanted) <= {client.name for client in live.clients}


def _narrowed(live: LiveExport, wanted: Numbered) -> Numbered:
    """The export as wanted, but only for those who are served already."""
    before = {client.name for client in live.clients}
    kept = in_order(tuple(client for client in wanted.export.clients if client in before))
    return replace(wanted, export=replace(wanted.export, clients=kept, world=wanted.export.world and WORLD in before))


def batches(exports: Iterable[Numbered], most: int, clients: int) -> Iterable[list[Numbered]]:
    """Lists of at most `most` exports and about `clients` clients: the server takes a file in time that grows with the
    square of its words."""
    batch: list[Numbered] = []
    weight = 0
    for each in exports:
        if batch and (len(batch) == most or weight + len(each.export.clients) > clients):
            yield batch
            batch, weight = [], 0
        batch.append(each)
        weight += len(each.export.clients)
    if batch:
        yield batch
