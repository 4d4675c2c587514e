"""NFS-Ganesha's EXPORT blocks, to the model and back.

What is written is one rigid form; what is read is that form and nothing else, proven by writing it again. The server is
never handed text that did not come back the same: a syntax error stops its start, and over D-Bus or SIGHUP has ended
the running server (4.3, measured).

A comment before each block carries what the block cannot: the owner, and the options as exports(5) words. Of these,
`sync`, `subtree_check`, `crossmnt`, `nohide` and `mountpoint` mean nothing to this server; they are kept for the table.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labstore.formats.exports5 import option_text, parse_options
from labstore.model.address import Client
from labstore.model.exports import NOBODY_ID, Access, Export, ExportOptions, Fsid, Squash
from labstore.model.names import ExportPath, shown

HIGHEST_ID = 65535
"""An Export_Id has 16 bits; 0 is the root of the pseudo file system."""
WORLD = "*"
HEADER = "# Written by labstore and replaced as a whole: changes made here are lost.\n"
LONGEST_WRITABLE_PREFIX = 99
"""The lexer takes two digits of a prefix length and stumbles over the third (conf_lex.l, CIDR)."""
_LINE = 110
_ACCESS = {Access.RW: "RW", Access.RO: "RO"}
_SQUASH = {Squash.ROOT: "Root_Squash", Squash.ALL: "All_Squash", Squash.NONE: "No_Root_Squash"}
_INDENT = " " * 12


class BadGaneshaConf(ValueError):
    """Text that labstore did not write. `line` is 1-based, `problem` one sentence."""

    def __init__(self, line: int, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"line {line}: {problem}")


class Unwritable(ValueError):
    """An export that this server's configuration language cannot express; `path` and why."""

    def __init__(self, path: ExportPath, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}")


@dataclass(frozen=True, slots=True)
class Numbered:
    """An export with its Export_Id, which is part of every file handle that clients hold."""

    id: int
    export: Export

    def __post_init__(self) -> None:
        if not 0 < self.id <= HIGHEST_ID:
            raise ValueError(f"{self.id} is not an export id (1 to {HIGHEST_ID})")


# --- writing ---------------------------------------------------------------------------------------------------------


def render(exports: Iterable[Numbered]) -> str:
    """The whole file. An export to nobody has no block. Raises Unwritable."""
    return HEADER + "".join(block(each) for each in exports if not each.export.nobody)


