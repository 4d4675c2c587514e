"""What block sync has to say, but for what only a target gives rise to (blocksync_target.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from labstore.model.block_sync import Permit
from labstore.reports.report import Report, Severity


class SyncFailed(Exception):
    """A block sync could not do what it was asked; the report says why. Nothing it wrote is called good. `told`: the
    other end said so itself."""

    def __init__(self, report: Report, told: bool = False) -> None:
        super().__init__(report.message())
        self.report, self.told = report, told


class Fault(Report):
    """The base of what ends a run."""

    severity = Severity.ERROR
    passing = False
    """Whether another try may well succeed without anybody doing anything."""
    at_once = False
    """Whether it will, because it believes less: there is nothing to wait for."""
    permit: ClassVar[Permit | None] = None
    """What a person can give with --permit, for one run, to let it through."""

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "override": f"permit {self.permit}" if self.permit else None}


class Refusal(Fault):
    """The base of what is refused until a person decides."""


# --- refused before anything was written -----------------------------------------------------------------------------


class CannotOpen(Fault):
    path: str
    reason: str

    code = "blocksync-cannot-open"

    def message(self) -> str:
        return f"{self.path} cannot be opened: {self.reason}"

    def remedy(self) -> str:
        return "look whether the path is right, on the machine that has it, and whether its user may open it"


class NotADevice(Refusal):
    path: str
    what: str

    code = "blocksync-not-a-device"

    def message(self) -> str:
        return f"{self.path} is {self.what}, neither a block device nor a regular file"

    def remedy(self) -> str:
        return "name a block device or an image file"


class TargetInUse(Refusal):
    """Mounted, held by another device, or open exclusively (upstream #39)."""

    path: str
    holder: str

    code = "blocksync-target-in-use"

    def message(self) -> str:
        return f"{self.path} is in use: {self.holder}"

    def remedy(self) -> str:
        return "unmount or release it, and mount clones of a backup, never the backup itself"


class AlreadyRunning(Refusal):
    path: str
    holder: str

    code = "blocksync-already-running"

    def message(self) -> str:
        return f"another block sync works on {self.path}: {self.holder}"

    def remedy(self) -> str:
        return "wait until it is over, or end it"


class NotAllowed(Refusal):
    """What a forced command is not for."""

    asked: str

    code = "blocksync-not-allowed"

    def message(self) -> str:
        return f"this key is not for {self.asked}"

    def remedy(self) -> str:
        return "its line in authorized_keys on the other machine says what it is for"


class OtherVersion(Fault):
    ours: int
    theirs: int

    code = "blocksync-other-version"

    def message(self) -> str:
        return f"the other end speaks version {self.theirs} of the protocol, this one version {self.ours}"

    def remedy(self) -> str:
        return "install the same labstore on both machines"


class NoHelper(Fault):
    """A library is not installed (upstream #40)."""

    library: str

    code = "blocksync-no-helper"

    def message(self) -> str:
        return f"the Python library {self.library} is not installed"

    def remedy(self) -> str:
        return "install what requirements/run.txt names (docs/operations/install.md)"


class ProgramFailed(Fault):
    """Another program that does the work, bdsync, could not do it (upstream #37: its status was not looked at)."""

    program: str
    reason: str

    code = "blocksync-program-failed"

    def message(self) -> str:
        return f"{self.program} {self.reason}"

    def remedy(self) -> str:
        return f"see that both machines have {self.program}; where both have labstore, do without it"


# --- ended on the way ------------------------------------------------------------------------------------------------


class PeerLost(Fault):
    what: str

    code = "blocksync-peer-lost"
    passing = True

    def message(self) -> str:
        return f"the connection to the other end is lost: {self.what}"

    def remedy(self) -> str:
        return "run again when it is reached; what was written is not sent again"


class BrokenProtocol(Fault):
    what: str

    code = "blocksync-broken-protocol"
    passing = True

    def message(self) -> str:
        return f"the other end sent what it must not: {self.what}"

    def remedy(self) -> str:
        return "run again; if it comes back, look for bad memory or a network that changes bytes"


class Refused(Fault):
    """A fault of the other end that this one has no report for: its message and, in the same words, its remedy."""

    words: str

    code = "blocksync-refused"

    def message(self) -> str:
        return f"the other end gave up: {self.words}"

    def remedy(self) -> str:
        return "see to that on the other machine, then run again"


class ReadFailed(Fault):
    path: str
    offset: int
    reason: str

    code = "blocksync-read-failed"

    def message(self) -> str:
        return f"{self.path} cannot be read at byte {self.offset}: {self.reason}"

    def remedy(self) -> str:
        return "look at the disk below; of a snapshot: has it overflowed?"


class WriteFailed(Fault):
    path: str
    offset: int
    reason: str

    code = "blocksync-write-failed"

    def message(self) -> str:
        return f"{self.path} cannot be written at byte {self.offset}: {self.reason}"

    def remedy(self) -> str:
        return "make room, or look at the disk below, then run again"


class HintLied(Fault):
    path: str
    offset: int

    code = "blocksync-hint-lied"
    passing = at_once = True

    def message(self) -> str:
        return f"the change hints for {self.path} left out a change at byte {self.offset}"

    def remedy(self) -> str:
        return "run again: the hints will not be believed, the whole source is read"


class TooMuchChanged(Refusal):
    path: str
    changed: int
    allowed: int

    code = "blocksync-too-much-changed"
    permit = Permit.MASS_CHANGE

    def message(self) -> str:
        return f"more than {self.allowed} blocks of {self.path} differ from last time; stopped at {self.changed}"

    def remedy(self) -> str:
        return "is it the right volume, and has nobody encrypted or erased it? if this is right: --permit mass-change"


class IndexFailed(Fault):
    path: str
    reason: str

    code = "blocksync-index-failed"

    def message(self) -> str:
        return f"the digest index in {self.path} cannot be kept: {self.reason}"

    def remedy(self) -> str:
        return "let this user write there and make room, or keep it elsewhere (--state), then run again"


class Interrupted(Fault):
    what: str

    code = "blocksync-interrupted"
    passing = True

    def message(self) -> str:
        return f"interrupted: {self.what}"

    def remedy(self) -> str:
        return "run again: what was written and read back is not sent again"
