"""The base of every message, and the registry that reads them back from records."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from labstore.model.value import Value


class Severity(StrEnum):
    """NOTICE: good to know. WARNING: something waits for a person. ERROR: something that was wanted did not happen."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


class Override(StrEnum):
    """The named permissions a person can give for one run. There is no bare force."""

    ALLOW_MASS_REMOVAL = "allow-mass-removal"
    ALLOW_LAST_CLIENT = "allow-last-client"
    ALLOW_PROJECT_IDENTITY = "allow-project-identity"
    ALLOW_ACCOUNT_IDENTITY = "allow-account-identity"
    ALLOW_ROTATION_GAP = "allow-rotation-gap"
    ALLOW_EMPTY = "allow-empty"
    ALLOW_STANDBY = "allow-standby"
    ALLOW_UNMOUNTED = "allow-unmounted"
    ALLOW_OUTAGE = "allow-outage"
    ACCEPT_DATA_LOSS = "accept-data-loss"
    ALLOW_CONFIG_DRIFT = "allow-config-drift"
    EVICT = "evict"


OVERRIDE_HELP: Mapping[Override, str] = {
    Override.ALLOW_MASS_REMOVAL: "apply a batch of removals that is larger than the brake",
    Override.ALLOW_LAST_CLIENT: "remove the last client of a project without the cloud's word that it is deleted",
    Override.ALLOW_PROJECT_IDENTITY: "accept that a project name now belongs to another project id",
    Override.ALLOW_ACCOUNT_IDENTITY: "accept that a database account now belongs to another directory entry",
    Override.ALLOW_ROTATION_GAP: "rotate although more than one replica server does not answer",
    Override.ALLOW_EMPTY: "apply a table without a single private (or public) export",
    Override.ALLOW_STANDBY: "write exports on a node that does not hold the service address",
    Override.ALLOW_UNMOUNTED: "export from a volume that is not mounted as the site file says",
    Override.ALLOW_OUTAGE: "take the service down although the partner could not take it over",
    Override.ACCEPT_DATA_LOSS: "serve data although the partner has newer data, which is lost then",
    Override.ALLOW_CONFIG_DRIFT: "move the service although the nodes' site files or versions differ",
    Override.EVICT: "end the processes that hold a volume, and unmount what is mounted in it",
}

FAILOVER_OVERRIDES = frozenset(
    {Override.ALLOW_OUTAGE, Override.ACCEPT_DATA_LOSS, Override.ALLOW_CONFIG_DRIFT, Override.EVICT}
)
"""Those that mean something when the service is moved, and nothing to exports."""


class Report(Value, ABC):
    """One message. The fields of subclasses are the payload; wording lives in them alone.

    `subject` is what the message is about (a project, a file, a host), for grouping.
    """

    code: ClassVar[str]
    severity: ClassVar[Severity] = Severity.WARNING
    override: ClassVar[Override | None] = None
    registry: ClassVar[dict[str, type[Report]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        code = cls.__dict__.get("code")
        if code is None:
            return
        if Report.registry.setdefault(code, cls).__qualname__ != cls.__qualname__:
            raise TypeError(f"two reports share the code {code}")
        Report.registry[code] = cls

    @abstractmethod
    def message(self) -> str:
        """One sentence that says what is so, without a full stop."""

    def remedy(self) -> str | None:
        """What to do next, or None where nothing needs doing."""
        return f"if this is right: --{self.override}" if self.override else None

    @property
    def subject(self) -> str:
        first = dataclasses.fields(self)[:1]
        return str(getattr(self, first[0].name)) if first else ""

    def text(self) -> str:
        """Message and remedy as one line for people."""
        remedy = self.remedy()
        return self.message() + (f"; {remedy}" if remedy else "")

    def to_dict(self) -> dict[str, Any]:
        """For records and `--json`: the payload plus the words, so that a reader needs no table of codes."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "message": self.message(),
            "remedy": self.remedy(),
            "override": self.override.value if self.override else None,
            "data": dataclasses.asdict(self),
        }


class Remembered(Report):
    """A report read back from a record, whatever version wrote it: the words are kept as they were."""

    recorded_code: str
    words: str
    advice: str | None = None

    code = "remembered"
    severity = Severity.NOTICE

    def message(self) -> str:
        return self.words

    def remedy(self) -> str | None:
        return self.advice