def block(numbered: Numbered) -> str:
    """One EXPORT block with its comment; for an export to nobody without CLIENT. Raises Unwritable.

    Everything about a client stands in CLIENT, because that is what the server reads out again; the EXPORT level says
    None, so that whoever is not on the list is nobody, whatever EXPORT_DEFAULTS says. One CLIENT for all addresses:
    the server looks every word up in a list of all distinct words before it (start of 5,000 exports: 66 s, 322 s with
    a block per address).
    """
    export, options = numbered.export, numbered.export.options
    lines = [
        f"# {export.owner} {option_text(options)}",
        "EXPORT {",
        f"    Export_Id = {numbered.id};",
        f'    Path = "{export.path}";',
        f'    Pseudo = "{export.path}";',
        "    Access_Type = None;",
        *([f"    Filesystem_Id = {filesystem_id(options.fsid)};"] if options.fsid else []),
        "    FSAL { Name = VFS; }",
        *([] if export.nobody else _client_block(export)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def filesystem_id(fsid: Fsid) -> str:
    """An fsid as the two numbers below 2^63 that the server takes (2^64-1 is out of its range, measured)."""
    whole = int(fsid) if fsid.isdigit() else uuid.UUID(fsid).int
    return f"{whole >> 64 & (1 << 63) - 1}.{whole & (1 << 63) - 1}"


def _client_block(export: Export) -> Iterator[str]:
    yield "    CLIENT {"
    yield from _client_lines(export)
    yield from (f"        {name} = {value};" for name, value in _terms(export.options))
    yield "    }"


def _client_lines(export: Export) -> Iterator[str]:
    line = "        Clients = "
    names = [WORLD] if export.world else [_client(export.path, client) for client in export.clients]
    for number, name in enumerate(names):
        word = name + (";" if number == len(names) - 1 else ",")
        if len(line) + len(word) > _LINE:
            yield line.rstrip()
            line = _INDENT
        line += word + " "
    yield line.rstrip()


def _client(path: ExportPath, client: Client) -> str:
    prefix = client.network.prefixlen
    if not client.single and prefix > LONGEST_WRITABLE_PREFIX:
        raise Unwritable(path, f"NFS-Ganesha cannot be told a network of a /{prefix} ({client}); name its addresses")
    return client


def _terms(options: ExportOptions) -> Iterator[tuple[str, object]]:
    yield "Access_Type", _ACCESS[options.access]
    yield "Squash", _SQUASH[options.squash]
    yield "Anonymous_Uid", NOBODY_ID if options.anonuid is None else options.anonuid
    yield "Anonymous_Gid", NOBODY_ID if options.anongid is None else options.anongid
    yield "SecType", ", ".join(options.security)
    yield "PrivilegedPort", "FALSE" if options.insecure else "TRUE"


# --- reading ---------------------------------------------------------------------------------------------------------

_BLOCK = re.compile(
    r"# (?P<owner>\S+) (?P<options>\S+)\n"
    r"EXPORT \{\n"
    r"    Export_Id = (?P<id>[1-9][0-9]{0,4});\n"
    r'    Path = "(?P<path>[^"\n]*)";\n'
    r'    Pseudo = "[^"\n]*";\n'
    r"    Access_Type = None;\n"
    r"(?:    Filesystem_Id = [0-9.]+;\n)?"
    r"    FSAL \{ Name = VFS; \}\n"
    r"(?:    CLIENT \{\n"
    r"        Clients = (?P<clients>[^;{}]*);\n"
    r"(?:        [A-Z][A-Za-z_]* = [A-Za-z0-9_, ]+;\n){6}"
    r"    \}\n)?"
    r"\}\n"
)


def read(text: str) -> tuple[Numbered, ...]:
    """The exports of a file, strictly: blocks that `block` would not write again letter by letter raise BadGaneshaConf,
    as does an id or a path that comes twice."""
    if not text.startswith(HEADER):
        raise BadGaneshaConf(1, "labstore's first line is not there")
    at = len(HEADER)
    found: list[Numbered] = []
    while at < len(text):
        match = _BLOCK.match(text, at)
        if match is None:
            raise BadGaneshaConf(_line(text, at), f"not a block that labstore writes: {shown(text[at : at + 200])}")
        found.append(_numbered(text, match))
        at = match.end()
    _each_once(found)
    return tuple(found)


def _numbered(text: str, match: re.Match[str]) -> Numbered:
    try:
        names = re.split(r",\s+", match["clients"]) if match["clients"] else []
        world = names == [WORLD]
        options = parse_options(tuple(match["options"].split(",")))
        export = Export.of(match["owner"], match["path"], () if world else names, options, world)
        numbered = Numbered(int(match["id"]), export)
        same = block(numbered) == match[0]
    except ValueError as error:
        raise BadGaneshaConf(_line(text, match.start()), str(error)) from None
    if not same:
        raise BadGaneshaConf(_line(text, match.start()), f"the block of {export.path} is not as labstore writes it")
    return numbered


def _each_once(found: list[Numbered]) -> None:
    ids, paths = Counter(each.id for each in found), Counter(each.export.path for each in found)
    for twice in (name for name, count in [*ids.most_common(1), *paths.most_common(1)] if count > 1):
        raise BadGaneshaConf(1, f"{twice} stands there twice")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


# --- the ids ---------------------------------------------------------------------------------------------------------


def render_ids(ids: Mapping[ExportPath, int]) -> str:
    """One line `ID PATH` per path that ever had one, oldest first."""
    return "".join(f"{number} {path}\n" for path, number in ids.items())


def read_ids(text: str) -> dict[ExportPath, int]:
    """The reverse of `render_ids`. Raises BadGaneshaConf, also for an id or a path that comes twice."""
    ids: dict[ExportPath, int] = {}
    taken: set[int] = set()
    for line, words in enumerate(text.splitlines(), 1):
        number, _, path = words.partition(" ")
        try:
            if not (number.isascii() and number.isdigit() and 0 < int(number) <= HIGHEST_ID):
                raise ValueError(f"{shown(number)} is not an export id")
            if int(number) in taken or ExportPath(path) in ids:
                raise ValueError(f"{shown(words)} stands there twice")
            ids[ExportPath(path)] = int(number)
        except ValueError as error:
            raise BadGaneshaConf(line, str(error)) from None
        taken.add(int(number))
    return ids
