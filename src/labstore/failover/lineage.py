"""Whose data is newer: DRBD's generation ids of both sides, compared as DRBD itself would when they meet.

A side that is written while its partner is away gets a new current id and keeps the old one as its bitmap id. So the
side whose bitmap or history has the other's current id is the newer one, and if each has the other's past, both were
written: split brain.
"""

from __future__ import annotations

from enum import StrEnum

from labstore.model.drbd import Generations

NOTHING = f"{0:016X}"
JUST_CREATED = f"{4:016X}"


class Lineage(StrEnum):
    SAME = "the same data"
    NEWER = "newer data"
    OLDER = "older data"
    DIVERGED = "data that went another way"
    UNRELATED = "data of another origin"
    EMPTY = "no data yet"


def compare(own: Generations, other: Generations) -> Lineage:
    """What `own` is to `other`."""
    mine, theirs = own.bare, other.bare
    if JUST_CREATED in (mine[0], theirs[0]):
        return _fresh(mine[0] == JUST_CREATED, theirs[0] == JUST_CREATED)
    if mine[0] == theirs[0]:
        return Lineage.SAME
    past = {id_ for id_ in mine[1:] if id_ != NOTHING}
    their_past = {id_ for id_ in theirs[1:] if id_ != NOTHING}
    if theirs[0] in past:
        return Lineage.NEWER
    if mine[0] in their_past:
        return Lineage.OLDER
    return Lineage.DIVERGED if past & their_past else Lineage.UNRELATED


def _fresh(mine: bool, theirs: bool) -> Lineage:
    if mine and theirs:
        return Lineage.EMPTY
    return Lineage.OLDER if mine else Lineage.NEWER
