"""Where a share is exported: at its own path, or, in a cluster with an export root, at a bind mount below that."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from labstore.model.exports import Owner
from labstore.model.names import ExportPath, ProjectName, VolumeName

PROJECTS = "project"
"""The directory of the export root that holds a directory for each project, as the original had it."""


@dataclass(frozen=True, slots=True)
class Place:
    """One directory that is exported. `name` is the project's, or the public share's."""

    owner: Owner
    name: str
    path: ExportPath
    volume: VolumeName
    project: ProjectName | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """`source`, a directory of `volume`, shown at `point`."""

    point: ExportPath
    source: ExportPath
    volume: VolumeName
    owner: Owner


def points(root: ExportPath, places: Iterable[Place]) -> Mapping[str, ExportPath]:
    """Path to where it is seen below `root`. A directory inside of another of the same owner is seen inside of it.

    A project's directory that bears the project's name is `project/<name>`; any other `project/<name>/<directory>`.
    Raises ValueError where it gets too long.
    """
    found: dict[str, ExportPath] = {}
    for place in sorted(places, key=lambda each: each.path):
        outer = outermost(place.path, found)
        inside = _point(root, place) if outer is None else ExportPath(found[outer] + place.path.removeprefix(outer))
        found[place.path] = inside
    return found


def outermost(path: str, known: Container[str]) -> str | None:
    """The shortest of `known` inside of which `path` lies."""
    parts = path.split("/")
    return next((above for end in range(2, len(parts)) if (above := "/".join(parts[:end])) in known), None)


def _point(root: ExportPath, place: Place) -> ExportPath:
    if place.project is None:
        return ExportPath(f"{root}/{place.name}")
    last = place.path.rpartition("/")[2]
    inside = "" if last == place.project else f"/{last}"
    return ExportPath(f"{root}/{PROJECTS}/{place.project}{inside}")


def binds(root: ExportPath, places: Iterable[Place]) -> tuple[Bind, ...]:
    """The mounts that make the tree, in order of the point: what lies inside of another needs none."""
    every = tuple(places)
    at = points(root, every)
    outer = [place for place in every if outermost(place.path, at) is None]
    return tuple(
        sorted(
            (Bind(at[place.path], place.path, place.volume, place.owner) for place in outer),
            key=lambda bind: bind.point,
        )
    )
