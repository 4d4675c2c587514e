"""Units are started with one call; one that had failed is tried again."""

from __future__ import annotations

import pytest

from labstore.ports.host import CommandFailed
from labstore.system.units import ABSENT, Units
from tests.support.fake_host import FakeHost, Scripted

START, RESET = ("systemctl", "start"), ("systemctl", "reset-failed")


def test_what_starts_is_started_by_one_call() -> None:
    host = FakeHost(Scripted((*START, "--", "nfsdcld.service")))
    Units(host).start(["nfsdcld.service"], 10.0)
    host.done()


def test_what_does_not_start_is_tried_once_more_as_if_it_had_never_failed() -> None:
    host = FakeHost(Scripted(START, status=1), Scripted(RESET), Scripted(START))
    Units(host).start(["nfsdcld.service"], 10.0)
    host.done()


def test_what_does_not_start_then_either_is_an_error() -> None:
    host = FakeHost(Scripted(START, status=1), Scripted(RESET), Scripted(START, status=1, stderr="Job failed."))
    with pytest.raises(CommandFailed, match="Job failed"):
        Units(host).start(["nfsdcld.service"], 10.0)


def test_what_is_not_waited_for_is_made_startable_first() -> None:
    """Nobody sees its failure, so nobody could try again."""
    host = FakeHost(Scripted(RESET, status=1), Scripted((*START, "--no-block", "--", "labstore-exportd.service")))
    Units(host).start(["labstore-exportd.service"], 10.0, wait=False)
    host.done()


def test_nothing_is_asked_about_no_units() -> None:
    units = Units(FakeHost())
    units.start([], 10.0)
    units.stop([], 10.0)
    assert units.states([]) == {}


SHOW = ("systemctl", "show", "--property=Id,LoadState,ActiveState", "--")
CAPTURE = """\
Id=labstore-exportd.service
LoadState=not-found
ActiveState=inactive

Id=cron.service
LoadState=loaded
ActiveState=active

Id=atd.service
LoadState=masked
ActiveState=inactive

Id=dbus.service
LoadState=masked
ActiveState=active
"""


def test_what_systemd_does_not_have_or_must_not_start_is_absent() -> None:
    names = ["labstore-exportd.service", "cron.service", "atd.service", "dbus.service"]
    host = FakeHost(Scripted((*SHOW, *names), stdout=CAPTURE), Scripted((*SHOW, *names), stdout=CAPTURE))
    states = Units(host).states(names)
    assert states == dict(zip(names, (ABSENT, "active", ABSENT, "active"), strict=True))
    assert Units(host).there(names) == ["cron.service", "dbus.service"]
    host.done()
