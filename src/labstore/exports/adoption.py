"""Taking over what another program wrote into exports.d, so that nobody loses access by it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from labstore.exports.grants import Grant, GrantTable
from labstore.formats.exports5 import option_text
from labstore.model.address import Client
from labstore.model.exports import Export, ExportTable, Fsid, Owner
from labstore.model.names import ExportPath
from labstore.model.site import WantedExport

SUFFIX = ".exports"


@dataclass(frozen=True)
class Adoption:
    """`taken`: what the files of these owners export; `left`: files that stay as they are, each with the reason.
    `table` is everything that is served afterwards, `grants` where each client comes from. `notes` say what the site
    file wants otherwise than the files: the cycle after this will want to change it."""

    taken: Mapping[Owner, tuple[Export, ...]]
    left: Mapping[str, str]
    table: ExportTable
    grants: GrantTable
    notes: tuple[str, ...]

    @property
    def clients(self) -> int:
        return sum(len(export.clients) for exports in self.taken.values() for export in exports)


def adoption(
    files: Mapping[str, tuple[Export, ...] | str],
    stored: ExportTable,
    granted: GrantTable,
    wanted: Iterable[WantedExport],
    at: datetime,
) -> Adoption:
    """What can be taken over of `files` (by name: what each exports, or why it cannot be read strictly).

    Only files of owners that the site declares are taken: another one would next be removed as not declared.
    """
    by_path = {each.path: each for each in wanted}
    declared = {each.owner for each in by_path.values()}
    exported: dict[ExportPath, Owner] = {export.path: export.owner for export in stored}
    taken: dict[Owner, tuple[Export, ...]] = {}
    left: dict[str, str] = {}
    for name, found in sorted(files.items()):
        reason = found if isinstance(found, str) else _against(name, found, declared, exported)
        if reason:
            left[name] = reason
        elif not isinstance(found, str):
            taken[Owner(name.removesuffix(SUFFIX))] = found
            exported |= {export.path: export.owner for export in found}
    adopted = {export.path: export for exports in taken.values() for export in exports}
    table = stored.replacing(adopted)
    notes = tuple(note for export in adopted.values() for note in _differences(export, by_path.get(export.path)))
    return Adoption(taken, left, table, _grants(table, granted, at), notes)


def _against(
    name: str, exports: tuple[Export, ...], declared: set[Owner], exported: Mapping[ExportPath, Owner]
) -> str | None:
    """Why a file is not taken over, None where it is."""
    owner = name.removesuffix(SUFFIX)
    if owner not in declared:
        return f"the site file declares nothing for {owner}"
    if not exports:
        return "it exports nothing; remove it"
    for export in exports:
        if exported.get(export.path, owner) != owner:
            return f"{export.path} is exported by {exported[export.path]}{SUFFIX} too"
    return None


def _differences(export: Export, wanted: WantedExport | None) -> Iterable[str]:
    if wanted is None:
        yield f"{export.path} is declared nowhere: the next plan will want to remove it, with all its clients"
        return
    change = option_change(option_text(export.options), option_text(wanted.options))
    if change:
        yield f"{export.path}: {change}"
    if export.options.fsid != wanted.options.fsid:
        advice = "`fsid: gid` keeps the original's" if _of_gid(export, wanted) else "plan a remount"
        yield f"{export.path}: with another fsid, mounted clients get stale file handles; {advice}"


def option_change(before: str, after: str) -> str:
    """How two lists of options differ, in words: `loses async, no_root_squash; gains sync, root_squash`; empty where
    they do not."""
    old, new = before.split(","), after.split(",")
    lost, gained = [word for word in old if word not in new], [word for word in new if word not in old]
    parts = [f"loses {', '.join(lost)}"] if lost else []
    parts += [f"gains {', '.join(gained)}"] if gained else []
    return "; ".join(parts)


def _of_gid(export: Export, wanted: WantedExport) -> bool:
    try:
        return wanted.gid is not None and Fsid.of_gid(wanted.gid) == export.options.fsid
    except ValueError:
        return False


def _grants(table: ExportTable, granted: GrantTable, at: datetime) -> GrantTable:
    grants: dict[ExportPath, dict[Client, Grant]] = {}
    for export in table:
        old = granted.grants.get(export.path, {})
        grants[export.path] = {c: old.get(c) or Grant(export.path, c, "adopted", at) for c in export.clients}
    return GrantTable({export.path: replace(export, clients=()) for export in table}, grants)
