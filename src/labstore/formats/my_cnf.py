"""The credential file: `[client]`, `user = X`, `password = Y`, a blank line; byte for byte as the original wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labstore.model.accounts import DbUser, NativeHash
from labstore.model.secret import Secret

LIMIT = 4096
"""Bytes; a credential file has about 60."""
PASSWORD = re.compile(r"[A-Za-z0-9]{8,64}")
"""What we put into files; what others put there may be anything printable without quotes, spaces and comment signs."""
_READABLE = re.compile(r"[!-~]{1,128}")
_OPTION = re.compile(r"\s*(user|password)\s*[=:]\s*(.*?)\s*", re.ASCII)


class BadCredentials(ValueError):
    """Not a credential file that we could have written. Never quotes what it read: it may be anybody's file."""


@dataclass(frozen=True, slots=True)
class Credentials:
    user: DbUser
    password: Secret

    @property
    def verifier(self) -> NativeHash:
        return NativeHash.of(self.password)


def render(credentials: Credentials) -> bytes:
    """The file's bytes. Raises ValueError for a password that is not of our alphabet."""
    if PASSWORD.fullmatch(credentials.password.reveal()) is None:
        raise ValueError("a password of ours has 8 to 64 letters and digits")
    return f"[client]\nuser = {credentials.user}\npassword = {credentials.password.reveal()}\n\n".encode()


def parse(content: bytes) -> Credentials:
    """What a credential file says. Raises BadCredentials.

    Taken as the original's reader took it: `=` or `:`, blanks around it, single quotes around the value, comment
    lines, other sections; a second value for the same option is refused.
    """
    if len(content) > LIMIT:
        raise BadCredentials(f"has more than {LIMIT} bytes")
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise BadCredentials("is not ASCII") from None
    found: dict[str, str] = {}
    section = ""
    for line in lines:
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        if line.startswith("[") and line.rstrip().endswith("]"):
            section = line.strip()
        elif section == "[client]" and (option := _OPTION.fullmatch(line)):
            if option[1] in found:
                raise BadCredentials(f"says {option[1]} twice")
            found[option[1]] = option[2].strip("'")
    return _credentials(found)


def _credentials(found: dict[str, str]) -> Credentials:
    for name in ("user", "password"):
        if name not in found:
            raise BadCredentials(f"has no {name} in its [client] section")
    if _READABLE.fullmatch(found["password"]) is None:
        raise BadCredentials("has a password that cannot be one")
    try:
        return Credentials(DbUser(found["user"]), Secret(found["password"]))
    except ValueError:
        raise BadCredentials("names a user that is not a database account of ours") from None
