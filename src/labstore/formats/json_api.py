"""What answers of JSON APIs have in common: an object, or an error that says what stands there instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from labstore.model.names import shown


class Unreadable(ValueError):
    """An answer that is not what its API says it is, or that says itself that it is not the whole."""


def document(body: bytes) -> Mapping[str, Any]:
    """The object in `body`. Raises Unreadable."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(f"not JSON: {shown(body[:40].decode('utf-8', 'replace'))}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"not an object, but {kind(value)}")
    return value


def kind(value: object) -> str:
    """What a JSON value is, for people."""
    if isinstance(value, str):
        return f"text {shown(value)}"
    names: dict[type, str] = {dict: "an object", list: "a list", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
