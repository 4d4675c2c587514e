"""What may be said about something that was asked and did not answer."""

from __future__ import annotations

from labstore.reports.report import Report


class SourceFailed(Report):
    """`source` is who was asked, `what` what it was asked for, `reason` what came instead."""

    source: str
    what: str
    reason: str

    code = "source-failed"

    def message(self) -> str:
        return f"{self.source} did not give {self.what}: {self.reason}"

    def remedy(self) -> str:
        return "nothing is removed on account of it; it is asked again by itself"
