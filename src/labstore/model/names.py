"""Names with a strict grammar, checked before they can meet a file name, an export line or a shell."""

from __future__ import annotations

import re
from typing import ClassVar, Self


class Name(str):
    """A string that matches its class's grammar, or does not exist.

    Raises ValueError, naming what was wanted, for anything else. Only ASCII is admitted anywhere: look-alike
    letters collided under a loose collation before (upstream #42).
    """

    __slots__ = ()
    grammar: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
    what: ClassVar[str] = "name"
    rule: ClassVar[str] = "letters, digits, '.', '_' and '-', starting with a letter or digit, at most 63"

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str):
            raise ValueError(f"a {cls.what} is text, not {type(text).__name__}: {str(text)[:40]!r}")
        if cls.grammar.fullmatch(text) is None:
            raise ValueError(f"{shown(text)} is not a {cls.what} ({cls.rule})")
        return super().__new__(cls, text)


class ProjectName(Name):
    """An OpenStack project as the mounts file and the exports.d files name it.

    A name that starts with `public_` is refused: `public_<name>.exports` is the file of a public share.
    """

    __slots__ = ()
    what = "project name"

    def __new__(cls, text: str) -> Self:
        name = super().__new__(cls, text)
        if name.startswith("public_"):
            raise ValueError(f"{shown(text)} is not a project name: 'public_' begins the file names of public shares")
        return name


class ShareName(Name):
    """A kind of share, the mount name of the mounts file: `home`, `project`, `tools-home` ..."""

    __slots__ = ()
    what = "share name"


class ClusterName(Name):
    """A named pair of nodes (or a single node)."""

    __slots__ = ()
    what = "cluster name"


class VolumeName(Name):
    """A block device with a file system, as the site file names it."""

    __slots__ = ()
    what = "volume name"


class HostName(Name):
    """A node's or service's DNS name (RFC 1123 labels, at most 253 characters); never resolved to identify anything."""

    __slots__ = ()
    what = "host name"
    grammar = re.compile(
        r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
    )
    rule = "labels of letters, digits and inner '-', joined by '.'"


class ExportPath(str):
    """An absolute, normal path that can stand in an export line without quoting.

    Only letters, digits and `._+@/-` are admitted, no `.` or `..` component, no doubled or trailing slash, not `/`
    itself. exports(5) would take more (octal escapes, quotes); nothing that labstore serves needs it.
    """

    __slots__ = ()
    _component: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9._+@-]{1,255}")

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not text.startswith("/") or len(text) > 1024:
            raise ValueError(f"{shown(text)} is not an export path: it must be absolute and at most 1024 characters")
        for component in text[1:].split("/"):
            if component in (".", "..") or cls._component.fullmatch(component) is None:
                raise ValueError(
                    f"{shown(text)} is not an export path: component {shown(component)} "
                    "(letters, digits and '._+@-', no '.' or '..', no doubled or trailing slash)"
                )
        return super().__new__(cls, text)

    @classmethod
    def normal(cls, text: str) -> Self:
        """The path with doubled and trailing slashes removed, as the published mount definitions need it."""
        return cls("/" + "/".join(part for part in text.split("/") if part) if text.startswith("/") else text)

    def under(self, parent: str) -> bool:
        """Whether this path is `parent` or lies below it (by components, not by characters)."""
        return self == parent or self.startswith(parent.rstrip("/") + "/")


def shown(text: object, limit: int = 60) -> str:
    """Hostile text made safe for a one-line message: escaped, quoted, cut."""
    escaped = ascii(text if isinstance(text, str) else str(text))
    return escaped if len(escaped) <= limit else escaped[: limit - 4] + "...'"
