"""Keystone's lists of projects, from answers of a real one."""

from __future__ import annotations

import json

import pytest

from labstore.formats.json_api import Unreadable
from labstore.formats.keystone_projects import ProjectPage, domain_ids, project_page
from labstore.model.cloud import Project
from tests.support.http_captures import capture

ROW = {"id": "p1", "name": "tools", "enabled": True, "domain_id": "default", "is_domain": False}


def names(name: str) -> dict[str, Project]:
    return {entry.project.name: entry.project for entry in project_page(capture(name).body).entries}


def page(*rows: object, **more: object) -> ProjectPage:
    return project_page(json.dumps({"projects": rows, **more}).encode())


def test_all_projects() -> None:
    found = names("projects")
    assert {"admin", "service", "tools", "maps", "testlabs", "deleted-soon", "noinstances"} == set(found)
    assert all(project.enabled for project in found.values())


@pytest.mark.parametrize("name", ["auth-projects", "auth-projects-stock"])
def test_own_projects(name: str) -> None:
    assert set(names(name)) == {"tools", "maps", "testlabs", "deleted-soon", "noinstances"}


def test_a_disabled_project_is_listed_and_a_deleted_one_is_not() -> None:
    assert not names("projects-disabled")["captured-disabled"].enabled
    assert "captured-disabled" not in names("projects-deleted")


@pytest.mark.parametrize("name", ["projects-403", "projects-503", "token", "servers-html"])
def test_what_is_no_list_is_refused(name: str) -> None:
    with pytest.raises(Unreadable):
        project_page(capture(name).body)


def test_a_list_that_keystone_cut_short_is_no_list() -> None:
    with pytest.raises(Unreadable, match="list_limit"):
        page(ROW, truncated=True)


def test_the_next_page() -> None:
    assert (
        page(ROW, links={"next": "http://keystone/v3/projects?marker=p1"}).next
        == "http://keystone/v3/projects?marker=p1"
    )
    assert page(ROW, links={"next": None}).next is None
    with pytest.raises(Unreadable):
        page(ROW, links={"next": 5})


def test_a_project_that_is_a_domain_is_none() -> None:
    assert page({**ROW, "is_domain": True}).entries == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"id": "a/b"},
        {"name": ""},
        {"name": 5},
        {"name": "x" * 65},
        {"enabled": "yes"},
        {"domain_id": None},
    ],
    ids=repr,
)
def test_a_project_of_another_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        page({**ROW, **wrong})


def test_domains() -> None:
    assert domain_ids(b'{"domains": [{"id": "default", "name": "Default"}]}') == ("default",)
    for body in (b"{}", b'{"domains": [5]}', b'{"domains": [{"name": "x"}]}'):
        with pytest.raises(Unreadable):
            domain_ids(body)
