"""YAML without its surprises: plain Python values, and the place of every key and value.

The parser's events are taken one by one, so that a hostile file is refused as soon as it goes too far: before its
aliases are expanded, before its depth costs stack, before a second value of a key could win.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from labstore.formats.places import Path, Places, packed, unpacked
from labstore.model.names import shown
from labstore.reports.in_file import BadFile, FileProblem, Origin

SITE_LIMIT = 1 << 20
"""Bytes of a site file."""
DATA_LIMIT = 10 << 20
"""Bytes of a mounts or inventory file."""
NODES = 500_000
"""Keys and values of one file after aliases are expanded: 10,000 instances need some 200,000."""
SITE_NODES = 100_000
"""The same of a site file: 5,000 projects written in it need some 50,000."""
DEPTH = 24
"""Levels of nesting; a site file needs seven."""
PROBLEMS = 100
"""After so many problems the rest of the file is not read."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content. `value` holds dicts with text keys, lists, text, whole numbers, decimals, booleans, None."""

    name: str
    value: dict[str, Any]
    places: Places

    def origin(self, path: Path, at_key: bool = False) -> Origin:
        """Where the value (or the key) at `path` stands."""
        place = self.places.key(path) if at_key else self.places.best(path)
        return Origin(self.name, place.line, place.column)


def load(text: bytes, name: str, limit: int = SITE_LIMIT, nodes: int = NODES) -> Document:
    """The document in `text`; `name` is what reports call the file. `limit` in bytes, `nodes` after expansion.

    Raises BadFile with every problem that could be found, each with its place and what to do about it.
    """
    if len(text) > limit:
        advice = f"is this the right file? At most {limit} bytes are read"
        raise BadFile([FileProblem(name, 0, 0, f"has {len(text)} bytes", advice)])
    builder = _Builder(name, nodes)
    value, places = builder.document(_decoded(text, name))
    if builder.problems:
        builder.problems.sort(key=lambda problem: (problem.line, problem.column))
        raise BadFile(builder.problems)
    return Document(name, value, places)


# --- characters ------------------------------------------------------------------------------------------------------

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)")
_CONTROL_IN_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _decoded(text: bytes, name: str) -> str:
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8", "replace")
        problem, advice = f"byte 0x{text[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        raise BadFile([_problem_after(name, before, problem, advice)]) from None
    bad = _CONTROL.search(decoded)
    if bad is not None:
        problem = f"control character U+{ord(bad[0][0]):04X}"
        raise BadFile([_problem_after(name, decoded[: bad.start()], problem, "take it out")])
    return decoded


def _problem_after(name: str, before: str, problem: str, advice: str) -> FileProblem:
    """A report about the character that follows the text `before`."""
    return FileProblem(name, before.count("\n") + 1, len(before) - before.rfind("\n"), problem, advice)


# --- events to values ------------------------------------------------------------------------------------------------


