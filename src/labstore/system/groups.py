"""Groups as this host's name service knows them (LDAP by way of sssd or nslcd, files): asked by getent, which can be
given up; a library call could not."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from labstore.ports.clock import Clock
from labstore.ports.host import Command, CommandFailed, Host
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed

SOURCE = "name service"
AT_ONCE = 100
"""So many groups are asked for by one call."""


def group_numbers(
    host: Host, clock: Clock, names: Collection[str], deadline: float = 20.0
) -> Mapping[str, Answer[int]]:
    """Name to number. getent ends alike for a group that is not there and for a service that does not answer, so that
    a name without an answer is Missing."""
    wanted, found = sorted(names), dict[str, int]()
    failed = ""
    for start in range(0, len(wanted), AT_ONCE):
        try:
            done = host.run(Command(("getent", "group", *wanted[start : start + AT_ONCE]), deadline), frozenset({0, 2}))
            found |= _parsed(done.stdout)
        except CommandFailed as error:
            failed = str(error)
    why = failed or "it is not known, or the name service does not answer"
    return {name: _answer(name, found, why, clock) for name in wanted}


def _parsed(text: str) -> dict[str, int]:
    """`name:password:gid:members`, one per line; a line of another form says nothing."""
    lines = (line.split(":") for line in text.splitlines())
    return {parts[0]: int(parts[2]) for parts in lines if len(parts) == 4 and parts[2].isascii() and parts[2].isdigit()}


def _answer(name: str, found: Mapping[str, int], why: str, clock: Clock) -> Answer[int]:
    if name in found:
        return Fact(found[name], SOURCE, clock.now())
    return Missing(SourceFailed(SOURCE, f"group {name}", why), SOURCE, clock.now())
