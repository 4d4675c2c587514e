"""systemd: whether units run, started and stopped with a deadline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labstore.formats.systemd_show import blocks
from labstore.ports.host import Command, Host


@dataclass(frozen=True)
class Units:
    host: Host

    def states(self, units: Iterable[str]) -> Mapping[str, str]:
        """ActiveState by unit as it was asked for (`inactive` for one that does not exist). Raises CommandFailed."""
        names = list(units)
        if not names:
            return {}
        done = self.host.run(Command.of("systemctl", "show", "--property=Id,ActiveState", "--", *names))
        found = blocks(done.stdout)
        return {name: block.get("ActiveState", "") for name, block in zip(names, found, strict=False)}

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
