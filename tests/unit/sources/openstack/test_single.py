"""Project by project: one's failure is its own, and what fails for all is not tried for all."""

from __future__ import annotations

import pytest

from labstore.model.cloud import Project
from labstore.sources.openstack.servers import Found
from labstore.sources.openstack.single import HOPELESS, project_by_project
from labstore.sources.openstack.trouble import Refused, Trouble

PROJECTS = {f"p{number:02}": Project(f"p{number:02}", f"project-{number}") for number in range(30)}


class Asked:
    """Answers, but for the projects in `trouble`."""

    def __init__(self, **trouble: Trouble) -> None:
        self.trouble, self.ids = trouble, list[str]()

    def __call__(self, project: str) -> Found:
        self.ids.append(project)
        if project in self.trouble:
            raise Refused(self.trouble[project], f"HTTP for {project}")
        return Found()


def test_one_projects_failure_is_its_own() -> None:
    asked = Asked(p03=Trouble.BROKEN)
    harvest = project_by_project("cloud", PROJECTS, asked, 4)
    assert list(harvest.doubts) == ["p03"]
    assert "project-3: HTTP for p03" in harvest.doubts["p03"].message()
    assert sorted(asked.ids) == sorted(PROJECTS)


def test_a_disabled_project_is_not_asked() -> None:
    asked = Asked()
    projects = {"off": Project("off", "off", enabled=False), **PROJECTS}
    harvest = project_by_project("cloud", projects, asked, 4)
    assert "disabled" in harvest.doubts["off"].message()
    assert "off" not in asked.ids


def test_where_nothing_answers_not_all_are_asked() -> None:
    asked = Asked(**dict.fromkeys(PROJECTS, Trouble.BROKEN))
    with pytest.raises(Refused):
        project_by_project("cloud", PROJECTS, asked, 4)
    assert len(asked.ids) <= HOPELESS + 4


def test_closed_projects_say_nothing_about_the_others() -> None:
    asked = Asked(**dict.fromkeys(list(PROJECTS)[:20], Trouble.UNAUTHORIZED))
    harvest = project_by_project("cloud", PROJECTS, asked, 4)
    assert len(harvest.doubts) == 20
    assert sorted(asked.ids) == sorted(PROJECTS)
