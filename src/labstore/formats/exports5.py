"""exports(5): lines of exports.d files and of mountd's table (etab), to the model and back.

What is written is a narrow form, one line per export: `/path -options client client ...`. What is read is the whole
grammar of the man page: quotes, octal escapes, continuation lines, comments, default options, options per client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from labstore.model.address import Client
from labstore.model.exports import Access, Export, ExportOptions, Fsid, Owner, Security, Squash
from labstore.model.names import ExportPath, shown

WORLD = "*"


class BadExports(ValueError):
    """Text that is not exports(5), or not what labstore writes. `line` is 1-based, `problem` one sentence."""

    def __init__(self, line: int, problem: str) -> None:
        self.line, self.problem = line, problem
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One (path, client) pair as a line of text gives it; `options` still as words."""

    line: int
    path: str
    client: str
    options: tuple[str, ...]


# --- writing -------------------------------------------------------------------------------------------------------


def render(exports: Iterable[Export]) -> str:
    """The lines of one exports.d file. An export to nobody has no line: a path without a client would mean everybody
    (measured: exportfs 2.6.2 takes `/path` alone for the whole world)."""
    return "".join(_line(export) for export in exports if not export.nobody)


def _line(export: Export) -> str:
    clients = (WORLD,) if export.world else export.clients
    return f"{export.path} -{option_text(export.options)} {' '.join(clients)}\n"


@lru_cache(maxsize=4096)
def option_text(options: ExportOptions) -> str:
    """The options as words, every one that matters spelled out: no default of a program is relied on."""
    words = [options.access.value]
    words += [word for word, on in (("nohide", options.nohide), ("crossmnt", options.crossmnt)) if on]
    words += [f"fsid={options.fsid}"] if options.fsid else []
    words += [f"mountpoint={options.mountpoint}"] if options.mountpoint else []
    words.append("subtree_check" if options.subtree_check else "no_subtree_check")
    words.append("sync" if options.sync else "async")
    words += {
        Squash.ROOT: ["root_squash"],
        Squash.NONE: ["no_root_squash"],
        Squash.ALL: ["root_squash", "all_squash"],
    }[options.squash]
    words.append("insecure" if options.insecure else "secure")
    words += [f"anonuid={options.anonuid}"] if options.anonuid is not None else []
    words += [f"anongid={options.anongid}"] if options.anongid is not None else []
    words.append("sec=" + ":".join(options.security))
    return ",".join(words)


# --- reading -------------------------------------------------------------------------------------------------------


def entries(text: str) -> Iterator[Entry]:
    """Every (path, client) pair of an exports(5) text, in order. Raises BadExports at the first line that is none."""
    for number, line in _logical_lines(text):
        words = _words(number, line)
        if not words:
            continue
        path = words[0]
        defaults: tuple[str, ...] = ()
        if not path.startswith("/"):
            raise BadExports(number, f"{shown(path)} is not an absolute path")
        if len(words) == 1:
            yield Entry(number, path, WORLD, ())
        for word in words[1:]:
            if word.startswith("-"):
                defaults = _split(word[1:])
                if word is words[-1]:
                    yield Entry(number, path, WORLD, defaults)
                continue
            client, own = _client(number, word)
            yield Entry(number, path, client or WORLD, defaults + own)


def read(text: str, owner: Owner) -> tuple[Export, ...]:
    """The exports of one file, strictly: what `render` would write. Raises BadExports.

    Entries of one path must carry equal options, clients must be addresses or networks, `*` stands alone.
    """
    found: dict[ExportPath, Export] = {}
    for entry in entries(text):
        try:
            export = _export(entry, owner)
            found[export.path] = _joined(found.get(export.path), export)
        except ValueError as error:
            raise BadExports(entry.line, str(error)) from None
    return tuple(
        Export.of(export.owner, export.path, export.clients, export.options, export.world) for export in found.values()
    )


def _export(entry: Entry, owner: Owner) -> Export:
    world = entry.client == WORLD
    clients = () if world else (Client(entry.client),)
    return Export(owner, ExportPath(entry.path), parse_options(entry.options), clients, world)


def _joined(before: Export | None, now: Export) -> Export:
    if before is None:
        return now
    if before.options != now.options:
        raise ValueError(f"{now.path} has other options here than further up")
    return replace(before, clients=before.clients + now.clients, world=before.world or now.world)


