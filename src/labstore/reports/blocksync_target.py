"""What block sync has to say of a target: why it is not written, and why what was written is not called good."""

from __future__ import annotations

from labstore.model.block_sync import Permit
from labstore.reports.blocksync import Fault, Refusal

# --- refused before anything was written -----------------------------------------------------------------------------


class ForeignTarget(Refusal):
    path: str
    content: str

    code = "blocksync-foreign-target"
    permit = Permit.ADOPT_TARGET

    def message(self) -> str:
        return f"{self.path} holds {self.content}, which block sync did not write"

    def remedy(self) -> str:
        return "if it may be overwritten: --permit adopt-target"


class TargetSwapped(Refusal):
    path: str
    before: str
    now: str

    code = "blocksync-target-swapped"
    permit = Permit.NEW_TARGET

    def message(self) -> str:
        return f"{self.path} is another device than last time ({self.now}, it was {self.before})"

    def remedy(self) -> str:
        return "if that is right: --permit new-target"


class SourceSwapped(Refusal):
    path: str
    before: str
    now: str

    code = "blocksync-source-swapped"
    permit = Permit.NEW_SOURCE

    def message(self) -> str:
        return f"{self.path} holds another file system than last time ({self.now}, it was {self.before})"

    def remedy(self) -> str:
        return "if that is right: --permit new-source"


class SourceShrunk(Refusal):
    path: str
    before: int
    now: int

    code = "blocksync-source-shrunk"
    permit = Permit.SHRINK

    def message(self) -> str:
        return f"{self.path} has {self.now} bytes, it had {self.before}"

    def remedy(self) -> str:
        return "if it was made smaller on purpose: --permit shrink"


class SourceEmpty(Refusal):
    path: str

    code = "blocksync-source-empty"

    def message(self) -> str:
        return f"{self.path} has no bytes at all"

    def remedy(self) -> str:
        return "is it the right source? an empty one is never copied"


class TargetTooSmall(Refusal):
    path: str
    size: int
    needed: int

    code = "blocksync-target-too-small"

    def message(self) -> str:
        return f"{self.path} has {self.size} bytes, the source has {self.needed}"

    def remedy(self) -> str:
        return "make it larger first (lvextend), then run again: only what is new is copied"


class TargetTooLarge(Refusal):
    path: str
    size: int
    needed: int

    code = "blocksync-target-too-large"
    permit = Permit.SHRINK

    def message(self) -> str:
        return f"{self.path} has {self.size} bytes, the source has only {self.needed}"

    def remedy(self) -> str:
        return "if the source was made smaller on purpose: --permit shrink"


# --- not called good -------------------------------------------------------------------------------------------------


class ReadBackDiffers(Fault):
    path: str
    offset: int

    code = "blocksync-read-back-differs"

    def message(self) -> str:
        return f"{self.path} gives other bytes at {self.offset} than were written there"

    def remedy(self) -> str:
        return "if nobody else writes to it, the disk below cannot be trusted: replace it"


class RootsDiffer(Fault):
    path: str

    code = "blocksync-roots-differ"
    passing = at_once = True

    def message(self) -> str:
        return f"the digests of source and target do not come to the same root; {self.path} is not called good"

    def remedy(self) -> str:
        return "run again: every block of both sides will be compared"


class TargetChanged(Fault):
    """The scrub found a block that is not what the index says."""

    path: str
    offset: int

    code = "blocksync-target-changed"
    passing = at_once = True

    def message(self) -> str:
        return f"{self.path} was changed behind our back: at byte {self.offset} it is not what was written there"

    def remedy(self) -> str:
        return (
            "run again: every block of both sides will be compared; find out what wrote to it, or whether its disk rots"
        )


class TargetGone(Fault):
    path: str

    code = "blocksync-target-gone"

    def message(self) -> str:
        return f"{self.path} was removed or replaced while it was written: what was written is not there"

    def remedy(self) -> str:
        return "find out who did that, then run again"


class SourceChanged(Refusal):
    path: str

    code = "blocksync-source-changed"
    permit = Permit.LIVE_SOURCE

    def message(self) -> str:
        return f"{self.path} was written while it was read: the copy is of no one moment and not called good"

    def remedy(self) -> str:
        return "copy a snapshot; if this is meant: --permit live-source"
