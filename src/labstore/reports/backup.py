"""What backups have to say."""

from __future__ import annotations

from labstore.reports.report import Override, Report, Severity


class NoSource(Report):
    """No machine can be read now; the copies there are stay as they are."""

    job: str
    reasons: tuple[str, ...]
    silent: bool = False
    """Whether nobody could be asked at all."""

    code = "backup-no-source"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: no machine can be read: {'; '.join(self.reasons) or 'none is named'}"

    def remedy(self) -> str:
        if self.silent:
            where = f"source, nodes and reach of backup.jobs.{self.job}"
            return f"look at {where}: the path, names, ssh key, and labstore there"
        return "labstore failover status; a standby that is out of step is not read"


class TargetHeld(Report):
    job: str
    target: str
    holder: str

    code = "backup-target-held"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: {self.target} cannot be written: {self.holder}"

    def remedy(self) -> str:
        return "release it; to look into a backup: labstore backup mount, which never stands in the way"


class TargetForeign(Report):
    """Something that no copy of ours wrote lies where the copy shall lie."""

    job: str
    target: str
    content: str

    code = "backup-target-foreign"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: {self.target} holds {self.content}, and it was never written as this backup"

    def remedy(self) -> str:
        return f"name another target; if that may be overwritten: labstore backup run {self.job} --permit adopt-target"


class TargetMissing(Report):
    job: str
    reason: str

    code = "backup-target-missing"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: the target cannot be looked at: {self.reason}"

    def remedy(self) -> str:
        return "make the volume, of at least the source's size, or correct backup.jobs.JOB.target"


class TargetShort(Report):
    job: str
    target: str
    size: int
    needed: int

    code = "backup-target-short"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: {self.target} has {self.size} bytes, the source has {self.needed}"

    def remedy(self) -> str:
        return f"lvextend --size {self.needed}b {self.target}; only what is new is copied"


class NoRoom(Report):
    job: str
    where: str
    needed: int
    free: int

    code = "backup-no-room"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: {self.where} has {self.free} bytes free, and a snapshot needs {self.needed}"

    def remedy(self) -> str:
        return "keep less (backup.jobs.JOB.keep), or add disks"


class TooManyPruned(Report):
    job: str
    count: int
    brake: int

    code = "backup-too-many-pruned"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return f"{self.job}: {self.count} generations would be removed at once, more than {self.brake}"


class GenerationAhead(Report):
    """No generation gets a moment that is not its own, so none can follow one that is dated after now."""

    job: str
    generation: str
    snapshot: str
    target: str

    code = "backup-generation-ahead"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: generation {self.generation} is dated after now: until then no backup is made"

    def remedy(self) -> str:
        return (
            "look at this machine's clock (timedatectl); if it is right now and was wrong then, remove the generation: "
            f"labstore snapshots remove {self.target} {self.snapshot}"
        )


class Unproven(Report):
    """The newest copy that was shown to restore is too old (upstream #37, #40)."""

    job: str
    age: str
    allowed: str

    code = "backup-unproven"
    severity = Severity.ERROR

    def message(self) -> str:
        return (
            f"{self.job}: the newest generation that is proven to restore is {self.age} old, more than {self.allowed}"
        )

    def remedy(self) -> str:
        return "labstore backup show JOB says what its last runs met"


class ProofFailed(Report):
    job: str
    generation: str
    failed: tuple[str, ...]

    code = "backup-proof-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: generation {self.generation} does not restore: {'; '.join(self.failed)}"

    def remedy(self) -> str:
        return "older proven generations are kept; look at the source's file system first"


class RunFailed(Report):
    """A copy failed; the generation before it is whole."""

    job: str
    reason: str
    advice: str = ""

    code = "backup-run-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.job}: {self.reason}"

    def remedy(self) -> str | None:
        return self.advice or None


class StaysAfterAll(Report):
    """A generation that was to go next to a newer one, which then was not made or does not restore."""

    job: str
    generation: str
    why: str

    code = "backup-stays"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.job}: generation {self.generation} stays after all: {self.why}"


