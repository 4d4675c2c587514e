"""The machines from which backups are pulled."""

from __future__ import annotations

from typing import Protocol

from labstore.model.backup import SourceStatus
from labstore.model.backup_settings import Job
from labstore.model.names import HostName
from labstore.reconcile.facts import Answer


class SourceNodes(Protocol):
    def status(self, job: Job, node: HostName) -> Answer[SourceStatus]:
        """What the machine says of the job's volume. Missing where it does not answer."""
