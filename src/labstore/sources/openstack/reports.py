"""What the OpenStack source has to say beside `SourceFailed`."""

from __future__ import annotations

from labstore.reports.report import Report, Severity


class LoginRefused(Report):
    """Nobody in the cloud can be asked anything."""

    cloud: str
    reason: str

    code = "openstack-login-refused"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"cloud {self.cloud} lets nobody in: {self.reason}"

    def remedy(self) -> str:
        return "every export stays as it is; see to Keystone, or to user, password and project in clouds.yaml"


class WrongScope(Report):
    """With such a token Nova lists nothing, or servers without names and addresses, and calls that a success."""

    cloud: str
    scope: str

    code = "openstack-wrong-scope"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"cloud {self.cloud} logs in with {self.scope} scope, with which Nova shows no instances"

    def remedy(self) -> str:
        return "give the entry in clouds.yaml a project (any in which its user has the observer role)"


class RegionNotOffered(Report):
    """The region is configured, or was there before, and is not in the catalog of this login."""

    region: str

    code = "openstack-region-not-offered"

    def message(self) -> str:
        return f"region {self.region} is not in the cloud's catalog"

    def remedy(self) -> str:
        return "its instances keep what they have; if the region is closed for good, take it out of the site file"


class RegionStillAnswering(Report):
    """A region takes its time; the others do not wait for it. `seconds` since it was asked."""

    region: str
    seconds: int

    code = "openstack-region-still-answering"

    def message(self) -> str:
        return f"region {self.region} has not answered for {self.seconds} s"

    def remedy(self) -> str:
        return "nothing changes for its instances; its answer is taken when it comes"


class ServerUnreadable(Report):
    """One server of a project is listed in a shape that is not known; the project's list is not whole."""

    project: str
    region: str
    reason: str

    code = "openstack-server-unreadable"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"project {self.project} in region {self.region}: {self.reason}"

    def remedy(self) -> str:
        return "nothing changes for this project; please report the server's JSON as a defect"


class ServersVanished(Report):
    """Servers left the list without a word that they were deleted (a cell that is down, a list that lies)."""

    project: str
    region: str
    count: int
    example: str

    code = "openstack-servers-vanished"

    def message(self) -> str:
        what = f"{self.count} servers ({self.example}, ...)" if self.count > 1 else f"server {self.example}"
        return f"{what} of project {self.project} left the list of region {self.region}; nothing says deleted"

    def remedy(self) -> str:
        return "nothing changes for this project until the cloud tells; look for a Nova cell that is down"


class OnlyOwnProjects(Report):
    """Policy shows the user only the projects in which it has a role."""

    cloud: str

    code = "openstack-only-own-projects"

    def message(self) -> str:
        return f"cloud {self.cloud} shows its user only the projects in which it has a role"

    def remedy(self) -> str:
        return "allow it identity:list_projects, or give it a role in every project with a share"
