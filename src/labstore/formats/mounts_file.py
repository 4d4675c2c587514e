"""The original's mounts file (upstream 1.1), in each of the shapes it had.

2020: `volumes_served`, `public` with verbatim export lines, `private` with `project: {gid, mounts: {name: true}}`.
2024: the same without `volumes_served` and with mount values `host:/path`, or the map of projects alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstore.formats import exports5
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.places import Place
from labstore.formats.strict_yaml import DATA_LIMIT, load
from labstore.model.address import Client
from labstore.model.exports import ExportOptions
from labstore.model.names import ExportPath, HostName, ProjectName, ShareName, shown
from labstore.model.site import GID_MAX
from labstore.reports.in_file import FileNotice

MOUNT_NAMES = frozenset(
    {
        "dumps",
        "home",
        "maps",
        "project",
        "scratch",
        "tools-home",
        "tools-project",
        "toolsbeta-home",
        "toolsbeta-project",
    }
)
"""The original's closed vocabulary."""
NEVER_PRIVATE = frozenset({"dumps", "scratch"})
"""Mount names that never made a private export there."""

_TOP = ("private", "public", "volumes_served")
_PROJECT = ("gid", "mounts")


@dataclass(frozen=True, slots=True)
class Remote:
    """`host:/path`: where clients mount from. The host is a name to compare, never one to resolve."""

    host: HostName
    path: ExportPath


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a project. `remote` is None for the value `true`: the name alone says where it is."""

    share: ShareName
    remote: Remote | None
    place: Place


@dataclass(frozen=True, slots=True)
class MountsProject:
    """A project with the mounts it has; those that say `false` are left out."""

    name: ProjectName
    gid: int
    mounts: tuple[Mount, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class PublicLine:
    """A public export, parsed. `pseudo_root` marks the NFSv4 pseudo-root (`fsid=0`), which is no share."""

    name: ShareName
    path: ExportPath
    clients: tuple[Client, ...]
    world: bool
    options: ExportOptions
    pseudo_root: bool
    place: Place


@dataclass(frozen=True, slots=True)
class MountsFile:
    """A whole file. `served` are the mount names of `volumes_served`, None where it does not say."""

    name: str
    projects: tuple[MountsProject, ...]
    public: tuple[PublicLine, ...] = ()
    served: frozenset[ShareName] | None = None
    notices: tuple[FileNotice, ...] = ()


def parse(text: bytes, name: str, limit: int = DATA_LIMIT) -> MountsFile:
    """Raises BadFile with every problem; `name` is what reports call the file, `limit` is in bytes."""
    findings = Findings(load(text, name, limit))
    top = findings.document.value
    parsed = _wrapped_file(findings, top) if _wrapped(top) else MountsFile(name, _projects(findings, (), top))
    findings.raise_problems()
    return parsed


def _wrapped(top: Mapping[str, Any]) -> bool:
    """Whether the projects stand under `private:`; a project may itself be called `public` or `private`."""
    return any(key in top and not _is_project(top[key]) for key in _TOP)


def _is_project(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("gid"), int)


def _wrapped_file(findings: Findings, top: Mapping[str, Any]) -> MountsFile:
    for key in top:
        if key not in _TOP:
            findings.problem((key,), f"unknown key {shown(key)}", did_you_mean(key, _TOP), at_key=True)
    if "private" not in top:
        findings.problem((), "no `private:`", "write `private: {}` if there are no projects; missing is not empty")
    projects = _projects(findings, ("private",), top.get("private", {}))
    public = _public(findings, top.get("public", {}))
    return MountsFile(findings.document.name, projects, public, _served(findings, top), tuple(findings.notices))


def _served(findings: Findings, top: Mapping[str, Any]) -> frozenset[ShareName] | None:
    if "volumes_served" not in top:
        return None
    names = top["volumes_served"]
    if not isinstance(names, list):
        findings.problem(("volumes_served",), "not a list", "write a list of mount names: [project, home]")
        return None
    found = (_served_name(findings, at, name) for at, name in enumerate(names))
    return frozenset(name for name in found if name is not None)


def _served_name(findings: Findings, at: int, name: Any) -> ShareName | None:
    return findings.attempt(("volumes_served", at), lambda: ShareName(name), "write a mount name, like home")


# --- projects --------------------------------------------------------------------------------------------------------


def _projects(findings: Findings, path: tuple[str, ...], projects: object) -> tuple[MountsProject, ...]:
    if not isinstance(projects, dict):
        advice = "write `project: {gid: 50380, mounts: {...}}` lines, or {} if there are none"
        findings.problem(path, f"`{'.'.join(path)}` is not a map of projects", advice)
        return ()
    found = (_project(findings, (*path, name), name, value) for name, value in projects.items())
    return tuple(project for project in found if project is not None)


def _project(findings: Findings, path: tuple[str, ...], name: str, value: object) -> MountsProject | None:
    known = findings.attempt(path, lambda: ProjectName(name), "write the project's name as the cloud has it", True)
    if not isinstance(value, dict):
        findings.problem(path, f"project {shown(name)} is not a map", "write {gid: 50380, mounts: {...}}", True)
        return None
    for key in value:
        if key not in _PROJECT:
            findings.problem((*path, key), f"unknown key {shown(key)}", did_you_mean(key, _PROJECT), at_key=True)
    gid = _gid(findings, path, name, value.get("gid"))
    mounts = _mounts(findings, (*path, "mounts"), name, value.get("mounts"))
    if known is None or gid is None or mounts is None:
        return None
    return MountsProject(known, gid, mounts, findings.document.places.key(path))


def _gid(findings: Findings, path: tuple[str, ...], name: str, value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= GID_MAX:
        return value
    what = "no gid" if value is None else f"gid {shown(value)}"
    advice = f"write the number of the project's group, 1 to {GID_MAX}, without quotes"
    findings.problem((*path, "gid"), f"project {shown(name)} has {what}", advice)
    return None


def _mounts(findings: Findings, path: tuple[str, ...], name: str, value: object) -> tuple[Mount, ...] | None:
    if not isinstance(value, dict):
        what = "no mounts" if value is None else "mounts that are not a map"
        advice = "write `mounts: {home: true}`, or {} if it has none"
        findings.problem(path, f"project {shown(name)} has {what}", advice)
        return None
    found = (_mount(findings, (*path, mount), mount, where) for mount, where in value.items())
    return tuple(mount for mount in found if mount is not None)


def _mount(findings: Findings, path: tuple[str, ...], name: str, value: object) -> Mount | None:
    share = findings.attempt(path, lambda: ShareName(name), "write a mount name, like home", at_key=True)
    remote: Remote | None = None
    if isinstance(value, str):
        remote = findings.attempt(path, lambda: _remote(value), "write host:/path, or true")
        if remote is None:
            return None
    elif not isinstance(value, bool):
        findings.problem(path, f"mount {shown(name)} is neither true, false nor host:/path", "write one of these")
        return None
    if share is None or value is False:
        return None
    return Mount(share, remote, findings.document.places.key(path))


def _remote(text: str) -> Remote:
    """Doubled and trailing slashes are taken: the published definitions have them."""
    host, colon, path = text.partition(":")
    if not colon:
        raise ValueError(f"{shown(text)} is not host:/path")
    return Remote(HostName(host), ExportPath.normal(path))


# --- public lines ----------------------------------------------------------------------------------------------------

_PUBLIC_ADVICE = "write one line of exports(5): '/srv/scratch 172.16.0.0/21(rw,root_squash)'"
_PSEUDO_ROOT = frozenset({"fsid=0", "fsid=root"})


def _public(findings: Findings, value: object) -> tuple[PublicLine, ...]:
    if not isinstance(value, dict):
        findings.problem(("public",), "`public` is not a map", "write `name: 'export line'`, or {} if there are none")
        return ()
    found = (_public_line(findings, ("public", name), name, line) for name, line in value.items())
    return tuple(line for line in found if line is not None)


def _public_line(findings: Findings, path: tuple[str, ...], name: str, text: object) -> PublicLine | None:
    share = findings.attempt(path, lambda: ShareName(name), "write a short name, like scratch", at_key=True)
    if not isinstance(text, str):
        findings.problem(path, f"public {shown(name)} is not an export line", _PUBLIC_ADVICE)
        return None
    place = findings.document.places.value(path)
    return findings.attempt(path, lambda: _parsed_line(share or ShareName("public"), text, place), _PUBLIC_ADVICE)


def _parsed_line(name: ShareName, text: str, place: Place) -> PublicLine:
    entries = _entries(text)
    if len({entry.path for entry in entries}) != 1 or len({entry.options for entry in entries}) != 1:
        raise ValueError(f"{shown(text)} is not one path under one set of options")
    words = entries[0].options
    clients = [entry.client for entry in entries if entry.client != exports5.WORLD]
    world = len(clients) < len(entries)
    if world and clients:
        raise ValueError(f"{shown(text)} names * and other clients: * is everybody already")
    options = exports5.parse_options(tuple(word for word in words if word not in _PSEUDO_ROOT))
    pseudo_root = any(word in _PSEUDO_ROOT for word in words)
    path = ExportPath.normal(entries[0].path)
    return PublicLine(name, path, tuple(Client(c) for c in clients), world, options, pseudo_root, place)


def _entries(text: str) -> list[exports5.Entry]:
    """The entries of one line; what exports(5) would silently take for everybody is refused."""
    if "\n" in text.strip("\n"):
        raise ValueError(f"{shown(text)} is more than one line")
    try:
        entries = list(exports5.entries(text.strip("\n")))
    except exports5.BadExports as error:
        raise ValueError(error.problem) from None
    if not entries:
        raise ValueError("an export line without an export")
    worlds = sum(entry.client == exports5.WORLD for entry in entries)
    if worlds > len(re.findall(r"(?:^|\s)\*(?=\s|\(|$)", text)):
        raise ValueError(f"{shown(text)} names no client, which exports(5) takes for everybody; write * to mean that")
    return entries