class _EnoughError(Exception):
    """Reading goes no further; why is among the problems."""


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    places: Places | int
    nodes: int


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Builder:
    """Builds one document, collecting problems on the way."""

    def __init__(self, name: str, nodes: int) -> None:
        self.problems: list[FileProblem] = []
        self._name = name
        self._nodes, self._most_nodes = 0, nodes
        self._anchors: dict[str, _Anchored | None] = {}
        self._events: Iterator[Event] = iter(())
        self._last = (0, 0)

    def document(self, text: str) -> tuple[dict[str, Any], Places]:
        """The value and places of the whole; meaningless where there are problems."""
        try:
            self._events = yaml.parse(text, Loader=_LOADER)
            return self._whole()
        except _EnoughError:
            pass
        except yaml.MarkedYAMLError as error:
            self._syntax(error, text)
        except yaml.YAMLError as error:
            self._say(self._last, f"not YAML: {shown(str(error))}", _SYNTAX_ADVICE)
        return {}, Places(0)

    def _whole(self) -> tuple[dict[str, Any], Places]:
        next(self._events)
        start = next(self._events)
        if isinstance(start, StreamEndEvent):
            self._stop((0, 0), "the file is empty", "the top level is a map: lines of `key: value`")
        top = next(self._events)
        value, places = self._value(top, 0)
        next(self._events)
        after = next(self._events)
        if isinstance(after, DocumentStartEvent):
            self._say(_mark(after), "a second document begins here", "one file holds one document: take `---` out")
        if not isinstance(value, dict) or not isinstance(places, Places):
            self._stop(_mark(top), f"the top level is {_kind(value)}", "the top level is a map: lines of `key: value`")
        return value, places

    def _value(self, event: Event, depth: int) -> tuple[Any, Places | int]:
        self._count(event, 1)
        if isinstance(event, AliasEvent):
            return self._alias(event)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        if event.tag is not None:
            self._say(_mark(event), f"tag {shown(event.tag)}", "tags are not taken: write the plain value")
        before = self._nodes
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        value, places = self._content(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, places, self._nodes - before)
        return value, places

    def _content(self, event: ScalarEvent | CollectionStartEvent, depth: int) -> tuple[Any, Places | int]:
        if isinstance(event, ScalarEvent):
            return self._scalar(event), packed(*_mark(event))
        if depth >= DEPTH:
            self._stop(_mark(event), f"more than {DEPTH} levels of nesting", "is this the right file?")
        return self._map(event, depth) if isinstance(event, MappingStartEvent) else self._list(event, depth)

    def _alias(self, event: AliasEvent) -> tuple[Any, Places | int]:
        if event.anchor not in self._anchors:
            self._stop(
                _mark(event),
                f"alias {shown(event.anchor)} of nothing above",
                "quote text that begins with *, or define the anchor before it is used",
            )
        anchored = self._anchors[event.anchor]
        if anchored is None:
            self._stop(_mark(event), f"alias {shown(event.anchor)} stands inside what it names", "write the value out")
        self._count(event, anchored.nodes)
        if isinstance(anchored.places, int):
            return anchored.value, packed(*_mark(event))
        return anchored.value, Places(packed(*_mark(event)), anchored.places.keys, anchored.places.parts)

    def _list(self, event: Event, depth: int) -> tuple[list[Any], Places]:
        values: list[Any] = []
        parts: dict[str | int, Places | int] = {}
        while not isinstance(item := self._next(), SequenceEndEvent):
            value, parts[len(values)] = self._value(item, depth + 1)
            values.append(value)
        return values, Places(packed(*_mark(event)), {}, parts)

    def _map(self, event: Event, depth: int) -> tuple[dict[str, Any], Places]:
        values: dict[str, Any] = {}
        keys: dict[str, int] = {}
        parts: dict[str | int, Places | int] = {}
        while not isinstance(item := self._next(), MappingEndEvent):
            key = self._key(item, depth)
            value, places = self._value(self._next(), depth + 1)
            if key is None:
                continue
            if key in values:
                first = unpacked(keys[key]).line
                problem = f"key {shown(key)} stands here and in line {first}"
                self._say(_mark(item), problem, "each key once: remove or rename one of them")
                continue
            values[key], keys[key], parts[key] = value, packed(*_mark(item)), places
        return values, Places(packed(*_mark(event)), keys, parts)

    def _key(self, event: Event, depth: int) -> str | None:
        """The text of a key, or None where it is none (and a problem was noted)."""
        if not isinstance(event, ScalarEvent):
            self._value(event, depth + 1)
            self._say(_mark(event), "a key that is not plain text", "write the key as one word")
            return None
        self._count(event, 1)
        for what in (event.tag and f"tag {shown(event.tag)}", event.anchor and f"anchor {shown(event.anchor)}"):
            if what:
                self._say(_mark(event), f"{what} on a key", "write the key as one word")
        kind = _plain_kind(event)
        if kind == "merge":
            self._say(_mark(event), "merge key <<", "write the values out: a merged key hides where it comes from")
        elif kind != "str":
            problem = f"key {shown(event.value)} is {_KINDS.get(kind, kind)} to YAML"
            self._say(_mark(event), problem, f'quote it: "{event.value}"' if event.value else "give the key a name")
        elif _CONTROL_IN_VALUE.search(event.value) or "\n" in event.value:
            self._say(_mark(event), f"key {shown(event.value)} has a control character", "take it out")
        else:
            return str(event.value)
        return None

    def _scalar(self, event: ScalarEvent) -> Any:
        kind = _plain_kind(event)
        text = str(event.value)
        if kind == "str":
            if _CONTROL_IN_VALUE.search(text):
                self._say(_mark(event), f"{shown(text)} has a control character", "take it out")
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        if kind in ("int", "float") and _DECIMAL.fullmatch(text):
            return int(text) if kind == "int" else float(text)
        self._say(_mark(event), *_surprise(kind, text))
        return None

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _next(self) -> Event:
        event = next(self._events)
        self._last = _mark(event)
        return event

    def _count(self, event: Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._most_nodes:
            problem = f"more than {self._most_nodes} keys and values (aliases expanded)"
            self._stop(_mark(event), problem, "is this the right file? Aliases of aliases grow without bound")

    def _say(self, mark: tuple[int, int], problem: str, advice: str) -> None:
        self.problems.append(FileProblem(self._name, mark[0] + 1, mark[1] + 1, problem, advice))
        if len(self.problems) >= PROBLEMS:
            raise _EnoughError

    def _stop(self, mark: tuple[int, int], problem: str, advice: str) -> NoReturn:
        self._say(mark, problem, advice)
        raise _EnoughError

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> None:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(part) for part in (error.context, error.problem) if part)
        place = (mark.line, mark.column) if mark else self._last
        if mark and "cannot start" in problem and text[mark.index : mark.index + 1] == "\t":
            problem = "a tab in the indentation"
        advice = next((advice for sign, advice in _ADVICE if sign in problem), _SYNTAX_ADVICE)
        self.problems.append(FileProblem(self._name, place[0] + 1, place[1] + 1, f"not YAML: {problem}", advice))


