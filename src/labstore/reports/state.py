"""What may be said about the files in which labstore remembers."""

from __future__ import annotations

from labstore.reports.report import Report, Severity

_BROKEN = ("not a database", "malformed", "corrupt", "file is encrypted")
_FULL = ("full", "disk i/o", "no space", "quota")


class StateUnusable(Report):
    """A file of the state directory; `reason` is the system's word."""

    file: str
    reason: str

    code = "state-unusable"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.file} cannot be read or written: {self.reason}; what is on file stays served"

    def remedy(self) -> str:
        folder, reason = self.file.rpartition("/")[0] or "/", self.reason.lower()
        if any(word in reason for word in _BROKEN):
            return (
                f"move it away: mkdir {folder}/broken && mv {self.file}* {folder}/broken/ - the history and since when "
                "each client is admitted are lost, access is not: labstore goes on from the server's files by itself"
            )
        if any(word in reason for word in _FULL):
            return f"make room (df {folder}); it is tried again by itself, and what is remembered is kept"
        if "locked" in reason:
            return f"let the other process end (fuser {self.file}); it is tried again by itself"
        return f"look at its owner and rights (ls -ld {folder} {self.file}*); it is tried again by itself"
