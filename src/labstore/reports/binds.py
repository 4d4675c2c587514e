"""What may be said about directories of shares and about bind mounts."""

from __future__ import annotations

from labstore.reports.report import Override, Report, Severity


class VolumeAway(Report):
    """Nothing is made on a volume that is not there: it would lie below the mount point."""

    volume: str
    found: str

    code = "binds-volume-away"

    def message(self) -> str:
        return f"volume {self.volume}: {self.found}; nothing is made on it"

    def remedy(self) -> str:
        return "run it on the active node (labstore failover status)"


class DirectoryForeign(Report):
    """Something else stands where a share's directory shall be."""

    path: str
    found: str

    code = "directory-foreign"

    def message(self) -> str:
        return f"{self.path}: {self.found}; it is left as it is"

    def remedy(self) -> str:
        return "look at it, and move it away if nobody needs it"


class DirectoryDiffers(Report):
    """A directory that is there belongs to others than a new one would. It is never changed."""

    path: str
    found: str
    wanted: str

    code = "directory-differs"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.path} is {self.found}, a new one would be {self.wanted}; it is left as it is"


class DirectoryNotMade(Report):
    path: str
    reason: str

    code = "directory-not-made"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.path} cannot be made: {self.reason}"

    def remedy(self) -> str:
        return "put that right, then run it again; what was made stays"


class GroupUnknown(Report):
    """The name service knows no such group, or does not answer: it does not say which."""

    project: str
    group: str
    reason: str

    code = "group-unknown"

    def message(self) -> str:
        return f"{self.project}: group {self.group}: {self.reason}; its directories wait"

    def remedy(self) -> str:
        return f"getent group {self.group}; or take out binds.group, and the gid of the site's files counts"


class GroupDiffers(Report):
    """The gid of the site's files is another group's: the directory would be handed to strangers."""

    project: str
    group: str
    gid: int
    found: int

    code = "group-differs"

    def message(self) -> str:
        return f"{self.project}: its gid is {self.gid}, but group {self.group} is {self.found}; its directories wait"

    def remedy(self) -> str:
        return f"write gid {self.found} for {self.project}, if that is its group"


class SourceAbsent(Report):
    """There is nothing to be shown at a place of the export tree."""

    point: str
    source: str

    code = "bind-source-absent"

    def message(self) -> str:
        return f"{self.point}: there is no directory {self.source} to be shown there"

    def remedy(self) -> str:
        return "labstore binds apply makes it"


class PointForeign(Report):
    point: str
    found: str

    code = "bind-point-foreign"

    def message(self) -> str:
        return f"{self.point}: {self.found}; it is left as it is"

    def remedy(self) -> str:
        return f"umount {self.point}, if nobody needs it"


class BindFailed(Report):
    point: str
    reason: str

    code = "bind-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.point}: {self.reason}"

    def remedy(self) -> str:
        return "put that right, then run it again"


class ManyUnbound(Report):
    """More of the export tree would go at once than one mistake may cost."""

    count: int
    of: int

    code = "binds-mass-removal"
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return f"{self.count} of {self.of} bind mounts are no longer wanted by the site's files"


class FailoverRuns(Report):
    """The service is being moved: nothing is made or mounted meanwhile."""

    holder: str

    code = "binds-failover-runs"

    def message(self) -> str:
        return f"the service is being moved: {self.holder}"

    def remedy(self) -> str:
        return "run it again when that has ended"
