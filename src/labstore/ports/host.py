"""The host's programs: the one door through which processes are started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments, never a shell line.

    `deadline` is in seconds and always finite. `input` goes to standard input, which is otherwise closed; secrets
    travel there. `env` adds to the small environment (PATH, C locale).
    """

    argv: tuple[str, ...]
    deadline: float = 30.0
    input: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None

    @classmethod
    def of(cls, *argv: str, deadline: float = 30.0, input: bytes | None = None) -> Command:  # noqa: A002
        return cls(tuple(argv), deadline, input)


@dataclass(frozen=True, slots=True)
class Completed:
    """What a process left: its exit status (negative: the signal that ended it) and its output."""

    command: Command
    status: int
    stdout: str
    stderr: str
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == 0

    def lines(self) -> Sequence[str]:
        return self.stdout.splitlines()


class CommandFailed(Exception):
    """A process could not be started, ended with a status that was not expected, or did not end in time.

    `status` is None when it never started or was killed at its deadline; `reason` says which.
    """

    def __init__(self, command: Command, reason: str, status: int | None = None, stderr: str = "") -> None:
        self.command, self.reason, self.status, self.stderr = command, reason, status, stderr
        last = stderr.strip().splitlines()[-1:] or [""]
        super().__init__(f"{command.argv[0]}: {reason}" + (f": {last[0][:300]}" if last[0] else ""))


class Host(Protocol):
    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        """Run to the end. Raises CommandFailed where it does not start, overruns its deadline or ends with a status
        not in `expect` (None: any status is the caller's business)."""
