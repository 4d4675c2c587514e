"""What a run may believe and whether it may begin at all, from what is known of the target. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labstore.blocksync.identity import same
from labstore.blocksync.index import IndexState, new_state
from labstore.blocksync.messages import Offer
from labstore.model.block_sync import Options, Permit
from labstore.reports.blocksync import Fault
from labstore.reports.blocksync_target import (
    ForeignTarget,
    SourceEmpty,
    SourceShrunk,
    SourceSwapped,
    TargetSwapped,
    TargetTooLarge,
    TargetTooSmall,
)

LEAST_BRAKE = 64
"""Blocks that may always change."""


@dataclass(frozen=True)
class Found:
    """The target as it was found. `head` is the digest of its beginning, None where that is nothing but zeros.
    `fixed`: its size is not ours to change."""

    path: str
    size: int
    block: bool
    identity: str
    witness: str | None
    content: str | None
    head: str | None
    fixed: bool = False


@dataclass(frozen=True)
class Decision:
    """How to go on. `state` says which digests are believed; `why` in words why no more are."""

    state: IndexState
    start: int
    believe_hints: bool
    max_changed: int
    resize: int | None
    why: str


def refusal(state: IndexState | None, found: Found, offer: Offer, permits: frozenset[Permit]) -> Fault | None:
    """Why this target must not be written from this source; None where it may."""
    if not offer.size:
        return SourceEmpty(offer.path)
    if state is None:
        return _foreign(found, offer, permits) or _misfit(found, offer, permits)
    swapped = not same(state.target, found.identity, state.synced)
    if swapped and Permit.NEW_TARGET not in permits:
        return TargetSwapped(found.path, state.target, found.identity)
    if offer.size < state.size and Permit.SHRINK not in permits:
        return SourceShrunk(offer.path, state.size, offer.size)
    if state.content is not None and state.content != offer.content and Permit.NEW_SOURCE not in permits:
        return SourceSwapped(offer.path, state.content, offer.content or "nothing that is known")
    if not swapped and _made_anew(state, found, offer):
        return _foreign(found, offer, permits) or _misfit(found, offer, permits)
    return _misfit(found, offer, permits)


def _made_anew(state: IndexState, found: Found, offer: Offer) -> bool:
    """Whether the target holds a file system that no copy of ours brought there: where no run came to its end since,
    it may be the one from before or the one that is brought now. What is no file system at all may be ours, damaged."""
    whole = state.closed and state.root is not None
    ours = {state.content} if whole else {state.content, offer.content}
    return found.content is not None and found.content not in ours


def _foreign(found: Found, offer: Offer, permits: frozenset[Permit]) -> Fault | None:
    copy_of_source = found.head == offer.head or (found.content is not None and found.content == offer.content)
    if found.head is None or copy_of_source or Permit.ADOPT_TARGET in permits:
        return None
    return ForeignTarget(found.path, found.content or "something")


def _misfit(found: Found, offer: Offer, permits: frozenset[Permit]) -> Fault | None:
    if (found.block or found.fixed) and found.size < offer.size:
        return TargetTooSmall(found.path, found.size, offer.size)
    if not found.block and found.size > offer.size and Permit.SHRINK not in permits:
        return TargetTooLarge(found.path, found.size, offer.size)
    return None


def decide(state: IndexState | None, found: Found, offer: Offer, options: Options, now: float) -> Decision:
    """For a target that is not refused. `state` is the header of its index, None where there is none."""
    doubt = _doubt(state, found, options)
    if state is None or state.algorithm != options.algorithm or state.block_size != options.block_size:
        kept = new_state(options.algorithm, options.block_size, offer.size)
        kept = replace(kept, generation=state.generation if state else 0)
    else:
        kept = state if doubt is None else replace(state, known=0, root=None, position=0)
    kept = replace(kept.sized(offer.size), target=found.identity)
    resumed = kept.root is None and kept.token is not None and kept.token == offer.token
    recent = state is not None and 0 <= now - state.read_whole < options.full_every
    hinted = kept.root is not None and offer.hints_from is not None and offer.hints_from == kept.token and recent
    brake = kept.generation > 0 and Permit.MASS_CHANGE not in options.permits
    most = max(LEAST_BRAKE, int(options.max_change * kept.blocks))
    return Decision(
        state=kept,
        start=kept.position if resumed else 0,
        believe_hints=hinted,
        max_changed=max(0, most - kept.changed) if brake and most < kept.blocks else kept.blocks,
        resize=offer.size if not found.block and found.size != offer.size else None,
        why=doubt or _believed(kept, offer, hinted),
    )


def _believed(kept: IndexState, offer: Offer, hinted: bool) -> str:
    """How far an index that is not in doubt goes, and why the hints go no further."""
    if kept.known != kept.blocks:
        return "the index does not cover all of it"
    if hinted or offer.hints_from is None:
        return "the index is believed"
    if offer.hints_from != kept.token:
        return "the index is believed, but hints since another moment than the target's are not"
    return "the index is believed, but hints only for some days after a run that read the whole source"


def _doubt(state: IndexState | None, found: Found, options: Options) -> str | None:
    """Why the index is not believed."""
    if state is None:
        return "there is no index yet"
    if options.full:
        return "a full pass was asked for"
    if state.algorithm != options.algorithm or state.block_size != options.block_size:
        return f"the index was made with {state.algorithm} and {state.block_size} bytes"
    if not state.closed:
        return "the last run was killed"
    if not same(state.target, found.identity, state.synced):
        return "it is another device than last time"
    if state.witness is None or found.witness is None:
        return "nothing can prove that the target was not written"
    if state.witness != found.witness:
        return "the target was written, or its machine restarted, since the last run"
    return None if state.known else "nothing is known of the target"
