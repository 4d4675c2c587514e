"""`binds:` of the site file: who owns the directories that are made for new projects."""

from __future__ import annotations

import re
from typing import Annotated

from labstore.config.fields import Section, optional, setting
from labstore.config.values import Text, Whole
from labstore.model.binds import BindsSettings
from labstore.model.names import shown
from labstore.model.site import GID_MAX

_MODE = "^[0-7]{3,4}$"
_GROUP = "^[A-Za-z_][A-Za-z0-9_.-]*[{]project[}][A-Za-z0-9_.-]*$"


def _mode(text: str) -> int:
    """Others may not write: what everybody can replace is nobody's share."""
    if re.fullmatch(_MODE, text) is None:
        raise ValueError(f"{shown(text)} is not a mode")
    found = int(text, 8)
    if found & 0o002 or found & 0o4000:
        raise ValueError(f"mode {text} lets everybody write, or makes a set-user-ID directory")
    return found


def _group(text: str) -> str:
    if re.fullmatch(_GROUP, text) is None or len(text) > 100:
        raise ValueError(f"{shown(text)} is not the name of a project's group")
    return text


ModeText = Annotated[int, Text(_mode, "a mode, in quotes", '"2775"', _MODE)]
GroupText = Annotated[str, Text(_group, "a group's name with {project} in it", '"project-{project}"', _GROUP)]


class BindsFile(Section):
    group: GroupText | None = optional(
        "a project's group: its number, asked of the host's name service, must be the project's gid",
        "nobody is asked; the gid of the site's files counts",
    )
    owner: Whole = setting(0, "the user that owns them", ge=0, le=GID_MAX)
    mode: ModeText = setting("2775", "their mode")


def resolved(file: BindsFile) -> BindsSettings:
    return BindsSettings(group=file.group, owner=file.owner, mode=file.mode)
