"""A small site file to break in one place at a time, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.config.load import load
from labstore.reports.in_file import BadFile, FileProblem

BASE = """\
site: wikicloud
clusters:
  primary:
    service_addresses: [172.16.0.10]
    service_names: [nfs.svc.example.org]
    nodes: {n1: {address: 10.64.37.19}, n2: {}}
    volumes:
      misc: {mount: /srv/misc}
      tools: {mount: /srv/tools}
shares:
  home: {cluster: primary, volume: misc, path: "shared/{project}"}
  dumps: {external: true}
projects:
  tools: {gid: 50380, shares: {home: true}}
  maps: {gid: 50196, shares: {home: true, dumps: true}}
public:
  scratch: {cluster: primary, volume: tools, path: scratch, clients: [172.16.0.0/21]}
inventory: {source: openstack}
exports: {poll: 3s}
"""

MARK = "\N{BULLET}"
"""Stands, in a broken text, right before the place that a report must name."""


def place_of_mark(text: str) -> tuple[str, tuple[int, int]]:
    """The text without its mark, and the mark's line and column (1-based)."""
    before = text[: text.index(MARK)]
    return text.replace(MARK, ""), (before.count("\n") + 1, len(before) - before.rfind("\n"))


def base_with(old: str, new: str) -> str:
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def problems_of(path: Path, text: str) -> list[FileProblem]:
    """Every problem that loading this text raises."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadFile) as raised:
        load(path)
    return [report for report in raised.value.reports if isinstance(report, FileProblem)]
