"""What should be exported to whom: declared shares, met with the inventory and with what was granted before.

Pure. A client that was granted stays until there is proof against it; a client is admitted on positive sight only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from labstore.exports.facts import ExportFacts
from labstore.exports.grants import Doubt, Grant, GrantTable
from labstore.model.address import Client
from labstore.model.cloud import Instance, Presence, Project
from labstore.model.exports import Export
from labstore.model.names import ExportPath, ProjectName
from labstore.model.site import WantedExport
from labstore.ports.inventory import RegionView, Snapshot
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Proof
from labstore.reports.exports import (
    AbsenceContradicted,
    AddressContested,
    AddressNotAllowed,
    ProjectAmbiguous,
    ProjectDisabled,
    ProjectGone,
    ProjectUnknown,
    SubnetContested,
)
from labstore.reports.report import Report

OUT_OF_USE = frozenset({"DELETED", "SOFT_DELETED"})
"""Instance states in which an address earns no new grant."""


@dataclass(frozen=True)
class DesiredExport:
    """One path: its export without clients, who shall have it, who loses it with what proof, who is kept in doubt."""

    export: Export
    project_id: str = ""
    grants: Mapping[Client, Grant] = field(default_factory=dict)
    lost: Mapping[Client, tuple[Proof, str]] = field(default_factory=dict)
    held: Mapping[Client, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Desired:
    exports: Mapping[ExportPath, DesiredExport]
    doubts: Mapping[tuple[ExportPath, Client], Doubt]
    reports: tuple[Report, ...]
    contested: frozenset[Client] = frozenset()
    """Addresses that more than one project shows."""

    @property
    def grants(self) -> GrantTable:
        return GrantTable(
            {path: wanted.export for path, wanted in self.exports.items()},
            {path: wanted.grants for path, wanted in self.exports.items()},
        )


def desired(facts: ExportFacts) -> Desired:
    """Every declared export with its clients. The same facts give the same answer."""
    view = _World(facts)
    exports = {wanted.path: _export(view, wanted) for wanted in facts.wanted}
    view.contradictions()
    return Desired(exports, view.doubts, tuple(dict.fromkeys(view.reports)), frozenset(view.owners.contested))


def restored(facts: ExportFacts, generation: int, table: GrantTable) -> Desired:
    """A former generation as the goal, as a person asked for.

    Stays out: what the cloud positively says is gone or another project's, a client that is not served now and that
    the inventory does not positively show (its address may be anybody's by now), and the world where the site file
    does not say so any more.
    """
    view = _World(facts)
    worlds = {wanted.path for wanted in facts.wanted if wanted.world}
    exports: dict[ExportPath, DesiredExport] = {}
    for path, export in table.exports.items():
        old, now = table.grants.get(path, {}), _before(facts, path)
        judged = {client: _judge(view, grant, grant.project_id) for client, grant in old.items()}
        out = {client: verdict for client, verdict in judged.items() if verdict[0] in (Proof.GONE, Proof.MOVED)}
        lost = out | {c: (Proof.DECLARED, f"not in generation {generation}") for c in now if c not in old}
        back = {c: grant for c, grant in old.items() if c not in out and (c in now or _shown(view, grant))}
        kept_out = [client for client in old if client not in back and client not in out]
        held = dict.fromkeys(kept_out, f"of generation {generation}, not let back in: the inventory does not show it")
        opened = replace(export, world=export.world and path in worlds)
        exports[path] = DesiredExport(opened, "", back, lost, held)
    return Desired(exports, {}, tuple(dict.fromkeys(view.reports)))


def _shown(view: _World, grant: Grant) -> bool:
    """Whether the inventory positively shows that this address is still its project's."""
    if grant.source == "declared" or not grant.client.single:
        return grant.source == "declared"
    there = view.facts.presence.get(grant.instance_id) is Presence.PRESENT
    return there or (bool(grant.project_id) and view.owners.owner(grant.client) == grant.project_id)


def absent_of(facts: ExportFacts, table: GrantTable) -> tuple[Instance, ...]:
    """The instances of a former generation that a complete listing does not show: worth asking for."""
    view = _World(facts)
    for grants in table.grants.values():
        for grant in grants.values():
            _judge(view, grant, grant.project_id)
    return tuple(view.missed.values())


def absent(facts: ExportFacts) -> tuple[Instance, ...]:
    """The instances that were granted something and that a complete listing no longer shows: worth asking for."""
    view = _World(facts)
    for wanted in facts.wanted:
        _export(view, wanted)
    return tuple(view.missed.values())


class _World:
    """One cycle's look at the inventory, indexed; collects reports and doubts on the way."""

    def __init__(self, facts: ExportFacts) -> None:
        self.facts = facts
        self.snapshot = facts.snapshot
        self.blind = bool(facts.snapshot.missing())
        self.owners = _Owners(facts.snapshot, _standing(facts) if self.blind else {})
        self.reports: list[Report] = []
        self.doubts: dict[tuple[ExportPath, Client], Doubt] = {}
        self.missed: dict[str, Instance] = {}
        self._contradicted: dict[str, set[str]] = {}

    def contradicted(self, grant: Grant) -> None:
        self._contradicted.setdefault(grant.region, set()).add(grant.instance_id)

    def contradictions(self) -> None:
        for region, instances in sorted(self._contradicted.items()):
            self.reports.append(AbsenceContradicted(region, len(instances)))

    @cached_property
    def by_name(self) -> Mapping[str, list[Project]]:
        named: dict[str, list[Project]] = {}
        if isinstance(self.snapshot.projects, Fact):
            for project in self.snapshot.projects.value.values():
                named.setdefault(project.name, []).append(project)
        return named


def _standing(facts: ExportFacts) -> Mapping[Client, Grant]:
    """The addresses granted to projects whose instances cannot be seen now."""
    regions = facts.snapshot.regions
    return {
        client: grant
        for grants in facts.granted.grants.values()
        for client, grant in grants.items()
        if client.single
        and grant.project_id
        and any(isinstance(region.of(grant.project_id), Missing) for region in _regions_of(regions, grant))
    }


def _regions_of(regions: Mapping[str, RegionView], grant: Grant) -> list[RegionView]:
    region = regions.get(grant.region)
    return [region] if region else list(regions.values())


class _Owners:
    """Which project shows which address. `standing` are grants of those that cannot be seen: an instance that was there
    already when such a grant was made proves nothing against it."""

    def __init__(self, snapshot: Snapshot, standing: Mapping[Client, Grant]) -> None:
        self.standing = standing
        self.first: dict[Client, Instance] = {}
        self.contested: dict[Client, list[Instance]] = {}
        for instance in snapshot.instances():
            if instance.addresses and instance.status not in OUT_OF_USE:
                for entry in instance.addresses:
                    self._claim(entry.address, instance)

    def _claim(self, address: Client, instance: Instance) -> None:
        earlier = self.first.setdefault(address, instance)
        if address in self.contested:
            self.contested[address].append(instance)
        elif earlier.project_id != instance.project_id:
            self.contested[address] = [earlier, instance]
        elif earlier.created is not None and instance.created is not None and earlier.created < instance.created:
            self.first[address] = instance

    def owner(self, address: Client) -> str | None:
        """The project id that an address belongs to; None where nobody shows it or it cannot be told."""
        winner = self.latest(address) if address in self.contested else self.first.get(address)
        earlier = self.standing.get(address)
        if winner is not None and earlier is not None and (winner.created is None or winner.created <= earlier.since):
            return earlier.project_id
        return winner.project_id if winner else None

    def latest(self, address: Client) -> Instance | None:
        """Of several claims the one made strictly last, where the inventory tells."""
        claims = self.contested[address]
        if any(claim.created is None for claim in claims):
            return None
        newest = max(map(_created, claims))
        last = {claim.project_id: claim for claim in claims if claim.created == newest}
        return next(iter(last.values())) if len(last) == 1 else None

    @cached_property
    def _sorted(self) -> list[tuple[int, int, Client]]:
        return sorted((a.version, int(a.network.network_address), a) for a in self.first)

    def within(self, subnet: Client) -> Iterable[Client]:
        """The addresses anybody shows inside a network."""
        network = subnet.network
        start = bisect_left(self._sorted, (network.version, int(network.network_address), Client("10.0.0.0")))
        for version, number, address in self._sorted[max(0, start - 1) :]:
            if (version, number) > (network.version, int(network.broadcast_address)):
                return
            if subnet.covers(address):
                yield address


def _created(instance: Instance) -> datetime:
    assert instance.created is not None
    return instance.created


# --- one export ------------------------------------------------------------------------------------------------------


def _export(view: _World, wanted: WantedExport) -> DesiredExport:
    export = Export(wanted.owner, wanted.path, wanted.options, (), wanted.world)
    before = _before(view.facts, wanted.path)
    if wanted.project is None:
        return _public(view.facts, wanted, export, before)
    project_id, seen = _identify(view, wanted.project, before, view.facts.identities.get(wanted.path, ""))
    present = _present(view, wanted.project, project_id) if seen else {}
    if _disabled(view, project_id):
        present = {address: instance for address, instance in present.items() if address in before}
    subnets = _subnets(view, wanted.project, project_id, before)
    grants = {subnet: _subnet_grant(view.facts, wanted.path, subnet, project_id, before) for subnet in subnets}
    for address, instance in present.items():
        if not any(subnet.covers(address) for subnet in subnets):
            grants[address] = _instance_grant(view.facts, wanted.path, address, instance, before)
    return _keeping(view, export, project_id, grants, before)


def _before(facts: ExportFacts, path: ExportPath) -> dict[Client, Grant]:
    """Who had it: by the last generation, and by what is on file even if no generation says so."""
    before = dict(facts.granted.grants.get(path, {}))
    stored = facts.served.stored.by_path.get(path)
    for client in stored.clients if stored else ():
        before.setdefault(client, Grant(path, client, "adopted", facts.at))
    return before


def _public(facts: ExportFacts, wanted: WantedExport, export: Export, before: Mapping[Client, Grant]) -> DesiredExport:
    grants = {
        client: before.get(client) or Grant(wanted.path, client, "declared", facts.at) for client in wanted.clients
    }
    lost = {client: (Proof.DECLARED, "no longer declared") for client in before if client not in grants}
    return DesiredExport(export, "", grants, lost)


def _identify(view: _World, name: ProjectName, before: Mapping[Client, Grant], known: str) -> tuple[str, bool]:
    """The project id behind a name, and whether the inventory positively shows that project's instances. `known` is
    the id to which the path was granted last."""
    known = next((grant.project_id for grant in before.values() if grant.project_id), known)
    if isinstance(view.snapshot.projects, Missing):
        return known, bool(known)
    found = view.by_name.get(name, [])
    if len(found) > 1:
        view.reports.append(ProjectAmbiguous(name, tuple(sorted(project.id for project in found))))
        return known, False
    if found:
        if not found[0].enabled:
            view.reports.append(ProjectDisabled(name))
        return found[0].id, True
    view.reports.append(ProjectGone(name, known) if known else ProjectUnknown(name))
    return known, bool(known)


def _disabled(view: _World, project_id: str) -> bool:
    """Whether the project is disabled: then its instances keep what they have, and nobody new is admitted."""
    projects = view.snapshot.projects
    project = projects.value.get(project_id) if isinstance(projects, Fact) else None
    return project is not None and not project.enabled


def _present(view: _World, name: ProjectName, project_id: str) -> dict[Client, Instance]:
    """The addresses at which the project's instances were seen and that are the project's."""
    present: dict[Client, Instance] = {}
    for region in view.snapshot.regions.values():
        answer = region.of(project_id)
        for instance in answer.value if isinstance(answer, Fact) else ():
            if instance.status in OUT_OF_USE:
                continue
            for entry in instance.addresses or ():
                if _is_theirs(view, entry.address, project_id) and _allowed(view, name, entry.address):
                    present.setdefault(entry.address, instance)
    return present


def _is_theirs(view: _World, address: Client, project_id: str) -> bool:
    if address in view.owners.contested:
        winner = view.owners.latest(address)
        projects = tuple(sorted({claim.project_id for claim in view.owners.contested[address]}))
        view.reports.append(AddressContested(address, projects, winner.project_id if winner else None))
    return view.owners.owner(address) == project_id


def _allowed(view: _World, name: ProjectName, address: Client) -> bool:
    networks = view.facts.settings.allow_networks
    if not networks or any(network.covers(address) for network in networks):
        return True
    view.reports.append(AddressNotAllowed(name, address))
    return False


def _subnets(view: _World, name: ProjectName, project_id: str, before: Mapping[Client, Grant]) -> tuple[Client, ...]:
    """The networks that are wholly the project's: declared in the site file or by the inventory, and not contested.
    While the inventory does not tell its projects, those that were granted before."""
    declared = view.facts.settings.subnets.get(name, ())
    shown = next((project.subnets for project in view.by_name.get(name, ()) if project.id == project_id), ())
    if isinstance(view.snapshot.projects, Missing):
        shown = tuple(client for client, grant in before.items() if grant.source == "subnet")
    found = dict.fromkeys((*declared, *shown))
    known = (subnet for subnet in found if subnet in before or not view.blind)  # who lives in a new one must be known
    return tuple(subnet for subnet in known if _wholly(view, name, subnet, project_id))


def _wholly(view: _World, name: ProjectName, subnet: Client, project_id: str) -> bool:
    for address in view.owners.within(subnet):
        other = view.owners.owner(address)
        if other != project_id:
            view.reports.append(SubnetContested(name, subnet, address, other or "nobody's for certain"))
            return False
    return bool(project_id)


def _subnet_grant(
    facts: ExportFacts, path: ExportPath, subnet: Client, project_id: str, before: Mapping[Client, Grant]
) -> Grant:
    earlier = before.get(subnet)
    since = earlier.since if earlier else facts.at
    return Grant(path, subnet, "subnet", since, project_id)


def _instance_grant(
    facts: ExportFacts, path: ExportPath, address: Client, instance: Instance, before: Mapping[Client, Grant]
) -> Grant:
    earlier = before.get(address)
    if earlier and earlier.instance_id == instance.id and earlier.region == instance.region:
        return earlier
    since = earlier.since if earlier and earlier.project_id in ("", instance.project_id) else facts.at
    return Grant(path, address, "instance", since, instance.project_id, instance.id, instance.name, instance.region)


# --- what was granted and is not seen --------------------------------------------------------------------------------


def _keeping(
    view: _World,
    export: Export,
    project_id: str,
    grants: dict[Client, Grant],
    before: Mapping[Client, Grant],
) -> DesiredExport:
    lost: dict[Client, tuple[Proof, str]] = {}
    held: dict[Client, str] = {}
    for client, grant in before.items():
        if client in grants:
            continue
        if client.single and any(not wide.single and wide.covers(client) for wide in grants):
            lost[client] = (Proof.NONE, "covered by the project's subnet")
            continue
        proof, why = _judge(view, grant, project_id)
        if proof is Proof.NONE:
            grants[client] = grant
            held[client] = why
        else:
            lost[client] = (proof, why)
    return DesiredExport(export, project_id, grants, lost, held)


def _judge(view: _World, grant: Grant, project_id: str) -> tuple[Proof, str]:
    """The proof against a grant that the inventory no longer shows, or Proof.NONE and why it is kept."""
    owner = view.owners.owner(grant.client) if grant.client.single else None
    if owner is not None and not (grant.project_id or project_id):
        return Proof.NONE, f"project {owner} shows the address, and which project has the share is not known"
    if owner is not None and owner not in (grant.project_id or project_id, project_id):
        return Proof.MOVED, f"the address is now shown by project {owner}"
    if grant.client in view.owners.contested:
        return Proof.NONE, "two projects show the address and it cannot be told whose it is"
    missing = _unanswered(view, grant, project_id)
    if missing is not None:  # another instance of the project may have the address by now, and be the one that has it
        return Proof.NONE, missing.report.message()
    if grant.instance_id in _deleted(view, grant):
        return Proof.GONE, f"instance {grant.instance_name or grant.instance_id} is deleted"
    if grant.source == "subnet":
        return _judge_subnet(view, grant, project_id)
    return _judge_absent(view, grant, project_id)


def _judge_subnet(view: _World, grant: Grant, project_id: str) -> tuple[Proof, str]:
    """A network that is not granted any more: somebody else lives in it, or nobody declares it. Its project's answers
    are all there, so its instances are granted one by one in the same step."""
    if isinstance(view.snapshot.projects, Missing):
        return Proof.NONE, view.snapshot.projects.report.message()
    strangers = [a for a in view.owners.within(grant.client) if view.owners.owner(a) not in (None, project_id)]
    if strangers:
        return Proof.MOVED, f"{strangers[0]} inside it is shown by project {view.owners.owner(strangers[0])}"
    return Proof.DECLARED, "the network is no longer declared to be the project's"


def _deleted(view: _World, grant: Grant) -> Mapping[str, datetime]:
    region = view.snapshot.regions.get(grant.region)
    return region.deleted if region and grant.instance_id else {}


def _unanswered(view: _World, grant: Grant, project_id: str) -> Missing | None:
    """The answer that is lacking to say anything about this grant, None where all were given."""
    if isinstance(view.snapshot.regions_known, Missing) and grant.region not in view.snapshot.regions:
        return view.snapshot.regions_known
    if not (grant.project_id or project_id):
        return view.snapshot.projects if isinstance(view.snapshot.projects, Missing) else None
    return next((answer for answer in _answers(view, grant, project_id) if isinstance(answer, Missing)), None)


def _answers(view: _World, grant: Grant, project_id: str) -> list[Answer[tuple[Instance, ...]]]:
    return [each.of(grant.project_id or project_id) for each in _regions_of(view.snapshot.regions, grant)]


def _judge_absent(view: _World, grant: Grant, project_id: str) -> tuple[Proof, str]:
    instance = _listed(view, grant, project_id)
    if instance is not None and instance.addresses is None:
        return Proof.NONE, f"the inventory does not tell the addresses of {instance.name or instance.id}"
    if instance is not None and instance.status in OUT_OF_USE:
        return Proof.NONE, f"instance {instance.name} is {instance.status.lower()}, which can be undone"
    if instance is not None and any(entry.address == grant.client for entry in instance.addresses or ()):
        return _judge_shown(view, grant)
    if _untold(view, grant, project_id):
        return Proof.NONE, "the inventory does not tell all addresses of the project"
    if instance is None and grant.instance_id:
        presence = view.facts.presence.get(grant.instance_id)
        if presence is Presence.GONE:
            return Proof.GONE, f"instance {grant.instance_name or grant.instance_id} is deleted"
        if presence is Presence.PRESENT:
            view.contradicted(grant)
            return Proof.NONE, f"the listing lacks {grant.instance_name}, which exists when asked for"
        view.missed[grant.instance_id] = Instance(
            grant.instance_id, grant.instance_name, grant.project_id, grant.region, "", None
        )
        if presence is Presence.UNKNOWN:
            return Proof.NONE, f"whether {grant.instance_name} still exists could not be asked"
    return _judge_listing(view, grant)


def _judge_shown(view: _World, grant: Grant) -> tuple[Proof, str]:
    """The instance still has the address, yet it was not admitted: by rule, or as another project id's."""
    networks = view.facts.settings.allow_networks
    if networks and not any(network.covers(grant.client) for network in networks):
        return Proof.DECLARED, "the address is outside exports.allow_networks"
    return Proof.NONE, f"still an instance of project id {grant.project_id}"


def _listed(view: _World, grant: Grant, project_id: str) -> Instance | None:
    for answer in _answers(view, grant, project_id):
        for instance in answer.value if isinstance(answer, Fact) else ():
            if instance.id == grant.instance_id:
                return instance
    return None


def _untold(view: _World, grant: Grant, project_id: str) -> bool:
    """For a grant whose instance is not known: whether any instance of the project might have the address."""
    if grant.instance_id:
        return False
    return any(
        instance.addresses is None
        for answer in _answers(view, grant, project_id)
        for instance in (answer.value if isinstance(answer, Fact) else ())
    )


def _judge_listing(view: _World, grant: Grant) -> tuple[Proof, str]:
    """Absent in two complete listings is proof; in one it is a doubt (DESIGN law 2)."""
    key = (grant.path, grant.client)
    regions = view.snapshot.regions
    region = regions.get(grant.region) or next(iter(regions.values()), None)
    listing = region.listing if region else 0
    doubt = view.facts.doubts.get(key) or Doubt(grant.path, grant.client, grant.region, listing, view.facts.at)
    view.doubts[key] = doubt
    if region is not None and doubt.listing != listing:
        return Proof.ABSENT, f"not in two complete listings (first missed {doubt.since:%H:%M:%S} UTC)"
    return Proof.NONE, "not in one complete listing; waiting for a second"
