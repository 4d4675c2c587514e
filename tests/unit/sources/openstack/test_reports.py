"""What the source has to say: a sentence, and what to do."""

from __future__ import annotations

import pytest

from labstore.reports.report import Report
from labstore.sources.openstack.reports import (
    LoginRefused,
    OnlyOwnProjects,
    RegionNotOffered,
    RegionStillAnswering,
    ServersVanished,
    ServerUnreadable,
    WrongScope,
)

SAID: list[tuple[Report, str]] = [
    (LoginRefused("novaobserver", "HTTP 401"), "cloud novaobserver lets nobody in: HTTP 401"),
    (
        WrongScope("novaobserver", "system"),
        "cloud novaobserver logs in with system scope, with which Nova shows no instances",
    ),
    (RegionNotOffered("eqiad1-r"), "region eqiad1-r is not in the cloud's catalog"),
    (RegionStillAnswering("eqiad1-r", 12), "region eqiad1-r has not answered for 12 s"),
    (
        ServerUnreadable("maps", "eqiad1-r", "server 5: name is a list"),
        "project maps in region eqiad1-r: server 5: name is a list",
    ),
    (
        ServersVanished("maps", "eqiad1-r", 1, "maps-wma1"),
        "server maps-wma1 of project maps left the list of region eqiad1-r; nothing says deleted",
    ),
    (
        ServersVanished("maps", "eqiad1-r", 3, "maps-wma1"),
        "3 servers (maps-wma1, ...) of project maps left the list of region eqiad1-r; nothing says deleted",
    ),
    (OnlyOwnProjects("novaobserver"), "cloud novaobserver shows its user only the projects in which it has a role"),
]


@pytest.mark.parametrize(("report", "message"), SAID, ids=lambda value: getattr(value, "code", ""))
def test_the_words(report: Report, message: str) -> None:
    assert report.message() == message
    assert report.remedy()
    assert Report.registry[report.code] is type(report)
