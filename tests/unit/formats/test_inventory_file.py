"""The inventory file: what it may say, and what is said about one that cannot be taken."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from labstore.formats.inventory_file import InventoryFile, parse
from labstore.model.cloud import Instance
from labstore.reports.in_file import BadFile, FileProblem

WHOLE = """\
region: eqiad1-r
projects:
  tools:
    id: d71727d7
    subnets: [10.0.8.0/24]
    instances:
      tools-bastion-12: {addresses: [172.16.1.11], floating: [203.0.113.213], id: b9bc8042}
      tools-worker-1: 172.16.1.13
      tools-worker-2: [172.16.1.14, "2001:db8::14"]
      tools-far: {addresses: 172.16.9.1, region: codfw1dev-r, created: "2026-05-29T11:54:00Z"}
  maps:
    enabled: false
"""


def read(text: str) -> InventoryFile:
    return parse(text.encode(), "inventory.yaml")


def problem(text: str) -> FileProblem:
    with pytest.raises(BadFile) as raised:
        read(text)
    (report,) = raised.value.reports
    assert isinstance(report, FileProblem)
    return report


def by_name(file: InventoryFile) -> dict[str, Instance]:
    return {instance.name: instance for instance in file.instances}


def texts(instance: Instance) -> list[str]:
    return [f"{entry.kind}:{entry.address}" for entry in instance.addresses or ()]


def test_a_whole_file() -> None:
    file = read(WHOLE)
    assert [(project.id, project.name, project.enabled) for project in file.projects.values()] == [
        ("d71727d7", "tools", True),
        ("maps", "maps", False),
    ]
    assert file.projects["d71727d7"].subnets == ("10.0.8.0/24",)
    assert file.regions == ("eqiad1-r", "codfw1dev-r")
    assert {name: texts(instance) for name, instance in by_name(file).items()} == {
        "tools-bastion-12": ["fixed:172.16.1.11", "floating:203.0.113.213"],
        "tools-worker-1": ["fixed:172.16.1.13"],
        "tools-worker-2": ["fixed:172.16.1.14", "fixed:2001:db8::14"],
        "tools-far": ["fixed:172.16.9.1"],
    }


def test_instances_have_ids_regions_and_times() -> None:
    seen = by_name(read(WHOLE))
    assert (seen["tools-bastion-12"].id, seen["tools-worker-1"].id) == ("b9bc8042", "tools/tools-worker-1")
    assert (seen["tools-worker-1"].region, seen["tools-far"].region) == ("eqiad1-r", "codfw1dev-r")
    assert seen["tools-far"].created == datetime(2026, 5, 29, 11, 54, tzinfo=UTC)
    assert {instance.project_id for instance in seen.values()} == {"d71727d7"}


def test_an_instance_without_addresses_has_none_for_certain() -> None:
    assert by_name(read("projects: {tools: {instances: {new: []}}}"))["new"].addresses == ()


def test_no_projects_at_all_must_be_said() -> None:
    assert read("projects: {}").projects == {}
    assert read("projects: {}").regions == ("local",)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("region: x", 1, "no map of `projects:`"),
        ("projects: []", 1, "no map of `projects:`"),
        ("projects:\n  tools: [172.16.1.11]", 2, "project 'tools' is not a map"),
        ("projects:\n  ../etc: {}", 2, "'../etc' is not a project name"),
        ("projects:\n  tools: {instance: {}}", 2, "unknown key 'instance'"),
        ("projects:\n  tools: {enabled: maybe}", 2, "enabled is 'maybe'"),
        ("projects:\n  tools: {id: 5}", 2, "id is '5'"),
        ("projects:\n  a: {id: x}\n  b: {id: x}", 3, "a second project with id 'x'"),
        ("projects:\n  tools:\n    instances: [172.16.1.11]", 3, "the instances are not a map"),
        ("projects:\n  tools:\n    instances:\n      new: yes.example.org", 4, "is not an address or network"),
        ("projects:\n  tools:\n    instances:\n      new: [10.0.0.0/24]", 4, "10.0.0.0/24 is a network"),
        ("projects:\n  tools:\n    instances:\n      new: ['0.0.0.0/0']", 4, "too wide for a client"),
        ("projects:\n  tools:\n    instances:\n      new: ['*']", 4, "is not an address or network"),
        ("projects:\n  tools:\n    instances:\n      new: {address: 10.0.0.1}", 4, "unknown key 'address'"),
        ("projects:\n  tools:\n    instances:\n      new: {addresses: 5}", 4, "'5' is not a list of addresses"),
        ("projects:\n  tools:\n    instances:\n      new: null", 4, "is not a list of addresses"),
        ("projects:\n  tools:\n    instances:\n      new: {id: x}\n      old: {id: x}", 5, "a second instance with id"),
        ("projects:\n  tools:\n    instances:\n      'new one': 10.0.0.1", 4, "instance name 'new one'"),
        ("projects:\n  tools:\n    instances:\n      new: {created: 'now'}", 4, "Invalid isoformat"),
        ("projects:\n  tools:\n    subnets: 10.0.0.0/24", 3, "is not a list of addresses"),
        ("projects:\n  tools: {}\n  tools: {}", 3, "key 'tools' stands here and in line 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_a_remedy(text: str, where: int, words: str) -> None:
    found = problem(text)
    assert (found.line, words in found.problem) == (where, True), found.text()
    assert found.remedy()


def test_all_problems_at_once() -> None:
    with pytest.raises(BadFile) as raised:
        read("projects:\n  tools: {enabled: 5}\n  maps: {id: [1]}\nextra: 1\n")
    assert len(raised.value.reports) == 3
