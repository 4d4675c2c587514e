"""A host on which only scripted commands exist; any other fails the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labstore.ports.host import Command, CommandFailed, Completed


@dataclass
class Scripted:
    """An expected command (a prefix of its arguments) and what it does."""

    prefix: tuple[str, ...]
    stdout: str = ""
    stderr: str = ""
    status: int = 0
    fails: str | None = None
    effect: Callable[[Command], None] | None = None


class FakeHost:
    """See ports.host.Host. Commands must come in the scripted order; `done()` says that all did."""

    def __init__(self, *script: Scripted) -> None:
        self._script = list(script)
        self.ran: list[Command] = []

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        self.ran.append(command)
        assert self._script, f"unscripted command: {' '.join(command.argv)}"
        scripted = self._script.pop(0)
        found = command.argv[: len(scripted.prefix)]
        assert found == scripted.prefix, f"unscripted command: {' '.join(command.argv)}; expected {scripted.prefix}"
        if scripted.effect is not None:
            scripted.effect(command)
        if scripted.fails is not None:
            raise CommandFailed(command, scripted.fails)
        if expect is not None and scripted.status not in expect:
            raise CommandFailed(command, f"ended with status {scripted.status}", scripted.status, scripted.stderr)
        return Completed(command, scripted.status, scripted.stdout, scripted.stderr)

    def done(self) -> None:
        assert not self._script, f"never run: {[scripted.prefix for scripted in self._script]}"