@lru_cache(maxsize=4096)
def parse_options(words: tuple[str, ...]) -> ExportOptions:
    """Options from words; a later word wins, as in exports(5). Raises ValueError for one that labstore does not know.

    The words that etab adds by itself (wdelay, acl, secure_locks, no_pnfs, the nobody ids) mean the default.
    """
    values: dict[str, object] = {"subtree_check": False, "sync": True}
    squash_root, squash_all = True, False
    for word in words:
        name, _, value = word.partition("=")
        if word in ("root_squash", "no_root_squash"):
            squash_root = word == "root_squash"
        elif word in ("all_squash", "no_all_squash"):
            squash_all = word == "all_squash"
        elif word in _WORDS:
            values.update(_WORDS[word])
        elif name in _VALUES and value:
            values.update(_VALUES[name](value))
        elif word not in _DEFAULTS:
            raise ValueError(f"option {shown(word)} is not one that labstore exports with")
    values["squash"] = Squash.ALL if squash_all else Squash.ROOT if squash_root else Squash.NONE
    return ExportOptions(**values)  # type: ignore[arg-type]


_WORDS: Mapping[str, Mapping[str, object]] = {
    "rw": {"access": Access.RW},
    "ro": {"access": Access.RO},
    "sync": {"sync": True},
    "async": {"sync": False},
    "subtree_check": {"subtree_check": True},
    "no_subtree_check": {"subtree_check": False},
    "nohide": {"nohide": True},
    "hide": {"nohide": False},
    "crossmnt": {"crossmnt": True},
    "nocrossmnt": {"crossmnt": False},
    "secure": {"insecure": False},
    "insecure": {"insecure": True},
}
_DEFAULTS = frozenset({"wdelay", "secure_locks", "auth_nlm", "acl", "no_pnfs"})


_VALUES: Mapping[str, Callable[[str], Mapping[str, object]]] = {
    "fsid": lambda value: {"fsid": Fsid(value)},
    "mountpoint": lambda value: {"mountpoint": ExportPath(value)},
    "mp": lambda value: {"mountpoint": ExportPath(value)},
    "anonuid": lambda value: {"anonuid": int(value)},
    "anongid": lambda value: {"anongid": int(value)},
    "sec": lambda value: {"security": tuple(Security(flavour) for flavour in value.split(":"))},
}


# --- mountd's table ------------------------------------------------------------------------------------------------


def read_etab(text: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """path -> client -> option words, from /var/lib/nfs/etab: one `path TAB client(options)` per line, octal escapes
    for odd characters (nfs-utils support/export/xtab.c). Raises BadExports."""
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        path, tab, rest = line.partition("\t")
        client, bracket, options = rest.partition("(")
        if not tab or not bracket or not options.endswith(")"):
            raise BadExports(number, f"not a line of etab: {shown(line)}")
        table.setdefault(_unescaped(path), {})[_unescaped(client) or WORLD] = _split(options[:-1])
    return table


# --- the grammar of lines --------------------------------------------------------------------------------------------


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined; the number is that of the first."""
    held, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first or number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        yield first, held + line
        held, first = "", 0
    if held:
        yield first, held


_WORD = re.compile(r'\s*(?:(#.*)|((?:"[^"]*"|[^\s"#])(?:"[^"]*"|[^\s"])*))')


def _words(number: int, line: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(line) and line[at:].strip():
        match = _WORD.match(line, at)
        if match is None:
            raise BadExports(number, f"a quote is not closed: {shown(line[at:])}")
        if match[1]:
            break
        words.append(_unescaped(match[2].replace('"', "")))
        at = match.end()
    return words


def _client(number: int, word: str) -> tuple[str, tuple[str, ...]]:
    client, bracket, options = word.partition("(")
    if bracket and not options.endswith(")"):
        raise BadExports(number, f"the options of {shown(client)} are not closed by a bracket")
    if ")" in client:
        raise BadExports(number, f"{shown(word)} has a bracket too many")
    return client, _split(options[:-1]) if bracket else ()


def _split(options: str) -> tuple[str, ...]:
    return tuple(word for word in options.split(",") if word)


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), word)
