"""A plan is data: ordered steps, what stays untouched and why, and what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from labstore.reports.report import Report

T = TypeVar("T")


class Verb(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class Proof(StrEnum):
    """Why a removal is right. The stronger the proof, the less it waits (DESIGN law 2)."""

    NONE = "none"
    """Nothing is removed."""
    ABSENT = "absent"
    """Not in two complete listings: doubt overcome, but still only absence."""
    DECLARED = "declared"
    """The site's own files no longer ask for it."""
    GONE = "gone"
    """The cloud's positive word: the instance is deleted."""
    MOVED = "moved"
    """The address was seen with another project: keeping it would hand a stranger the share."""


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One thing to do to one key. `before` and `after` are what is and what shall be; None is absence.

    `removes` names what loses something by this step, with the proof for each.
    """

    key: str
    verb: Verb
    before: T | None
    after: T | None
    why: str
    removes: Mapping[str, Proof] = field(default_factory=dict)

    @property
    def revokes(self) -> bool:
        """Whether this step must come before any addition: it takes away on positive proof."""
        return any(proof in (Proof.GONE, Proof.MOVED) for proof in self.removes.values())


@dataclass(frozen=True, slots=True)
class Refusal:
    """Steps that a guard holds back: the keys and the report that says why and which override would allow it."""

    keys: tuple[str, ...]
    report: Report


@dataclass(frozen=True)
class Plan(Generic[T]):
    """What will be done. The same facts give the same plan; an empty one means converged.

    `untouched` says of each key that differs or is in doubt, yet is left alone, why.
    """

    steps: tuple[Step[T], ...] = ()
    untouched: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    reports: tuple[Report, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.steps

    @property
    def removals(self) -> int:
        return sum(len(step.removes) for step in self.steps)
