"""drbd.conf(5): statements and sections, as text and back. What a file says, not how it is laid out.

`include` is a statement like any other here; `drbdadm dump` gives the files already joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BARE = re.compile(r"[A-Za-z0-9/._:%+-]{1,128}")
"""Words that need no quotes. An address with its port is one of them."""
QUOTED_LIMIT = 255


class BadConf(ValueError):
    """Text that is not drbd.conf(5); `line` is 1-based."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Statement:
    """`protocol C;`"""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """`net { ... }`, `on node1 { ... }`; the words stand before the brace. A whole file has none."""

    words: tuple[str, ...]
    parts: tuple[Statement | Section, ...] = ()

    def sections(self, *words: str) -> tuple[Section, ...]:
        """The sections in it that begin with these words."""
        return tuple(p for p in self.parts if isinstance(p, Section) and p.words[: len(words)] == words)

    def value(self, name: str) -> tuple[str, ...] | None:
        """What follows `name` in the last statement of that name, None where there is none."""
        found = [p.words[1:] for p in self.parts if isinstance(p, Statement) and p.words[:1] == (name,)]
        return found[-1] if found else None


def section(*words: str, parts: Iterable[Statement | Section]) -> Section:
    return Section(words, tuple(parts))


def statement(*words: str | int) -> Statement:
    return Statement(tuple(str(word) for word in words))


# --- reading ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)|(?P<sign>[{};])|"(?P<quoted>(?:[^"\\\n]|\\[^\n]){0,255})"|(?P<word>[^\s{};"#]+)"""
)


def parse(text: str) -> Section:
    """The file as one section without words. Raises BadConf."""
    return Section((), _parts(_tokens(text), top=True))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise BadConf(line, f"not understood: {text[position : position + 40]!r}")
        if found.lastgroup == "quoted":
            yield "word", re.sub(r"\\(.)", r"\1", found["quoted"]), line
        elif found.lastgroup != "space":
            yield str(found.lastgroup), found[0], line
        line += found[0].count("\n")
        position = found.end()
    yield "end", "", line


def _parts(tokens: Iterator[tuple[str, str, int]], top: bool) -> tuple[Statement | Section, ...]:
    parts: list[Statement | Section] = []
    words: list[str] = []
    for kind, piece, line in tokens:
        if kind == "word":
            words.append(piece)
        elif piece == "{":
            if not words:
                raise BadConf(line, "a section without a name")
            parts.append(Section(tuple(words), _parts(tokens, top=False)))
            words = []
        elif piece == ";":
            if words:  # `} ;` and `;;` are harmless
                parts.append(Statement(tuple(words)))
            words = []
        elif (piece == "}" and top) or (kind == "end" and not top):
            raise BadConf(line, "a brace too many" if top else "a section that does not end")
        else:
            if words:
                raise BadConf(line, f"';' is missing after {' '.join(words)[:60]!r}")
            return tuple(parts)
    raise BadConf(0, "no end")  # pragma: no cover - _tokens always ends


# --- writing ---------------------------------------------------------------------------------------------------------


def render(file: Section) -> str:
    """The text; parse() of it gives the same again. Raises ValueError for a word that cannot be written."""
    return "".join(_lines(file.parts, ""))


def _lines(parts: Iterable[Statement | Section], indent: str) -> Iterator[str]:
    for part in parts:
        words = " ".join(_word(word) for word in part.words)
        if isinstance(part, Statement):
            yield f"{indent}{words};\n"
        else:
            yield f"{indent}{words} {{\n"
            yield from _lines(part.parts, indent + "\t")
            yield f"{indent}}}\n"


def _word(word: str) -> str:
    if BARE.fullmatch(word):
        return word
    if "\n" in word or "\0" in word:
        raise ValueError("a word of drbd.conf cannot hold a line break")
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    if len(quoted) > QUOTED_LIMIT:
        raise ValueError("a word of drbd.conf cannot have more than 255 characters")
    return f'"{quoted}"'


# --- comparing -------------------------------------------------------------------------------------------------------

SECRETS = frozenset({"shared-secret"})


def differences(wanted: Section, found: Section, place: str = "") -> tuple[str, ...]:
    """In words, what differs; the order of statements and of sections does not count. Secrets are never shown."""
    old, new = _statements(found), _statements(wanted)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    said = [f"{place}{key}: {_shown(key, old.get(key))} -> {_shown(key, new.get(key))}" for key in changed]
    wanted_inner, found_inner = _inner(wanted), _inner(found)
    for words in sorted(wanted_inner.keys() | found_inner.keys()):
        name = " ".join(words)
        if words not in found_inner:
            said.append(f"{place}{name}: is missing")
        elif words not in wanted_inner:
            said.append(f"{place}{name}: is not wanted")
        else:
            said += differences(wanted_inner[words], found_inner[words], f"{place}{name} ")
    return tuple(said)


def _statements(of: Section) -> dict[str, tuple[tuple[str, ...], ...]]:
    grouped: dict[str, list[tuple[str, ...]]] = {}
    for part in of.parts:
        if isinstance(part, Statement):
            grouped.setdefault(part.words[0], []).append(part.words[1:])
    return {name: tuple(sorted(values)) for name, values in grouped.items()}


def _inner(of: Section) -> dict[tuple[str, ...], Section]:
    return {part.words: part for part in of.parts if isinstance(part, Section)}


def _shown(key: str, values: tuple[tuple[str, ...], ...] | None) -> str:
    if values is None:
        return "(not set)"
    if key in SECRETS:
        return "(secret)"
    return ", ".join(" ".join(value) for value in values)
