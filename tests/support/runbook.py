"""The commands of a page of docs/operations, so that tests run what the page says."""

from __future__ import annotations

import re
from pathlib import Path

OPERATIONS = Path(__file__).parents[2] / "docs/operations"


def commands(page: str, case: str) -> list[str]:
    """The commands of one case of a page, without what is said beside them."""
    text = (OPERATIONS / page).read_text()
    section = re.search(rf"^## {re.escape(case)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, case
    lines = re.findall(r"^ {4,}(\S.*)$", section[1], re.MULTILINE)
    return [re.split(r"\s{2,}", line)[0] for line in lines]
