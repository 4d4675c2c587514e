"""`backup:` of the site file: what is copied where, how often, what is kept of it and how it is proven."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from labstore.config.fields import Section, optional, part, required, setting
from labstore.config.values import ClusterText, FileText, Flag, HostText, Percentage, Text, Whole
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.long_time import long_time
from labstore.formats.units import DURATION, Unfit
from labstore.model.backup_settings import (
    BackupSettings,
    Job,
    JobName,
    Keep,
    ProofSettings,
    PullFrom,
    Reach,
    Volume,
    volume,
)
from labstore.model.block_sync import Algorithm, Limits, Options
from labstore.model.names import HostName, shown
from labstore.model.site import Cluster

_SIZE = r"^[0-9]{1,9}[KMGT]$"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def _size(text: str) -> int:
    if not isinstance(text, str) or re.fullmatch(_SIZE, text) is None:
        raise Unfit(f"{shown(text)} is not a size", "write it with its unit: 500M, 20G, 2T")
    return int(text[:-1]) * _UNITS[text[-1]]


def _time(text: str) -> float:
    return long_time(text)


def _inside(text: str) -> str:
    parts = text.strip("/").split("/")
    if not text.isprintable() or any(each in ("", ".", "..") for each in parts):
        raise ValueError(f"{shown(text)} is not a path within the volume")
    return "/".join(parts)


def _word(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9/._+@%:,= -]{1,200}", text) is None:
        raise ValueError(f"{shown(text)} is not a plain command")
    return text


def _user(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,31}", text) is None:
        raise ValueError(f"{shown(text)} is not a user's name")
    return text


JobText = Annotated[JobName, Text(JobName, "a job's name", "tools", slot="job")]
WhereText = Annotated[Volume, Text(volume, "GROUP/NAME of a logical volume, or the path of an image", "backup/tools")]
SizeText = Annotated[int, Text(_size, "a size", "200G", _SIZE, unit="K, M, G, T (bytes)")]
RateText = Annotated[int, Text(_size, "a rate", "100M", _SIZE, unit="K, M, G, T (bytes per second)")]
LongTime = Annotated[float, Text(_time, "a duration", "1d", DURATION, unit="m, h, d, w")]
InsideText = Annotated[str, Text(_inside, "a path within the volume", "backup-canary")]
CommandText = Annotated[str, Text(_word, "a command", "labstore backup serve")]
UserText = Annotated[str, Text(_user, "a user", "root")]


class KeepFile(Section):
    hourly: Whole = setting(24, "the newest of each of so many hours", ge=0, le=10000)
    daily: Whole = setting(14, "the newest of each of so many days", ge=0, le=10000)
    weekly: Whole = setting(8, "the newest of each of so many weeks", ge=0, le=10000)
    monthly: Whole = setting(0, "the newest of each of so many months", ge=0, le=10000)
    least: Whole = setting(2, "so many of the newest, and of the newest proven, stay in any case", ge=1, le=10000)
    budget: SizeText | None = optional("what all of them together may take, but for those that always stay", "no limit")


class ProofFile(Section):
    check: Flag = setting(True, "check the file system of a copy of each new generation")
    mount: Flag = setting(True, "mount it, and read from it")
    canary: InsideText | None = optional(
        "a file, written through the share, that holds the time of its writing", "none"
    )
    canary_age: LongTime = setting("1h", "how old the canary may be at the moment of the copy")
    samples: Whole = setting(64, "blocks compared by SHA-256 with what the source had", ge=0, le=256)


class ReachFile(Section):
    user: UserText = setting("root", "the user that the agent is there")
    port: Whole = setting(22, "the port of its ssh server", ge=1, le=65535)
    key_file: FileText = setting("/etc/labstore/backup_key", "the private key, for this alone")
    known_hosts: FileText = setting("/etc/labstore/backup_known_hosts", "the host keys of the sources")
    ssh_config: FileText | None = optional("an ssh configuration file in place of port, key and host keys", "not used")
    command: CommandText = setting("labstore backup serve", "what is run there; a forced command takes its place")


class LimitsFile(Section):
    send: RateText | None = optional("bytes per second over the network", "no limit")
    read: RateText | None = optional("bytes per second read on either side", "no limit")
    reads: Whole | None = optional("reads per second on either side", "no limit", ge=1)


class JobFile(Section):
    source: WhereText = required("the volume: GROUP/NAME, or the path of an image")
    target: WhereText = required("where its copy lies on the backup host: GROUP/NAME, or the path of an image")
    nodes: list[HostText] = setting([], "the machines that have it; those of `cluster` where none are named")
    cluster: ClusterText | None = optional("the pair whose standby is read", "`nodes` are asked what they are")
    pull_from: PullFrom = setting(
        "standby", "`standby`: never the node that serves; `any`: it too, if there is no other"
    )
    every: LongTime = setting("1d", "how often")
    alert_after: LongTime = setting("2d", "the age of the newest proven generation at which somebody is told")
    keep: KeepFile = part(KeepFile, "which generations are kept")
    proof: ProofFile = part(ProofFile, "how a generation is shown to restore")
    algorithm: Algorithm = setting("blake3", "`blake3`; `xxh3` is faster, and whoever writes blocks can fool it")
    scrub: Percentage = setting("3.3%", "the part of the unchanged copy that is read again in each run")
    max_change: Percentage = setting("100%", "the part that may differ before a run is stopped")
    room: SizeText | None = optional("the room of the source's snapshot", "a fifth of the volume (thick LVM only)")
    target_room: SizeText | None = optional("the room of each generation", "a fifth of the volume (thick LVM only)")
    limits: LimitsFile = part(LimitsFile, "what a copy may take")
    reach: ReachFile = part(ReachFile, "how its machines are reached")


class BackupFile(Section):
    jobs: dict[JobText, JobFile] = setting({}, "the jobs by name")
    mounts: FileText = setting("/srv/backup", "where generations are mounted to look into them")
    mount_for: LongTime = setting("1d", "for how long, unless somebody says otherwise")
    brake: Whole = setting(5, "generations of a job that one cycle may remove", ge=0)
    control: FileText | None = optional("a file with limits, read whenever it changes while a copy runs", "none")


def resolved(findings: Findings, file: BackupFile, clusters: Iterable[Cluster]) -> BackupSettings:
    """The settings; meaningless where `findings` has problems afterwards."""
    known = {cluster.name: cluster for cluster in clusters}
    jobs = {name: _job(findings, name, each, known) for name, each in file.jobs.items()}
    _each_once(findings, jobs)
    return BackupSettings(jobs, file.mounts, file.mount_for, file.brake, file.control)


def _job(findings: Findings, name: JobName, file: JobFile, clusters: dict[Any, Cluster]) -> Job:
    where = ("backup", "jobs", name)
    nodes: tuple[HostName, ...] = tuple(file.nodes)
    if file.cluster is not None:
        cluster = clusters.get(file.cluster)
        if cluster is None:
            problem = f"job {name}: there is no cluster {file.cluster}"
            findings.problem((*where, "cluster"), problem, did_you_mean(file.cluster, clusters))
        else:
            nodes = nodes or tuple(node.name for node in cluster.nodes)
    if not nodes and file.source == file.target:
        findings.problem(
            (*where, "target"), f"job {name} copies a volume to itself", "name another target, or its nodes"
        )
    if file.alert_after <= file.every:
        problem = f"job {name} runs every {file.every:g} s and somebody is told after {file.alert_after:g} s"
        findings.problem((*where, "alert_after"), problem, "let at least one run fail before: twice `every`")
    return Job(
        name=name,
        source=file.source,
        target=file.target,
        nodes=nodes,
        cluster=file.cluster,
        pull_from=file.pull_from,
        every=file.every,
        alert_after=file.alert_after,
        keep=Keep(**_values(file.keep)),
        proof=ProofSettings(**_values(file.proof)),
        options=Options(algorithm=file.algorithm, scrub=file.scrub, max_change=file.max_change),
        limits=Limits(**_values(file.limits)),
        room=file.room,
        target_room=file.target_room,
        reach=Reach(**_values(file.reach)),
    )


def _values(section: Section) -> dict[str, Any]:
    return {name: getattr(section, name) for name in type(section).model_fields}


def _each_once(findings: Findings, jobs: dict[JobName, Job]) -> None:
    """No target is written by two jobs."""
    seen: dict[str, JobName] = {}
    for name, job in jobs.items():
        first = seen.setdefault(str(job.target), name)
        if first != name:
            problem = f"jobs {first} and {name} have the same target, {job.target}"
            findings.problem(("backup", "jobs", name, "target"), problem, "give each its own")
