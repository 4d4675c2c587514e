"""What every directory does. A subclass gives `lab`."""

from __future__ import annotations

import threading
from typing import Protocol

import pytest

from labstore.model.accounts import AccountKind
from labstore.model.people import Listing
from labstore.ports.directory import Directory
from labstore.reconcile.facts import Fact, Missing


class DirectoryLab(Protocol):
    """A directory in the hands of a test."""

    directory: Directory

    def add_tool(self, name: str, uid: int) -> None:
        """A new tool."""

    def add_user(self, name: str, uid: int) -> None:
        """A new user who is a member."""

    def remove_tool(self, name: str) -> None:
        """The tool is gone."""

    def lock_tool(self, name: str) -> None:
        """The tool is disabled."""

    def break_it(self) -> None:
        """It gives no answer any more."""


def listed(lab: DirectoryLab, kind: AccountKind = AccountKind.TOOL) -> Listing:
    answer = lab.directory.listing()[kind]
    assert isinstance(answer, Fact), answer
    return answer.value


class DirectoryContract:
    """Inherit, and give the fixture `lab`: with tool `first` (uid 50001) and user `alice` (uid 2170)."""

    @pytest.fixture
    def lab(self) -> DirectoryLab:
        raise NotImplementedError

    def test_tools_and_users(self, lab: DirectoryLab) -> None:
        tools, users = listed(lab), listed(lab, AccountKind.USER)
        assert {user: entry.name for user, entry in tools.entries.items()} == {"s50001": "tools.first"}
        assert {user: entry.name for user, entry in users.entries.items()} == {"u2170": "alice"}
        assert tools.agreed and users.agreed

    def test_who_is_new_and_who_is_gone(self, lab: DirectoryLab) -> None:
        lab.add_tool("second", 50002)
        lab.add_user("bob", 2171)
        assert set(listed(lab).entries) == {"s50001", "s50002"}
        assert set(listed(lab, AccountKind.USER).entries) == {"u2170", "u2171"}
        lab.remove_tool("first")
        assert set(listed(lab).entries) == {"s50002"}

    def test_who_is_disabled(self, lab: DirectoryLab) -> None:
        lab.lock_tool("first")
        assert [entry.locked for entry in listed(lab).entries.values()] == [True]

    def test_no_answer_is_missing_and_not_empty(self, lab: DirectoryLab) -> None:
        lab.break_it()
        assert all(isinstance(answer, Missing) for answer in lab.directory.listing().values())

    def test_the_bell_rings_when_something_changed(self, lab: DirectoryLab) -> None:
        rung = threading.Event()
        end = lab.directory.listen(rung.set)
        try:
            # it may ring for nothing at first
            rung.wait(1)
            rung.clear()
            lab.add_tool("second", 50002)
            assert rung.wait(10)
        finally:
            end()