_SYNTAX_ADVICE = "look at the indentation and the quotes at and above this place"
_ADVICE = (
    ("a tab", "indent with spaces, not with tabs"),
    ("scanning an alias", 'quote text that begins with *: "*"'),
    ("scanning an anchor", 'quote text that begins with &: "&..."'),
    ("mapping values are not allowed", 'quote text that has ": " in it, and look at the indentation'),
    ("quoted scalar", "close the quotes"),
    ("flow sequence", "close the list with ]"),
    ("flow mapping", "close the map with }"),
    ("cannot start any token", "quote text that begins with this character"),
)

# --- scalars ---------------------------------------------------------------------------------------------------------

_RESOLVER: Any = Resolver()
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,18})?")
_KINDS = {
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "null": "nothing",
    "timestamp": "a date",
    "value": "a special word",
}


def _plain_kind(event: ScalarEvent) -> str:
    """What YAML 1.1 takes a scalar for: `str`, `int`, `bool`, `null`, `float`, `timestamp`, `merge`, `value`."""
    if event.style or event.tag is not None:
        return "str"
    return str(_RESOLVER.resolve(ScalarNode, event.value, (True, False))).rpartition(":")[2]


def _surprise(kind: str, text: str) -> tuple[str, str]:
    """Problem and remedy for a plain scalar that means something else than it looks."""
    if kind in ("int", "float"):
        if ":" in text:
            return f"{shown(text)} is a number of base 60 to YAML", f'quote it: "{shown(text)[1:-1]}"'
        return f"{shown(text)} is not a plain decimal number", "write it in decimal, without leading zeros, or quote it"
    return f"{shown(text)} is {_KINDS.get(kind, kind)} to YAML", f'quote it: "{shown(text)[1:-1]}"'


def _kind(value: object) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def _mark(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line, mark.column) if mark else (0, 0)
