"""The words of the called end: what confines it is never lost on the way, and what is not plain is left alone."""

from __future__ import annotations

import pytest

from labstore.blocksync.command import plainly, ready
from labstore.blocksync.serve import Jail, jail_of
from labstore.model.block_sync import Permit, Role


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["surplus"],
        ["--source"],
        ["--source", ""],
        ["--source="],
        ["--source", "--state"],
        ["--source", "a.img"],
        ["--source", "/dev/../etc/shadow"],
        ["--source", "/a", "--target", "/b"],
        ["--target", "/b", "--permit", "everything"],
        ["--permit", "shrink"],
        ["--hints", "/h", "--target", "/b"],
        ["--label", "tools"],
        ["--no-such", "option"],
        ["source", "/a"],
    ],
    ids=" ".join,
)
def test_words_that_are_not_plain_begin_nothing(words: list[str]) -> None:
    assert plainly(words) is None


def test_a_forced_command_is_the_jail_that_it_says() -> None:
    target = jail_of([], ["/dev/b", "/dev/c"], ["shrink"], None, None)
    assert target == Jail(Role.TARGET, frozenset({"/dev/b", "/dev/c"}), frozenset({Permit.SHRINK}))
    source = jail_of(["/dev/a"], [], [], "/hints", "tools")
    assert source == Jail(Role.SOURCE, frozenset({"/dev/a"}), hints="/hints", label="tools")
    assert jail_of([], [], [], None, None) is None


@pytest.mark.parametrize(
    ("permits", "hints", "label", "name"),
    [(["shrink"], None, None, "--permit"), ([], "/h", None, "--hints"), ([], None, "tools", "--label")],
)
def test_what_confines_nothing_opens_nothing(
    permits: list[str], hints: str | None, label: str | None, name: str
) -> None:
    """Somebody meant to confine a key and forgot the device: that must not end as a key for everything."""
    with pytest.raises(ValueError, match=name):
        ready([], [], permits, hints, label)
