"""JSON objects as dataclasses, strictly: exactly the fields, each of exactly its type. What comes from a peer or from
a file that somebody may have touched is read with this and nothing else."""

from __future__ import annotations

import dataclasses
import json
import types
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def loads(kind: type[T], raw: bytes | bytearray) -> T:
    """Raises ValueError for anything that is not exactly this dataclass (or that it refuses itself)."""
    try:
        values = json.loads(bytes(raw), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return typed(kind, values)


def dumps(value: Any) -> bytes:
    """A dataclass as JSON that `loads` reads back."""
    return json.dumps(dataclasses.asdict(value), default=_plain, separators=(",", ":")).encode()


def typed(kind: type[T], values: Any) -> T:
    """The same from what `json.loads` gave. Raises ValueError."""
    assert dataclasses.is_dataclass(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"not the fields of {kind.__name__}")
    hints = get_type_hints(kind)
    return kind(**{name: _fit(hints[name], value, name) for name, value in values.items()})


def _fit(hint: Any, value: Any, name: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _fit(next(each for each in inner if each is not type(None)), value, name)
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")
        return origin(_fit(inner[0], each, name) for each in value)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and hint in (str, int, float, bool):
        if type(value) is not hint:
            raise ValueError(f"{name} is no {hint.__name__}")
        return value
    if isinstance(hint, type) and issubclass(hint, str):
        if type(value) is not str:
            raise ValueError(f"{name} is no text")
        return hint(value)
    raise ValueError(f"{name} cannot be read")


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(type(value).__name__)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
