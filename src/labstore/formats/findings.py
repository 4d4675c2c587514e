"""Collecting everything there is to say about a file, instead of stopping at the first problem."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from labstore.formats.places import Path
from labstore.formats.strict_yaml import PROBLEMS, Document
from labstore.reports.in_file import BadFile, FileNotice, FileProblem, Origin

T = TypeVar("T")


@dataclass
class Findings:
    """Problems and notices about one document and what it names: at most `PROBLEMS` problems, in order of place."""

    document: Document
    notices: list[FileNotice] = field(default_factory=list)
    _problems: list[FileProblem] = field(default_factory=list)
    _dropped: int = 0

    def add(self, problem: FileProblem) -> None:
        if len(self._problems) < PROBLEMS:
            self._problems.append(problem)
        else:
            self._dropped += 1

    def drop(self, count: int) -> None:
        """So many more problems were found, and are only counted."""
        self._dropped += max(0, count)

    def problem(self, path: Path, problem: str, advice: str, at_key: bool = False) -> None:
        """Something is wrong with the value (or the key) at `path` of the document."""
        self.add(self.document.origin(path, at_key).problem(problem, advice))

    def attempt(self, path: Path, make: Callable[[], T], advice: str, at_key: bool = False) -> T | None:
        """What `make` gives; where it raises ValueError, None and a problem in its words."""
        try:
            return make()
        except ValueError as error:
            self.problem(path, str(error), advice, at_key)
            return None

    @property
    def problems(self) -> list[FileProblem]:
        first = self.document.name
        ordered = sorted(dict.fromkeys(self._problems), key=lambda p: (p.file != first, p.file, p.line, p.column))
        if self._dropped:
            ordered.append(Origin(first).problem(f"{self._dropped} more problems", "correct those above first"))
        return ordered

    def raise_problems(self) -> None:
        """Raises BadFile if there are any problems."""
        if self._problems:
            raise BadFile(self.problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the known words where none is near."""
    words = sorted(set(known))[:500]
    near = difflib.get_close_matches(word[:64], words, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if not words:
        return "there are none yet"
    return f"known are: {', '.join(words[:12])}{' ...' if len(words) > 12 else ''}"
