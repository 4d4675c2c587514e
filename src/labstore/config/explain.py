"""Every setting of a site with its value, where the value comes from, its unit and its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from labstore.config.load import Loaded
from labstore.config.schema import SiteFile
from labstore.config.settings import section_at, setting_at, written
from labstore.formats.mounts_file import MountsFile
from labstore.formats.strict_yaml import Document
from labstore.reports.in_file import Origin

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting: `origin` is `file:line`, or `default`."""

    setting: str
    value: str
    origin: str
    unit: str
    meaning: str


def explained(loaded: Loaded, setting: str | None = None) -> tuple[Explained, ...]:
    """All settings, or the one of this name (`exports.poll`) and those below it (`clusters.primary`)."""
    found: dict[str, Explained] = {}
    for row in _section(loaded.document, SiteFile, loaded.document.value, ()):
        found[row.setting] = row
    for mounts in loaded.mounts:
        for row in _mounted(mounts):
            if row.setting not in found or found[row.setting].origin == DEFAULT:
                found[row.setting] = row  # what the site file writes itself wins
    return tuple(row for row in found.values() if setting is None or _below(row.setting, setting))


def _below(name: str, above: str) -> bool:
    return name == above or name.startswith((f"{above}.", f"{above}["))


def _section(
    document: Document, section: type[BaseModel], value: dict[str, Any], path: tuple[str, ...]
) -> Iterator[Explained]:
    external = value.get("external") is True
    for name in section.model_fields:
        given = name in value
        if not given and (external or getattr(section, "written_only", False)):
            continue
        yield from _value(document, (*path, name), value.get(name), given)


def _value(document: Document, path: tuple[str, ...], value: Any, given: bool) -> Iterator[Explained]:
    """A setting, or all that stand below it. What is a map without a row of its own is a map by name."""
    section = section_at(path)
    if section is not None and (value is None or isinstance(value, dict)):
        yield from _section(document, section, value or {}, path)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _value(document, (*path, name), each, True)
    else:
        yield _row(document, path, value, given)


def _row(document: Document, path: tuple[str, ...], value: Any, given: bool) -> Explained:
    setting = setting_at(path) or setting_at(path[:-1])
    default = (setting.default if setting else None) or ""
    return Explained(
        setting=".".join(path),
        value=written(value) if given else default,
        origin=str(document.origin(path)) if given else DEFAULT,
        unit=setting.unit if setting else "",
        meaning=setting.meaning if setting else "",
    )


def _mounted(mounts: MountsFile) -> Iterator[Explained]:
    """What a mounts file says, in the site file's words."""
    for project in mounts.projects:
        base = f"projects.{project.name}"
        origin = Origin(mounts.name, project.place.line)
        yield Explained(f"{base}.gid", str(project.gid), str(origin), "", _meaning("projects", project.name, "gid"))
        for mount in project.mounts:
            value = f"{mount.remote.host}:{mount.remote.path}" if mount.remote else "true"
            origin = Origin(mounts.name, mount.place.line)
            meaning = _meaning("projects", project.name, "shares")
            yield Explained(f"{base}.shares.{mount.share}", value, str(origin), "", meaning)
    for line in mounts.public:
        clients = "*" if line.world else " ".join(line.clients)
        origin = Origin(mounts.name, line.place.line)
        yield Explained(f"public.{line.name}", f"{line.path} {clients}", str(origin), "", _meaning("public"))


def _meaning(*path: str) -> str:
    setting = setting_at(path)
    return setting.meaning if setting else ""
