"""The reference page of the inventory file is true: its examples load, and every key stands on it."""

from __future__ import annotations

import re
from pathlib import Path

from labstore.formats import inventory_file
from labstore.formats.inventory_file import InventoryFile

PAGE = (Path(__file__).parents[3] / "docs/reference/inventory-file.md").read_text()


def loaded() -> list[InventoryFile]:
    fenced = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    inline = re.findall(r'`(\{"projects".*?)`', PAGE)
    return [inventory_file.parse(text.encode(), "page") for text in [*fenced, *inline]]


def test_the_examples_load() -> None:
    short, whole, program = loaded()
    assert [len(each.instances) for each in (short, whole, program)] == [2, 1, 1]
    (instance,) = whole.instances
    assert (instance.id, instance.project_id, instance.region) == ("8f4c2d10", "3d6e1f0a", "codfw1dev-r")
    assert whole.regions == ("eqiad1-r", "codfw1dev-r")


def test_every_key_stands_on_the_page_and_no_other() -> None:
    keys = {*inventory_file._TOP, *inventory_file._PROJECT, *inventory_file._INSTANCE}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == keys
