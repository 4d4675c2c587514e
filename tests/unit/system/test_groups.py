"""Numbers of groups, from getent: only what it said counts."""

from __future__ import annotations

import pytest

from labstore.reconcile.facts import Fact, Missing
from labstore.system.groups import AT_ONCE, group_numbers
from tests.support.fake_clock import FakeClock
from tests.support.fake_host import FakeHost, Scripted


def test_what_is_known_is_a_fact_and_what_is_not_is_missing() -> None:
    """getent ends alike for a group that is not there and for a directory that does not answer (upstream #72)."""
    host = FakeHost(Scripted(("getent", "group", "a", "b"), stdout="a:*:50380:alice,bob\n", status=2))
    found = group_numbers(host, FakeClock(), {"a", "b"})
    assert isinstance(found["a"], Fact) and found["a"].value == 50380
    assert isinstance(found["b"], Missing) and "does not answer" in found["b"].report.message()


@pytest.mark.parametrize("line", ["a:*:fifty:", "a:*:-1:", "a:*:٣:", "a", "a:*:1:x:y", "", "b:*:7:"])
def test_a_line_of_another_form_says_nothing(line: str) -> None:
    found = group_numbers(FakeHost(Scripted(("getent",), stdout=f"{line}\n")), FakeClock(), {"a"})
    assert isinstance(found["a"], Missing)


def test_a_name_service_that_hangs_costs_its_deadline_and_decides_nothing() -> None:
    found = group_numbers(FakeHost(Scripted(("getent",), fails="did not end within 20 s")), FakeClock(), {"a"})
    assert isinstance(found["a"], Missing) and "did not end" in found["a"].report.message()


def test_thousands_are_asked_for_by_few_calls() -> None:
    names = {f"project-{number:05}" for number in range(10 * AT_ONCE)}
    text = [f"{name}:*:{number}:" for number, name in enumerate(sorted(names))]
    pieces = [text[start : start + AT_ONCE] for start in range(0, len(text), AT_ONCE)]
    host = FakeHost(*(Scripted(("getent", "group"), stdout="\n".join(piece)) for piece in pieces))
    found = group_numbers(host, FakeClock(), names)
    host.done()
    assert all(isinstance(answer, Fact) for answer in found.values())


def test_nobody_is_asked_for_nothing() -> None:
    assert group_numbers(FakeHost(), FakeClock(), ()) == {}
