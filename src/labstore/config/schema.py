"""The site file's settings: the one table behind validation, `labstore config explain`, the JSON Schema and the
reference page. A setting's default stands in the model of the site; here stands how it is written and what it means.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from labstore.config.fields import Section
from labstore.config.fields import optional as _may
from labstore.config.fields import part as _in
from labstore.config.fields import required as _must
from labstore.config.fields import setting as _set
from labstore.config.sections.backup import BackupFile
from labstore.config.sections.binds import BindsFile
from labstore.config.sections.dbusers import DbusersFile
from labstore.config.sections.failover import FailoverFile
from labstore.config.values import (
    AddressText,
    BusText,
    CallTime,
    ClientText,
    ClusterText,
    FilesystemText,
    FileText,
    Flag,
    HostText,
    ListenText,
    ListingLimit,
    ListingTime,
    MountText,
    NearFileText,
    NetworkText,
    Percentage,
    Poll,
    ProjectText,
    RegionText,
    ShareText,
    SiteText,
    TemplateText,
    UuidText,
    VolumeText,
    Whole,
    WordText,
)
from labstore.model.cloud import AddressKind
from labstore.model.exports import Access, Security, Squash
from labstore.model.site import GID_MAX, BackendKind, Expect, FsidFrom, InventoryKind


class NodeFile(Section):
    address: AddressText | None = _may("where its partner and its operators reach it", "not known")


class VolumeFile(Section):
    mount: MountText = _must("where it is mounted; every export of the volume lies below")
    filesystem: FilesystemText | None = _may("the file system type that must be found there", "any will do")
    uuid: UuidText | None = _may("the file system UUID that must be found there", "any will do")
    mounted: Flag = _set(True, "false for a plain directory that is no mount point")


class GaneshaFile(Section):
    bus: BusText = _set("unix:path=/run/dbus/system_bus_socket", "the D-Bus on which it listens")


class ClusterFile(Section):
    backend: BackendKind = _set("knfsd", "the NFS server: the kernel's, or NFS-Ganesha in user space")
    service_addresses: list[AddressText] = _set(
        [], "the node that holds all of them is the active one; without any, every node always is"
    )
    service_names: list[HostText] = _set(
        [], "host parts of `host:/path` in mounts files that mean this cluster; compared, never resolved"
    )
    nodes: dict[HostText, NodeFile] = _set({}, "its machines by host name")
    volumes: dict[VolumeText, VolumeFile] = _must("its volumes by name", min_length=1)
    exports_dir: FileText = _set(
        "/etc/exports.d", "where the kernel server's export files are written (backend: knfsd)"
    )
    ganesha: GaneshaFile = _in(GaneshaFile, "how NFS-Ganesha is reached (backend: ganesha)")
    export_root: MountText | None = _may(
        "a directory below which every share is exported from a bind mount", "shares are exported where they lie"
    )


class OptionsFile(Section):
    """Export options. Those of a project win over those of the kind of share."""

    access: Access | None = _may("`rw` or `ro`", "rw")
    squash: Squash | None = _may(
        "whose identity clients lose: `root` (root becomes nobody), `all`, or `none` (root stays root)", "root"
    )
    sync: Flag | None = _may("a reply means stable storage; false can lose acknowledged writes", "true")
    security: list[Security] | None = _may("RPC security flavours, best first", "[sys]", min_length=1)
    insecure: Flag | None = _may("take clients on ports above 1023 (behind NAT)", "false")
    nohide: Flag | None = _may("show this file system inside an exported parent", "false")
    crossmnt: Flag | None = _may("let clients cross into file systems mounted below", "false")
    anonuid: Whole | None = _may("the user that squashed callers become", "the server's nobody", ge=0, le=GID_MAX)
    anongid: Whole | None = _may("the group that squashed callers become", "the server's nobody", ge=0, le=GID_MAX)
    fsid: FsidFrom | None = _may(
        "`path`: from site, cluster and path; `gid`: the original's form, five-digit gids only; "
        "`volume`: none written, the file system's UUID counts",
        "path",
    )
    mountpoint_guard: Flag | None = _may("export nothing while the volume is not mounted", "true")


class ShareFile(OptionsFile):
    external: Flag = _set(False, "served elsewhere: known, and never exported from here")
    cluster: ClusterText | None = _may("the cluster that serves it", "must be written, unless external")
    volume: VolumeText | None = _may("the cluster's volume on which it lies", "must be written, unless external")
    path: TemplateText | None = _may(
        "the exported directory, relative to the volume's mount; `{project}` and `{gid}` stand for the project's",
        "must be written, unless external",
    )
    projects: list[ProjectText] | None = _may("the only projects that may have it", "any project", min_length=1)


class ProjectShareFile(OptionsFile):
    """What differs for this project; the rest is as the kind of share says."""

    written_only = True

    cluster: ClusterText | None = _may("another cluster than the kind's", "the kind's")
    volume: VolumeText | None = _may("another volume than the kind's", "the kind's")
    path: TemplateText | None = _may("another path than the kind's, relative to the volume's mount", "the kind's")


def _switch(value: object) -> object:
    """`true` is a share as its kind says, `false` none."""
    return {} if value is True else None if value is False else value


ShareSwitch = Annotated[
    ProjectShareFile | None, BeforeValidator(_switch, json_schema_input_type=bool | ProjectShareFile)
]


class ProjectFile(Section):
    gid: Whole | None = _may(
        "the number of the group that owns its shares", "must stand in a mounts file", ge=1, le=GID_MAX
    )
    shares: dict[ShareText, ShareSwitch] = _set(
        {}, "which shares it has: `true`, `false` (takes back what a mounts file gives), or a map of what differs"
    )
    expect: Expect = _set(
        "some", "`some`: having no client at all is suspicious and held; `none` or `any`: the last one may go"
    )


class PublicFile(OptionsFile):
    cluster: ClusterText = _must("the cluster that serves it")
    volume: VolumeText = _must("the cluster's volume on which it lies")
    path: TemplateText = _set(".", "the exported directory, relative to the volume's mount; `.` is the mount itself")
    clients: list[ClientText] | None = _may(
        "the addresses and networks that may mount it; `[]` means nobody", "must be written, unless world"
    )
    world: Flag = _set(False, "every address there is may mount it; only this line says so, never an empty list")


class OpenStackFile(Section):
    cloud: WordText = _set("novaobserver", "the entry of clouds.yaml; the credentials stay there")
    clouds_file: FileText | None = _may("the clouds.yaml to read", "where openstacksdk looks by itself")
    regions: list[RegionText] = _set([], "the regions to ask; empty for all that Keystone lists")
    domain: WordText = _set("default", "the domain (by name or id) whose projects are meant")
    addresses: list[AddressKind] = _set(
        ["fixed", "floating"], "which addresses of an instance become clients", min_length=1
    )
    call_deadline: CallTime = _set("30s", "the longest one call may take")
    listing_deadline: ListingLimit = _set("5m", "the longest a complete listing may take")
    concurrency: Whole = _set(8, "how many calls run at a time", "calls", ge=1, le=64)


class InventoryFile(Section):
    source: InventoryKind = _must("where projects and instances are known: `openstack`, or `file`")
    file: NearFileText | None = _may("the inventory file (source: file)", "must be written with source: file")
    openstack: OpenStackFile = _in(OpenStackFile, "how the cloud is asked (source: openstack)")


class AbsentBrakeFile(Section):
    """For removals whose only proof is absence from listings, and those that the site's own files cause."""

    project: Percentage = _set("50%", "the most of its clients that one project may lose at once")
    overall: Percentage = _set("5%", "the most of all clients that may go at once")
    count: Whole = _set(20, "the most clients that may go at once", "clients", ge=0, le=1_000_000)
    floor: Whole = _set(
        1, "so many clients may always go at once, whatever part they are", "clients", ge=0, le=1_000_000
    )


