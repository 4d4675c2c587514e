"""What may be said about exports."""

from __future__ import annotations

from datetime import datetime

from labstore.reports.render import moment
from labstore.reports.report import Override, Report, Severity


class ProjectUnknown(Report):
    project: str

    code = "project-unknown"

    def message(self) -> str:
        return f"project {self.project} is declared here but the inventory does not know it"

    def remedy(self) -> str:
        return "check its name in the mounts file, or create the project; nothing is exported for it until then"


class ProjectGone(Report):
    project: str
    project_id: str

    code = "project-gone"

    def message(self) -> str:
        return f"project {self.project} ({self.project_id}) is no longer in the inventory; its clients are kept"

    def remedy(self) -> str:
        return "if it was retired, take it out of the mounts file"


class ProjectDisabled(Report):
    project: str

    code = "project-disabled"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"project {self.project} is disabled in the inventory; its clients are kept"


class ProjectAmbiguous(Report):
    project: str
    project_ids: tuple[str, ...]

    code = "project-ambiguous"

    def message(self) -> str:
        return f"{len(self.project_ids)} projects are called {self.project}: {', '.join(self.project_ids)}"

    def remedy(self) -> str:
        return "rename one, or set inventory.openstack.domain; nothing changes for it until then"


class ProjectIdentityChanged(Report):
    """Somebody else may have made a project of the same name: it must not inherit the share."""

    project: str
    old_id: str
    new_id: str

    code = "project-identity-changed"
    severity = Severity.ERROR
    override = Override.ALLOW_PROJECT_IDENTITY

    def message(self) -> str:
        return f"the name {self.project} now belongs to project {self.new_id}; its share was granted to {self.old_id}"


class AddressContested(Report):
    """One address, instances of several projects."""

    address: str
    projects: tuple[str, ...]
    winner: str | None

    code = "address-contested"

    def message(self) -> str:
        who = f"the later instance is {self.winner}'s" if self.winner else "it cannot be told whose is later"
        return f"address {self.address} is shown by projects {' and '.join(self.projects)}; {who}"

    def remedy(self) -> str:
        if self.winner:
            return "the other project no longer mounts from it; delete the stale instance or port"
        return "neither is admitted anew; delete the stale instance or port"


class AddressNotAllowed(Report):
    project: str
    address: str

    code = "address-not-allowed"

    def message(self) -> str:
        return f"address {self.address} of project {self.project} is outside exports.allow_networks; not exported"

    def remedy(self) -> str:
        return "add its network to exports.allow_networks if it belongs to the cloud"


class SubnetContested(Report):
    project: str
    subnet: str
    address: str
    other: str

    code = "subnet-contested"

    def message(self) -> str:
        return f"{self.subnet} is declared to be wholly {self.project}'s, yet {self.address} is {self.other}'s"

    def remedy(self) -> str:
        return "single addresses are exported instead; correct exports.subnets"


class AbsenceContradicted(Report):
    """A listing that claims to be complete lacks instances that exist when asked for by id."""

    region: str
    instances: int

    code = "absence-contradicted"

    def message(self) -> str:
        return f"region {self.region}: the listing lacks {self.instances} instances that exist; nothing is removed"

    def remedy(self) -> str:
        return "have the cloud's operators look at the compute API; the clients keep their access"


class MassRemoval(Report):
    scope: str
    removed: int
    before: int
    proof: str

    code = "mass-removal"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return f"{self.scope}: {self.removed} of {self.before} clients would be removed at once ({self.proof})"


class ManyMissed(Report):
    """So many at once is a list that lies, or an accident: asking for each would be a load, and nothing would go."""

    count: int

    code = "many-missed"
    severity = Severity.ERROR
    override = Override.ALLOW_MASS_REMOVAL

    def message(self) -> str:
        return f"{self.count} instances are in no listing any more, too many to ask for each: they keep what they have"

    @property
    def subject(self) -> str:
        return ""


class LastClient(Report):
    project: str
    path: str
    client: str

    code = "last-client"
    severity = Severity.ERROR
    override = Override.ALLOW_LAST_CLIENT

    def message(self) -> str:
        return f"{self.project}: {self.client} is the last client of {self.path} and only missing from listings"


class WouldBeEmpty(Report):
    kind: str

    code = "would-be-empty"
    severity = Severity.ERROR
    override = Override.ALLOW_EMPTY

    def message(self) -> str:
        return f"not a single {self.kind} export would be left"

    def remedy(self) -> str:
        return f"declare it (exports.expect.{self.kind}: none), or once: --{self.override}"


class VolumeUnfit(Report):
    volume: str
    mount: str
    found: str

    code = "volume-unfit"
    severity = Severity.ERROR
    override = Override.ALLOW_UNMOUNTED

    def message(self) -> str:
        return f"volume {self.volume} at {self.mount}: {self.found}; nothing is exported from it"

    def remedy(self) -> str:
        return f"mount it (labstore failover status), or once: --{self.override}"


class NotActive(Report):
    cluster: str
    found: str

    code = "not-active"
    override = Override.ALLOW_STANDBY

    def message(self) -> str:
        return f"this node is not the active one of cluster {self.cluster}: {self.found}"

    def remedy(self) -> str:
        return "run it on the active node (labstore failover status)"


class RemovalFromMissing(Report):
    """A defect stopped at the last door: no planner may ask for this."""

    path: str
    client: str

    code = "removal-from-missing"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.client} of {self.path} would be removed although its region did not answer"

    def remedy(self) -> str:
        return "this is a defect of labstore: report it with the output of labstore exports plan --json"


class FileNotOurs(Report):
    """A file of the name we need was written by somebody else."""

    file: str

    code = "file-not-ours"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.file} was not written by labstore; it is left as it is"

    def remedy(self) -> str:
        return "take it over with `labstore exports adopt`, or move it away"


class ForeignFile(Report):
    file: str
    what: str

    code = "foreign-file"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.file} is not labstore's ({self.what}); it is left alone"


class ForeignExportsBroken(Report):
    """exportfs reads a file up to its first line that is not exports(5), and no further."""

    file: str
    problem: str

    code = "foreign-exports-broken"

    def message(self) -> str:
        return f"{self.file} is not labstore's and not exports(5): {self.problem}"

    def remedy(self) -> str:
        return "correct that line: exportfs passes over the rest of that file"


class ForeignExportOfOurs(Report):
    file: str
    path: str

    code = "foreign-export-of-ours"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.file} is not labstore's and exports {self.path} too: who may mount it is not what labstore says"

    def remedy(self) -> str:
        return "take that line out, or take the path out of the site file"


class ApplyFailed(Report):
    server: str
    reason: str

    code = "apply-failed"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.server}: {self.reason}"

    def remedy(self) -> str:
        return "what was served before is still served; it is tried again in the next cycle"


class NotServed(Report):
    server: str

    code = "not-served"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"{self.server} is not running; its files are kept ready"

    def remedy(self) -> str:
        return "start it; it will serve what is on file"


class ServerUnreadable(Report):
    server: str
    reason: str

    code = "server-unreadable"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"what {self.server} serves cannot be read: {self.reason}"

    def remedy(self) -> str:
        return "nothing is changed until it can"


class Pinned(Report):
    generation: int
    until: str
    who: str
    why: str

    code = "pinned"

    def message(self) -> str:
        until = moment(datetime.fromisoformat(self.until))
        return f"generation {self.generation} is pinned until {until} by {self.who}: {self.why}"

    def remedy(self) -> str:
        return "the inventory is not followed meanwhile; `labstore exports resume` ends it"
