"""Asking one region's Nova for servers: lists, changes, single ones. What is asked, never what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from labstore.formats.json_api import Unreadable
from labstore.formats.nova_servers import Listed, ServerPage, one_server, says_no_such_server, server_page
from labstore.model.cloud import AddressKind
from labstore.sources.openstack.cloud import Cloud
from labstore.sources.openstack.server_clock import ServerClock
from labstore.sources.openstack.trouble import Refused, Trouble

MICROVERSION = "2.69"
"""The first at which Nova says that a cell is down instead of leaving its servers out, and with it their absence."""
MOST_PAGES = 1000
EPOCH = "1970-01-01T00:00:00Z"


@dataclass
class Found:
    """Servers by id, and what was wrong with one of a project's servers, by project id."""

    servers: dict[str, Listed] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, page: ServerPage) -> None:
        self.servers.update((each.instance.id, each) for each in page.servers)
        self.unreadable.update(page.unreadable)


@dataclass(frozen=True)
class Servers:
    """One region's Nova. `kinds` are the addresses that count."""

    region: str
    cloud: Cloud
    clock: ServerClock
    kinds: frozenset[AddressKind]

    def everywhere(self, until: float) -> Found:
        """All projects' servers. Raises Refused: half a list is none."""
        return self._pages("all_tenants=1", until)

    def of_project(self, project_id: str, until: float) -> Found:
        """One project's servers, asked with a token of its own. Raises Refused."""
        return self._pages("", until, project_id)

    def changed(self, since: str, until: float, project_id: str | None = None) -> Found:
        """Servers that changed or were deleted at or after `since` (whole seconds, UTC): of all projects, or of one
        with a token of its own. Servers waiting for the scheduler are always among them. Raises Refused."""
        everywhere = "all_tenants=1&" if project_id is None else ""
        return self._pages(f"{everywhere}changes-since={since}", until, project_id)

    def record(self, server: str, until: float) -> Listed | None:
        """What the region has on record of one server, deleted or not; None where it shows nothing. Raises Refused."""
        page = self._page(f"all_tenants=1&changes-since={EPOCH}&uuid={server}&limit=1", until, None)
        # where policy does not let us filter, Nova drops the filter and shows some other server
        return next((each for each in page.servers if each.instance.id == server), None)

    def one(self, server: str, project_id: str, until: float) -> Listed | None:
        """One server; None where Nova says that there is none. Raises Refused.

        Asked with a token of its own project: with another's, Nova says of a server that lives that there is none.
        """
        url = f"{self.cloud.compute(self.region)}/servers/{server}"
        try:
            return self._counted(one_server(self.cloud.get(url, until, MICROVERSION, project_id).body, self.region))
        except Refused as refused:
            if refused.trouble is Trouble.NOT_FOUND and says_no_such_server(refused.body):
                return None
            raise
        except Unreadable as error:
            raise Refused(Trouble.UNREADABLE, str(error)) from None

    # --- pages ------------------------------------------------------------------------------------------------------

    def _pages(self, query: str, until: float, project_id: str | None = None) -> Found:
        """No `limit` is sent: with one, or with any filter, Nova leaves out the cells that are down (seen)."""
        found, marker, met = Found(), "", set[str]()
        for _ in range(MOST_PAGES):
            page = self._page("&".join(filter(None, (query, marker))), until, project_id)
            found.add(page)
            if page.marker is None:
                return found
            if page.marker in met:
                raise Refused(Trouble.UNREADABLE, "the pages go round in a circle")
            met.add(page.marker)
            marker = f"marker={page.marker}"
        raise Refused(Trouble.UNREADABLE, f"the list has more than {MOST_PAGES} pages")

    def _page(self, query: str, until: float, project_id: str | None) -> ServerPage:
        url = f"{self.cloud.compute(self.region)}/servers/detail" + (f"?{query}" if query else "")
        answer = self.cloud.get(url, until, MICROVERSION, project_id)
        try:
            page = server_page(answer.body, self.region)
        except Unreadable as error:
            raise Refused(Trouble.UNREADABLE, str(error)) from None
        self.clock.date(answer.headers.get("Date"), answer.received)
        self.clock.stamp(max((each.updated for each in page.servers if each.updated), default=None), answer.received)
        return replace(page, servers=tuple(self._counted(each) for each in page.servers))

    def _counted(self, listed: Listed) -> Listed:
        """With the addresses that count only. None left of some is "no address", not "not told"."""
        addresses = listed.instance.addresses
        if addresses is None or all(entry.kind in self.kinds for entry in addresses):
            return listed
        wanted = tuple(entry for entry in addresses if entry.kind in self.kinds)
        return replace(listed, instance=replace(listed.instance, addresses=wanted))
