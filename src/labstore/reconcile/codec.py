"""Plans and their values as JSON and back, by their types (cattrs)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from cattrs import Converter

from labstore.reconcile.plan import Plan
from labstore.reports.report import Remembered, Report

T = TypeVar("T")


@cache
def converter() -> Converter:
    """The one converter: text types parse again when they come back, reports come back by their code."""
    made = Converter()
    made.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, str) and kind is not str,
        lambda value, kind: kind(value),
    )
    made.register_unstructure_hook(datetime, datetime.isoformat)
    made.register_structure_hook(datetime, lambda value, _: datetime.fromisoformat(value))
    made.register_unstructure_hook_func(_is_report, lambda report: report.to_dict())
    made.register_structure_hook_func(_is_report, lambda value, _: _report(value))
    return made


def plan_to_json(plan: Plan[Any]) -> dict[str, Any]:
    """A plan as plain data for `json.dumps`."""
    return cast(dict[str, Any], converter().unstructure(plan))


def plan_from_json(data: Mapping[str, Any], payload: type[T]) -> Plan[T]:
    """The plan again. Raises what cattrs and the constructors raise for data that is no plan."""
    return cast(Plan[T], converter().structure(data, Plan[payload]))  # type: ignore[valid-type]


def _is_report(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Report)


def _report(value: Mapping[str, Any]) -> Report:
    kind = Report.registry.get(value["code"])
    if kind is None:
        return Remembered(value["code"], value["message"], value["remedy"])
    names = {field.name for field in dataclasses.fields(kind)}
    data = {name: tuple(v) if isinstance(v, list) else v for name, v in value["data"].items() if name in names}
    return kind(**data)
