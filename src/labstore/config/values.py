"""The kinds of values that the site file holds, as pydantic sees them: parsed by the model's own constructors."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Strict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from labstore.formats.units import DURATION, PERCENTAGE, Unfit, duration, duration_text, percentage
from labstore.model.address import Client
from labstore.model.names import ClusterName, ExportPath, HostName, ProjectName, ShareName, VolumeName, shown
from labstore.model.site import SiteName


@dataclass(frozen=True)
class Text:
    """A value that is written as text. `make` parses it or raises ValueError; the rest is for people and editors.

    `slot` stands for the value where it is the key of a map: `clusters.<cluster>`.
    """

    make: Callable[[str], Any]
    what: str
    example: str
    pattern: str | None = None
    unit: str | None = None
    slot: str = "name"

    def parse(self, value: object) -> Any:
        """Raises Unfit, which always says what to write instead."""
        if not isinstance(value, str) and self.unit is None:
            raise Unfit(f"{self.what} is wanted, not {_kind(value)}", f'write text, in quotes if need be: "{value}"')
        try:
            return self.make(value)  # type: ignore[arg-type]
        except Unfit as error:
            unfit = error.with_traceback(None)
        except ValueError as error:
            unfit = Unfit(str(error), f"write {self.what}, like {self.example}")
        raise unfit  # out here it carries no other exception: a hostile file has a hundred thousand of them

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> JsonSchemaValue:
        found: JsonSchemaValue = {"type": "string", "examples": [self.example]}
        return {**found, "pattern": self.pattern} if self.pattern else found


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a map"}
    return names.get(type(value), "nothing")


def _matching(pattern: str, problem: str) -> Callable[[str], str]:
    """Text of this grammar; used where a value goes into a command line, a file or a header as it is."""
    compiled = re.compile(pattern)

    def make(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"{shown(text)} {problem}")
        return text

    return make


def _bounded(least: float, most: float) -> Callable[[str], float]:
    def make(text: str) -> float:
        seconds = duration(text)
        if not least <= seconds <= most:
            advice = f"write {duration_text(least)} to {duration_text(most)}"
            raise Unfit(f"{shown(text)} is not a sensible time here", advice)
        return seconds

    return make


def _duration(least: float, most: float, example: str) -> Text:
    return Text(_bounded(least, most), "a duration", example, DURATION, unit="ms, s, m, h, d, w")


_FILE = r"/(?:[A-Za-z0-9._+@%:,=-]+/?)*"


def _absolute(text: str) -> Path:
    if re.fullmatch(_FILE, text) is None or ".." in text.split("/"):
        raise ValueError(f"{shown(text)} is not an absolute path without '..' and odd characters")
    return Path(text)


def _relative_allowed(text: str) -> Path:
    if re.fullmatch(_FILE, "/" + text.removeprefix("/")) is None:
        raise ValueError(f"{shown(text)} is not a path of plain characters")
    return Path(text)


def _single(text: str) -> Client:
    client = Client(text)
    if not client.single:
        raise ValueError(f"{shown(text)} is a network, not one address")
    return client


def _volume_uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError(f"{shown(text)} is not a UUID") from None


def _template(text: str) -> str:
    """A path below a volume's mount with `{project}` and `{gid}` in it; normal, never out of the volume."""
    plain = text.replace("{project}", "p").replace("{gid}", "1")
    if "{" in plain or "}" in plain:
        raise Unfit(f"{shown(text)} has a placeholder that there is not", "known are: {project}, {gid}")
    if plain.startswith("/"):
        raise Unfit(f"{shown(text)} is absolute", "write it relative to the volume's mount; . is the mount itself")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unfit(f"{shown(text)} leaves its volume", "write it without '..'; shares stay on their volume")
    ExportPath.normal("/" + plain) if parts else None
    return "/".join(parts)


def _client(text: str) -> Client:
    if text.strip() in ("*", "0.0.0.0/0", "::/0"):
        raise Unfit(f"{shown(text)} is everybody", "write `world: true` in place of the clients to mean that")
    return Client(text)


@dataclass(frozen=True)
class Listen:
    """A numeric address and a port."""

    host: str
    port: int


def _listen(text: str) -> Listen:
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not port.isdigit() or not 0 < int(port) < 1 << 16 or (":" in bare) != host.startswith("["):
        raise ValueError(f"{shown(text)} is not address:port")
    if bare not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        _single(bare)
    return Listen(bare, int(port))


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
SiteText = Annotated[SiteName, Text(SiteName, "a name", "wikicloud", _NAME)]
ClusterText = Annotated[ClusterName, Text(ClusterName, "a cluster's name", "primary", _NAME, slot="cluster")]
VolumeText = Annotated[VolumeName, Text(VolumeName, "a volume's name", "misc", _NAME, slot="volume")]
ShareText = Annotated[ShareName, Text(ShareName, "a share's name", "home", _NAME, slot="share")]
ProjectText = Annotated[ProjectName, Text(ProjectName, "a project's name", "tools", _NAME, slot="project")]
HostText = Annotated[HostName, Text(HostName, "a host name", "labstore1004", slot="host")]
RegionText = Annotated[
    str, Text(_matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "is not a region's name"), "a region", "eqiad1-r", _NAME)
]
WordText = Annotated[
    str, Text(_matching(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", "is not a plain name"), "a name", "novaobserver")
]
AddressText = Annotated[Client, Text(_single, "one address", "10.64.37.19")]
ClientText = Annotated[Client, Text(_client, "an address or network", "172.16.0.0/21")]
NetworkText = Annotated[Client, Text(Client, "a network", "172.16.0.0/12")]
MountText = Annotated[ExportPath, Text(ExportPath.normal, "an absolute path", "/srv/misc")]
TemplateText = Annotated[str, Text(_template, "a path below the volume's mount", "shared/{project}")]
FileText = Annotated[Path, Text(_absolute, "an absolute path", "/var/lib/labstore")]
NearFileText = Annotated[Path, Text(_relative_allowed, "a path (relative ones start at this file)", "nfs-mounts.yaml")]
FilesystemText = Annotated[
    str,
    Text(_matching(r"[a-z0-9]{1,16}", "is not a file system type"), "a file system type", "ext4", "^[a-z0-9]{1,16}$"),
]
UuidText = Annotated[str, Text(_volume_uuid, "a UUID", "6c0f5b3e-2f0b-4b0e-9d0c-3f4f0a1c2d3e")]
BusText = Annotated[
    str,
    Text(
        _matching(r"unix:(?:path|abstract)=[A-Za-z0-9/._-]{1,100}", "is not a D-Bus address"),
        "a D-Bus address",
        "unix:path=/run/dbus/system_bus_socket",
    ),
]
ListenText = Annotated[Listen, Text(_listen, "address:port", "127.0.0.1:9311")]
Percentage = Annotated[float, Text(percentage, "a percentage", "5%", PERCENTAGE, unit="%")]
Poll = Annotated[float, _duration(0.1, 3600, "3s")]
ListingTime = Annotated[float, _duration(1, 86400, "5m")]
CallTime = Annotated[float, _duration(0.1, 600, "30s")]
ListingLimit = Annotated[float, _duration(1, 3600, "5m")]
