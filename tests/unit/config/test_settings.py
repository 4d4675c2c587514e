"""The settings table and the page that is written from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.config.reference import page
from labstore.config.settings import dotted, section_at, setting_at, settings

PAGE = Path(__file__).parents[3] / "docs/reference/site-file.md"


def test_the_reference_page_is_true() -> None:
    assert PAGE.read_text() == page(), "write it anew: labstore config schema --page > docs/reference/site-file.md"


def test_every_setting_says_what_it_means_and_what_leaving_it_out_does() -> None:
    rows = list(settings())
    assert len({row.path for row in rows}) == len(rows)
    for row in rows:
        assert row.meaning, row
        assert row.what, row
        assert row.example, row


@pytest.mark.parametrize(
    ("path", "what", "default", "unit"),
    [
        (("exports", "poll"), "a duration", "3s", "ms, s, m, h, d, w"),
        (("exports", "brake", "absent", "overall"), "a percentage", "5%", "%"),
        (("clusters", "primary", "volumes", "misc", "mount"), "an absolute path", None, ""),
        (("clusters", "primary", "service_addresses"), "a list, each one address", "[]", ""),
        (("shares", "home", "squash"), "root, all or none", "root", ""),
        (("projects", "tools", "shares", "home", "squash"), "root, all or none", "(as the kind of share says)", ""),
        (("exports", "subnets"), "a list, each a network", "{}", ""),
    ],
)
def test_a_setting_is_found_by_its_place(path: tuple[str, ...], what: str, default: str | None, unit: str) -> None:
    setting = setting_at(path)
    assert setting is not None
    assert (setting.what, setting.default, setting.unit) == (what, default, unit)
    assert setting.must == (default is None)


def test_what_is_no_setting_is_not_found() -> None:
    assert setting_at(("exports", "pol")) is None
    assert setting_at(("zzz", "poll")) is None
    assert setting_at(()) is None
    assert section_at(("exports", "poll")) is None


def test_names_of_places_are_safe_to_print() -> None:
    assert dotted(("clusters", "a", "service_addresses", 0)) == "clusters.a.service_addresses[0]"
    assert dotted(("shares", "x\n\x1b[2J")) == r"shares.'x\n\x1b[2J'"
