"""The shape of the site file: every key known, every value of its kind, all problems at once with their places."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labstore.config.schema import SiteFile
from labstore.config.settings import dotted, section_at, setting_at
from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.strict_yaml import PROBLEMS
from labstore.formats.units import Unfit
from labstore.model.names import shown

Loc = tuple[str | int, ...]

STAND_INS: Mapping[str, Any] = {"site": "unnamed", "inventory": {"source": "openstack"}}
"""What takes the place of a top-level setting that is wrong, so that the rest can still be checked."""
_SECRETS = ("password", "passwd", "secret", "token", "private_key", "credential")


def shaped(findings: Findings) -> SiteFile | None:
    """The file as pydantic sees it. Where there are problems: what is left of it without the wrong parts, so that the
    references between the right ones can be checked in the same run; None where too little is left."""
    raw: dict[str, Any] = copy.deepcopy(findings.document.value)
    for attempt in range(8):
        try:
            return SiteFile.model_validate(raw)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        if attempt == 0:
            for each in errors[:PROBLEMS]:
                _say(findings, each)
            findings.drop(len(errors) - PROBLEMS)
        if not _prune(raw, errors):
            return None
    return None


# --- what pydantic says, in our words --------------------------------------------------------------------------------


def _say(findings: Findings, error: ErrorDetails) -> None:
    loc, at_key = error["loc"], error["type"] in ("extra_forbidden", "missing")
    if loc and loc[-1] == "[key]":
        loc, at_key = loc[:-1], True
    problem, advice = _words(error, loc)
    path = loc[:-1] if error["type"] == "missing" else loc
    findings.problem(path, f"{dotted(loc)}: {problem}" if loc else problem, advice, at_key)


def _words(error: ErrorDetails, loc: Loc) -> tuple[str, str]:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Unfit):
        return str(cause), cause.remedy
    if kind == "missing":
        return "missing", _write(loc)
    if kind == "extra_forbidden":
        return "unknown key", _unknown(loc)
    if kind == "enum":
        known = str(context["expected"]).replace("'", "")
        return f"{shown(given)} is none of: {known}", did_you_mean(str(given), known.replace(" or ", ", ").split(", "))
    if kind in _WANTED:
        wanted, advice = _WANTED[kind]
        return f"{wanted} is wanted, not {_given(given)}", advice
    if kind in _LIMITS:
        return f"{given} is {_LIMITS[kind]} {next(iter(context.values()))}", _write(loc)
    if kind == "too_short":
        setting = setting_at(loc)
        return "empty", "write at least one" + (", or leave the setting out" if setting and not setting.must else "")
    return error["msg"], _write(loc)


_WANTED = {
    "int_type": ("a whole number", "write digits, without quotes and without a unit"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "list_type": ("a list", "write it in brackets: [one, two]"),
    "dict_type": ("a map", "write `key: value` lines below it, indented"),
    "model_type": ("a map", "write `key: value` lines below it, indented"),
}
_LIMITS = {"greater_than_equal": "less than", "less_than_equal": "more than"}


def _given(value: object) -> str:
    if isinstance(value, str):
        return f"text {shown(value, 40)}"
    kinds = {type(None): "nothing", bool: str(value).lower(), dict: "a map", list: "a list"}
    return kinds.get(type(value), str(value))


def _unknown(loc: Loc) -> str:
    word = str(loc[-1])
    if any(sign in word.lower() for sign in _SECRETS):
        return "secrets never stand in the site file; put them into a file that it names (clouds_file, password_file)"
    section = section_at(loc[:-1])
    return did_you_mean(word, section.model_fields) if section is not None else "take it out"


def _write(loc: Loc) -> str:
    """How the setting at `loc` is written, and what it means."""
    setting = setting_at(loc)
    return f"write {setting.how} ({setting.meaning})" if setting else "see `labstore config explain`"


# --- taking out what is wrong ----------------------------------------------------------------------------------------


def _prune(raw: dict[str, Any], errors: list[ErrorDetails]) -> bool:
    """Take the wrong parts out of `raw`; whether that could be done."""
    done = True
    for error in errors:
        loc = error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]
        if error["type"] == "missing" and len(loc) > 1:
            loc = loc[:-1]
        done = _take_out(raw, loc) and done
    return done


def _take_out(raw: dict[str, Any], loc: Loc) -> bool:
    if not loc:
        return False
    if len(loc) == 1 and loc[0] in STAND_INS:
        raw[str(loc[0])] = copy.deepcopy(STAND_INS[str(loc[0])])
        return True
    here: Any = raw
    for step in loc[:-1]:
        here = _part_of(here, step)
    if isinstance(here, list):
        here.clear()  # positions of later errors stay meaningless, not wrong
        return True
    if len(loc) == 1 and loc[0] not in raw:
        return False
    return isinstance(here, dict) and (here.pop(loc[-1], None) is not None or True)


def _part_of(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None
