"""Asking the machines that have a job's source, over ssh, by the one key whose forced command can do nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from labstore.model.backup import SourceStatus, Standing
from labstore.model.backup_settings import Job, Reach
from labstore.model.names import HostName, shown
from labstore.ports.clock import Clock
from labstore.ports.host import Command, CommandFailed, Host
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed

STATUS = "status"
"""The one word, besides nothing at all, that the agent understands as what the caller asked ssh to run."""
_DEADLINE = 120.0
"""A machine that works hard answers late; that one is dead is found by ssh itself."""


@dataclass(frozen=True)
class SshSourceNodes:
    """See ports.source_nodes.SourceNodes."""

    host: Host
    clock: Clock

    def status(self, job: Job, node: HostName) -> Answer[SourceStatus]:
        argv = (*ssh_words(job.reach), "-o", "ConnectTimeout=10", "--", f"{job.reach.user}@{node}")
        try:
            done = self.host.run(
                Command.of(*argv, f"{job.reach.command} --job {job.name} {STATUS}", deadline=_DEADLINE)
            )
            return Fact(status_of(done.stdout, node), str(node), self.clock.now())
        except CommandFailed as error:
            return self._missing(job, node, str(error))
        except ValueError as error:
            return self._missing(job, node, f"it answered {error}")

    def _missing(self, job: Job, node: HostName, reason: str) -> Missing:
        return Missing(SourceFailed(str(node), f"volume {job.source}", reason), str(node), self.clock.now())


def ssh_words(reach: Reach) -> tuple[str, ...]:
    """ssh with its options, up to the destination."""
    config = ("-F", str(reach.ssh_config)) if reach.ssh_config else ()
    known = () if reach.ssh_config else ("-o", f"UserKnownHostsFile={reach.known_hosts}", "-i", str(reach.key_file))
    alive = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
    port = () if reach.ssh_config else ("-p", str(reach.port))
    safe = ("-o", "BatchMode=yes", "-o", "Compression=no", "-o", "ControlPath=none", "-x", "-a")
    return ("ssh", *config, *safe, *alive, *known, *port)


def remote_words(job: Job) -> tuple[str, ...]:
    """The other end of a copy, over ssh; `{host}` stands for the machine."""
    return (*ssh_words(job.reach), "--", "{host}", f"{job.reach.command} --job {job.name}")


def status_text(status: Answer[SourceStatus]) -> str:
    """What the agent answers."""
    if isinstance(status, Missing):
        return json.dumps({"missing": status.report.message()})
    said = status.value
    names = ("node", "standing", "size", "replica", "free", "unfinished", "trouble", "content")
    return json.dumps({name: getattr(said, name) for name in names})


def status_of(text: str, node: HostName) -> SourceStatus:
    """What an agent answered. Raises ValueError, with what it was, for anything else."""
    try:
        said = dict(json.loads(text[:65536]))
        if "missing" in said:
            raise ValueError(f"that it does not know: {shown(said['missing'], 300)}")
        return SourceStatus(
            node=node,
            standing=Standing(said["standing"]),
            size=_number(said["size"]),
            replica=_text(said["replica"]),
            free=None if said["free"] is None else _number(said["free"]),
            unfinished=_text(said["unfinished"]),
            trouble=_text(said["trouble"]),
            content=_text(said.get("content")),
        )
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError):
        raise ValueError(shown(text, 200)) from None


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 60:
        raise TypeError
    return value


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError
    return "".join(sign if sign.isprintable() else "?" for sign in value[:300])
