"""What is wrong (or worth knowing) at one place of a file that people write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labstore.reports.report import Report, Severity


class InFile(Report):
    """`line` and `column` are 1-based; 0 where the file as a whole is meant. `advice` says what to write instead."""

    file: str
    line: int
    column: int
    problem: str
    advice: str

    @property
    def where(self) -> str:
        """`file:line:column`, as editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def message(self) -> str:
        return f"{self.where}: {self.problem}"

    def remedy(self) -> str:
        return self.advice


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was written; 1-based, `line` 0 for a file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def problem(self, problem: str, advice: str) -> FileProblem:
        return FileProblem(self.file, self.line, self.column, problem, advice)

    def notice(self, problem: str, advice: str) -> FileNotice:
        return FileNotice(self.file, self.line, self.column, problem, advice)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class FileProblem(InFile):
    """The file cannot be taken as it is."""

    code = "file-problem"
    severity = Severity.ERROR


class FileNotice(InFile):
    """The file is taken; this part of it does something that its writer may not expect."""

    code = "file-notice"
    severity = Severity.NOTICE


class BadFile(Exception):
    """One or more files cannot be taken; `reports` holds every problem that was found, in order of place."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self.reports = tuple(reports)
        first = self.reports[0].text() if self.reports else "nothing was reported"
        more = f" (and {len(self.reports) - 1} more)" if len(self.reports) > 1 else ""
        super().__init__(first + more)