class ProvenBrakeFile(Section):
    """For removals on the cloud's positive word: immediate, and stopped only when they are many."""

    project: Percentage = _set("100%", "the most of its clients that one project may lose at once")
    overall: Percentage = _set("30%", "the most of all clients that may go at once")
    count: Whole = _set(200, "the most clients that may go at once", "clients", ge=0, le=1_000_000)
    floor: Whole = _set(
        10, "so many clients may always go at once, whatever part they are", "clients", ge=0, le=1_000_000
    )


class BrakeFile(Section):
    absent: AbsentBrakeFile = _in(AbsentBrakeFile, "removals on absence or on a changed declaration")
    proven: ProvenBrakeFile = _in(ProvenBrakeFile, "removals on the cloud's positive word")


class ExpectFile(Section):
    private: Expect = _set("some", "what having no private export at all means")
    public: Expect = _set("any", "what having no public export at all means")


class ExportsFile(Section):
    poll: Poll = _set("3s", "how often changes are asked for")
    listing: ListingTime = _set("5m", "how often everything is listed")
    keep_generations: Whole = _set(1000, "how many applied export tables are kept", "tables", ge=2, le=1_000_000)
    brake: BrakeFile = _in(BrakeFile, "how many removals one cycle may make before a person has to agree")
    expect: ExpectFile = _in(ExpectFile, "what emptiness means on a cluster: `some`, `any` or `none`")
    allow_networks: list[NetworkText] | None = _may(
        "instance addresses outside of these are reported and not exported", "any address", min_length=1
    )
    subnets: dict[ProjectText, list[NetworkText]] = _set(
        {}, "networks that belong wholly to a project: one client entry for all its instances"
    )