class StorageFailed(Report):
    """LVM, mount or another program did not do what it was told."""

    what: str
    reason: str

    code = "backup-storage-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.what}: {self.reason}"


class BookDamaged(Report):
    """Which generations are mounted is not known: copies are made and proven as ever, and none is removed."""

    path: str
    reason: str
    root: str

    code = "backup-book-damaged"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.path}: which generations are mounted cannot be read: {self.reason}"

    def remedy(self) -> str:
        return f"unmount what `findmnt` shows below {self.root}, then remove the file; until then no generation goes"


class NotOurs(Report):
    """A snapshot that we did not take is left alone."""

    name: str

    code = "backup-not-ours"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.name} is no snapshot that labstore took; it is left alone"


class SnapshotFull(Report):
    """A snapshot overflowed, or is about to (upstream #41)."""

    name: str
    percent: int

    code = "backup-snapshot-full"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"snapshot {self.name} is {self.percent} % full; what is read from it cannot be trusted any more"

    def remedy(self) -> str:
        return "give it more room (backup.jobs.JOB.room), or run when less is written"


class NoRoomToWrite(Report):
    """To go on would cost the generation before, which keeps what is overwritten."""

    job: str
    generation: str
    room: int

    code = "backup-no-room-to-write"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.generation} has room for {self.room} bytes, and would be lost if more of the target were written"

    def remedy(self) -> str:
        return "add disks to the target's group, or keep less (backup.jobs.JOB.keep); the next run goes on from here"


class LostStep(Report):
    """The source's disk is not what it should be: what is read there is of no use."""

    volume: str
    found: str

    code = "backup-source-out-of-step"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.volume} must not be read here: {self.found}"


class NoJob(Report):
    name: str
    known: tuple[str, ...]

    code = "backup-no-job"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"there is no job {self.name}"

    def remedy(self) -> str:
        return f"known are: {', '.join(self.known) or 'none'}"


class NoGeneration(Report):
    job: str
    name: str
    known: tuple[str, ...]

    code = "backup-no-generation"
    severity = Severity.ERROR

    def message(self) -> str:
        there = f"there are {', '.join(self.known[-5:])}" if self.known else "there is none yet"
        return f"{self.job} has no generation {self.name}; {there}"

    def remedy(self) -> str:
        return f"labstore backup show {self.job}"


class RestoreRefused(Report):
    what: str
    why: str
    advice: str = ""

    code = "backup-restore-refused"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"nothing is restored: {self.what}: {self.why}"

    def remedy(self) -> str | None:
        return self.advice or None


class NotInGeneration(Report):
    job: str
    path: str
    why: str

    code = "backup-not-in-generation"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.path or 'an empty path'}: {self.why}"

    def remedy(self) -> str:
        return f"labstore backup ls {self.job} shows what is there; its names are restored one by one"


class RestoreHolds(Report):
    """Something lies where a whole volume shall go."""

    onto: str
    content: str

    code = "backup-restore-holds"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"nothing is restored: {self.onto} holds {self.content}"

    def remedy(self) -> str:
        return "look at it; if that may be overwritten: --permit adopt-target"


class MountHeld(Report):
    point: str
    reason: str

    code = "backup-mount-held"

    def message(self) -> str:
        return f"{self.point} should have gone by now and cannot be unmounted: {self.reason}"

    def remedy(self) -> str:
        return "end what uses it; the next job is not held up by it"


class MountOfNobody(Report):
    job: str
    point: str
    book: str

    code = "backup-mount-of-nobody"

    def message(self) -> str:
        return f"{self.point} belongs to job {self.job}, which is not in the site file: where its copy is is unknown"

    def remedy(self) -> str:
        return f"put the job back into the site file; or remove the copy by hand, and its entry from {self.book}"


class Waiting(Report):
    """Another job's lock, or another run of this one (upstream #38)."""

    job: str
    holder: str

    code = "backup-waiting"

    def message(self) -> str:
        return f"{self.job}: another run is at it: {self.holder}"
