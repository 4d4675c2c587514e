"""Laws of accounts alone; those of every planner are in tests/test_laws.py."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from labstore.dbusers.facts import DbFacts
from labstore.dbusers.turns import Act
from labstore.model.ledger import AccountState
from labstore.ports.credential_writer import FileState
from labstore.reconcile.facts import Fact
from tests.unit.dbusers.worlds import FACTS, after, plan


@given(FACTS, st.integers(0, 1000))
def test_a_process_that_is_killed_after_any_step_loses_no_password(facts: DbFacts, stop: int) -> None:
    """Its memory is gone, and with it every password that nobody had read: what is read in the end works."""
    steps = plan(facts).steps
    killed = replace(after(facts, steps[: stop % (len(steps) + 1)]), held=frozenset())
    done = after(killed, plan(killed).steps)
    for user, row in done.ledger.accounts.items():
        file = done.files.get(user)
        if row.suspended or not row.name_known or not isinstance(file, Fact) or user in _held_back(done):
            continue
        if file.value.state is FileState.TRUSTED:
            assert file.value.verifier in row.verifiers
            for key, answer in done.hosts.items():
                if isinstance(answer, Fact) and (found := answer.value.accounts.get(user)) and found.touchable:
                    texts = {verifier.text for verifier in found.verifiers}
                    assert file.value.verifier in texts and not found.locked, f"{user} is refused on {key}"
        elif file.value.state is FileState.ABSENT and not plan(done).untouched.get(user):
            raise AssertionError(f"{user} has no file")


def _held_back(facts: DbFacts) -> set[str]:
    return {key.split("@")[0].split(" ")[0] for refusal in plan(facts).refusals for key in refusal.keys}


@given(FACTS)
def test_a_password_is_published_after_its_hash_is_in_the_ledger(facts: DbFacts) -> None:
    """I1 of the design: minted, then written down, then read."""
    known = {user: row.generation for user, row in facts.ledger.accounts.items()}
    for step in plan(facts).steps:
        assert step.after is not None
        if step.after.act in (Act.ISSUE, Act.ROTATE):
            known[step.after.user] = step.after.generation
        if step.after.act in (Act.PUBLISH, Act.REPLACE):
            assert known[step.after.user] == step.after.generation


@given(FACTS)
def test_nobody_is_dropped_who_was_not_locked_first(facts: DbFacts) -> None:
    for user, row in after(facts, plan(facts).steps).ledger.accounts.items():
        before = facts.ledger.accounts.get(user)
        if row.state is AccountState.DROPPING and before is not None and before.state is not AccountState.DROPPING:
            keys = [step.key for step in plan(facts).steps if step.after and step.after.user == user]
            assert f"{user} {Act.END}" in keys
            for key, answer in facts.hosts.items():
                found = answer.value.accounts.get(user) if isinstance(answer, Fact) else None
                if found is not None and found.touchable and not found.locked:
                    assert keys.index(f"{user}@{key} {Act.LOCK}") < keys.index(f"{user} {Act.END}")