class MetricsFile(Section):
    enabled: Flag = _set(True, "false for no listener at all")
    listen: ListenText = _set("127.0.0.1:9311", "where Prometheus finds the daemon's metrics")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


NearFiles = Annotated[
    list[NearFileText], BeforeValidator(_listed, json_schema_input_type=NearFileText | list[NearFileText])
]


class SiteFile(Section):
    """The whole file."""

    site: SiteText = _must("names the installation; it goes into fsids, so it never changes")
    state_dir: FileText = _set("/var/lib/labstore", "what survives a restart")
    run_dir: FileText = _set("/run/labstore", "locks and what a restart may lose")
    clusters: dict[ClusterText, ClusterFile] = _must("the pairs of nodes (or single nodes) that serve", min_length=1)
    shares: dict[ShareText, ShareFile] = _set({}, "the kinds of share: the mount names of the mounts file")
    projects_file: NearFiles = _set([], "mounts files of the original, in either schema: one path or a list of them")
    projects: dict[ProjectText, ProjectFile] = _set({}, "projects, beside or instead of a mounts file")
    public: dict[ShareText, PublicFile] = _set({}, "shares that are not a project's")
    inventory: InventoryFile = _must("the source of projects and instances")
    exports: ExportsFile = _in(ExportsFile, "how exports follow the inventory")
    failover: dict[ClusterText, FailoverFile] = _set(
        {}, "the clusters that are pairs with replicated volumes, by name: how the service moves between their nodes"
    )
    binds: BindsFile | None = _may("directories for new projects", "the defaults below")
    backup: BackupFile | None = _may("what the backup host copies, and what it keeps", "nothing is backed up from here")
    dbusers: DbusersFile | None = _may("database accounts for tools and users", "none are kept from here")
    metrics: MetricsFile = _in(MetricsFile, "the daemon's metrics")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the site file, for editors."""
    schema = SiteFile.model_json_schema()
    _close(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "labstore site file"}


def _close(schema: Any) -> None:
    """Refuse keys that match no pattern, and drop titles that only repeat the key."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        if isinstance(schema.get("title"), str):
            del schema["title"]
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _close(part)
