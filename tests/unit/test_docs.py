"""Every command that the pages show is one that can be pasted: it is there, with these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from labstore.cli.compat import nfs_exportd
from labstore.cli.compat_nfs import nfs_manage, nfs_manage_binds
from labstore.cli.main import labstore

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: dict[str, click.Command] = {
    "labstore": labstore,
    "nfs-exportd": nfs_exportd,
    "nfs-manage": nfs_manage,
    "nfs-manage-binds": nfs_manage_binds,
}
_INDENTED = re.compile(r"^ {4,}(?:\$ )?(?P<line>(?:nfs-\w[\w-]*|labstore) .*)$", re.MULTILINE)
_QUOTED = re.compile(r"`(?P<line>(?:nfs-\w[\w-]*|labstore) [^`\n]+)`")
_COMMENT = re.compile(r" {3,}.*| #.*|[|&;>].*")
"""What stands behind a command, explains it or takes its output."""


def commands(page: Path) -> Iterator[str]:
    text = page.read_text()
    for pattern in (_INDENTED, _QUOTED):
        for found in pattern.finditer(text):
            line = _COMMENT.sub("", found["line"]).strip()
            if line.split()[0] in PROGRAMS and "|" not in line:
                yield line


SHOWN = sorted({(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page)})


def test_pages_show_commands() -> None:
    """The patterns find what there is to find."""
    lines = {line for _, line in SHOWN}
    assert {"labstore failover status", "labstore exports plan", "labstore binds apply"} <= lines


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{page}: {line}" for page, line in SHOWN])
def test_a_command_on_a_page_can_be_pasted(page: str, line: str) -> None:
    program, *words = shlex.split(line)
    command = PROGRAMS[program]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0].isupper() or words[0] == "...":
            return  # a placeholder
        try:
            _, found, words = command.resolve_command(click.Context(command), words)
        except click.UsageError:
            found = None
        assert found is not None, f"{page}: {line}: there is no such command"
        command = found
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name not in ("-", "--", "-h", "--help", "--version"):
            assert name in known or command is nfs_manage, f"{page}: {line}: {name} is no option of it"
