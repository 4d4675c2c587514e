"""The ways in which a cloud does not answer, as one exception."""

from __future__ import annotations

from enum import StrEnum


class Trouble(StrEnum):
    UNREACHABLE = "unreachable"
    """No connection, or it broke."""
    LATE = "late"
    """No whole answer within the deadline."""
    UNAUTHORIZED = "unauthorized"
    """401. Keystone does not say why: a wrong password, no role, a disabled and a deleted project all look alike."""
    FORBIDDEN = "forbidden"
    """403: policy."""
    NOT_FOUND = "not found"
    """404, whoever said so."""
    BUSY = "busy"
    """429 or 503, also after waiting."""
    BROKEN = "broken"
    """Any other 5xx."""
    UNREADABLE = "unreadable"
    """An answer that is not what the API says it is: cut short, too large, another shape, another version."""
    UNUSABLE = "unusable"
    """What we were told to do makes no sense: the configuration, the scope, a request the API rejects."""


class Refused(Exception):
    """Something was asked and not answered. `retry_after` is in seconds, where the server named a time; `body` is what
    came with a 404, since that may be an answer all the same."""

    def __init__(self, trouble: Trouble, reason: str, retry_after: float | None = None, body: bytes = b"") -> None:
        super().__init__(reason)
        self.trouble, self.reason, self.retry_after, self.body = trouble, reason, retry_after, body
