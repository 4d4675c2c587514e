"""systemd: whether units run, started and stopped with a deadline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labstore.formats.systemd_show import blocks
from labstore.ports.host import Command, Host

ABSENT = "absent"
"""The state of a unit that systemd does not have, or that somebody masked: starting or stopping it would fail."""
_NOT_THERE = frozenset({"not-found", "masked"})


@dataclass(frozen=True)
class Units:
    host: Host

    def states(self, units: Iterable[str]) -> Mapping[str, str]:
        """ActiveState by unit as it was asked for, or ABSENT. Raises CommandFailed."""
        names = list(units)
        if not names:
            return {}
        done = self.host.run(Command.of("systemctl", "show", "--property=Id,LoadState,ActiveState", "--", *names))
        found = blocks(done.stdout)
        return {name: _state(block) for name, block in zip(names, found, strict=False)}

    def there(self, units: Iterable[str]) -> list[str]:
        """Those of the units that can be started and stopped. Raises CommandFailed."""
        return [name for name, state in self.states(units).items() if state != ABSENT]

    def start(self, units: Iterable[str], deadline: float, wait: bool = True) -> None:
        """Start all; one that had failed before is tried again. Raises CommandFailed if one fails while it is waited
        for."""
        names = list(units)
        if not names:
            return
        patience = () if wait else ("--no-block",)
        start = Command.of("systemctl", "start", *patience, "--", *names, deadline=deadline)
        if wait and self.host.run(start, expect=None).ok:
            return
        self.host.run(Command.of("systemctl", "reset-failed", "--", *names), expect=None)
        self.host.run(start)

    def stop(self, units: Iterable[str], deadline: float) -> None:
        """Stop all and wait for it. Raises CommandFailed."""
        names = list(units)
        if names:
            self.host.run(Command.of("systemctl", "stop", "--", *names, deadline=deadline))

    def reload(self) -> None:
        """Let systemd read its files. Raises CommandFailed."""
        self.host.run(Command.of("systemctl", "daemon-reload", deadline=120.0))

    def enable(self, units: Iterable[str]) -> None:
        self.host.run(Command.of("systemctl", "enable", "--", *units, deadline=60.0))

    def disable(self, units: Iterable[str]) -> None:
        self.host.run(Command.of("systemctl", "disable", "--", *units, deadline=60.0))


def _state(block: Mapping[str, str]) -> str:
    """One that was masked while it runs still runs."""
    active = block.get("ActiveState", "")
    return ABSENT if block.get("LoadState") in _NOT_THERE and active in ("", "inactive") else active
