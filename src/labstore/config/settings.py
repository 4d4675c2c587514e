"""The settings table: one row per setting, read off the schema, for explanations, remedies and the reference page."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from labstore.config.fields import Section
from labstore.config.schema import SiteFile
from labstore.config.values import Text
from labstore.model.names import shown

THE_KINDS = "(as the kind of share says)"
"""What leaving out a setting of a project's share means."""


@dataclass(frozen=True)
class Setting:
    """One setting. `path` has `<cluster>` and the like where a name of the file's own stands.

    `what` is the kind of value (`a duration`), `unit` how quantities are written, `default` the text that leaving it
    out amounts to (None: it must be written), `limits` the range of a number.
    """

    path: tuple[str, ...]
    what: str
    meaning: str
    example: str
    default: str | None
    unit: str = ""
    limits: str = ""

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def must(self) -> bool:
        return self.default is None

    @property
    def how(self) -> str:
        """How it is written, for a remedy."""
        return self.limits or f"`{self.name}: {self.example}`"


def settings(section: type[BaseModel] = SiteFile, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting of the file, in the order of the schema."""
    for name, field in section.model_fields.items():
        inner, slots = _unfolded(field.annotation)
        here = (*path, name, *(f"<{slot}>" for slot in slots))
        if _is_section(inner):
            if inner.written_only:
                yield _switch(here, field)
            yield from settings(inner, here)
        else:
            yield _setting(here, field, section)


def sections(section: type[BaseModel] = SiteFile, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every section of the file with its meaning."""
    for name, field in section.model_fields.items():
        inner, slots = _unfolded(field.annotation)
        here = (*path, name, *(f"<{slot}>" for slot in slots))
        if _is_section(inner):
            yield here, field.description or ""
            yield from sections(inner, here)


def setting_at(loc: Sequence[str | int]) -> Setting | None:
    """The row of the setting at this place of a file, None where there is none (or a whole section)."""
    steps = [step for step in loc if isinstance(step, str)]
    section = section_at(steps[:-1])
    field = section.model_fields.get(steps[-1]) if section is not None and steps else None
    return None if field is None or section is None else _setting(tuple(steps), field, section)


def section_at(loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the section at this place of a file, None where there is none."""
    here: Any = SiteFile
    for step in loc:
        if _is_section(here):
            field = here.model_fields.get(str(step))
            here = None if field is None else _bare(field.annotation)
        else:
            arguments = typing.get_args(here)
            here = _bare(arguments[-1]) if arguments else None
    return here if _is_section(here) else None


def dotted(loc: Sequence[str | int]) -> str:
    """`clusters.primary.service_addresses[0]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_step(step)}" for step in loc)
    return text.removeprefix(".")


def _step(step: str) -> str:
    return step if step.isascii() and step.isprintable() and len(step) <= 64 else shown(step)


def written(value: object) -> str:
    """A value as the file may have it, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, enum.Enum):
        return str(value.value)
    return json.dumps(value, ensure_ascii=True, default=str)


# --- reading the schema ----------------------------------------------------------------------------------------------


def _setting(path: tuple[str, ...], field: FieldInfo, section: type[BaseModel]) -> Setting:
    text = _text(field.annotation, field.metadata)
    default = _default(field)
    return Setting(
        path=path,
        what=_what(_unfolded(field.annotation)[0], text),
        meaning=field.description or "",
        example=_example(field, text),
        default=THE_KINDS if getattr(section, "written_only", False) else default,
        unit=_unit(field, text),
        limits=_limits(field.metadata),
    )


def _switch(path: tuple[str, ...], field: FieldInfo) -> Setting:
    """The row of a section that may be a plain `true` or `false` as well."""
    return Setting(path, "true, false or a map", field.description or "", "true", "false")


def _unit(field: FieldInfo, text: Text | None) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "unit" in extra:
        return str(extra["unit"])
    return text.unit or "" if text else ""


def _default(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "without" in extra:
        without = str(extra["without"])
        return f"({without})" if " " in without else without
    if field.default_factory is not None:
        return "its defaults"
    return None if field.is_required() else written(field.default)


def _what(annotation: Any, text: Text | None) -> str:
    kind = _bare(annotation)
    origin = typing.get_origin(kind)
    if origin is list:
        return f"a list, each {text.what}" if text else f"a list of: {_choices(typing.get_args(kind)[0])}"
    if text is not None:
        return text.what
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choices(kind)
    return {bool: "true or false", int: "a whole number"}.get(kind, "a map")


def _choices(kind: Any) -> str:
    *most, last = (member.value for member in kind)
    return f"{', '.join(most)} or {last}" if most else last


def _example(field: FieldInfo, text: Text | None) -> str:
    kind = _bare(field.annotation)
    origin = typing.get_origin(kind)
    if _is_section(kind):
        must = ((name, each) for name, each in kind.model_fields.items() if each.is_required())
        return "{" + ", ".join(f"{name}: {_example(each, _text(each.annotation))}" for name, each in must) + "}"
    if origin is dict:
        return "{...}"
    if not field.is_required() and field.default not in (None, [], True, False):
        return written(field.default)
    if text is None:
        example = "true" if kind is bool else "1" if kind is int else next(iter(_bare_choices(kind))).value
    else:
        example = f'"{text.example}"' if "{" in text.example else text.example
    return f"[{example}]" if origin is list else example


def _bare_choices(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind


def _limits(metadata: Sequence[Any]) -> str:
    least = next((each.ge for each in metadata if hasattr(each, "ge")), None)
    most = next((each.le for each in metadata if hasattr(each, "le")), None)
    return "" if least is None or most is None else f"{least} to {most}"


def _text(annotation: Any, metadata: Sequence[Any] = ()) -> Text | None:
    """What says how the value (or each of its items) is written."""
    for each in metadata:
        if isinstance(each, Text):
            return each
    if typing.get_origin(annotation) is typing.Annotated:
        return _text(typing.get_args(annotation)[0], annotation.__metadata__)
    arguments = [each for each in typing.get_args(annotation) if each is not type(None)]
    return _text(arguments[-1]) if arguments else None


def _unfolded(annotation: Any) -> tuple[Any, list[str]]:
    """What stands at the end of maps by name, and the names' slots: `clusters.<cluster>` is a section."""
    slots: list[str] = []
    here = _bare(annotation)
    while typing.get_origin(here) is dict:
        key, value = typing.get_args(here)
        text = _text(key)
        slots.append(text.slot if text else "name")
        here = _bare(value)
    return here, slots


def _bare(annotation: Any) -> Any:
    """The annotation without Annotated and without `| None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in (types.UnionType, typing.Union):
        rest = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
