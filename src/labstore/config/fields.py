"""What every section of the site file is made of: the base class, and the four ways in which a setting can stand."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, meaning: str, unit: str | None = None, **limits: Any) -> Any:
    """A setting with a default as people write it; it is parsed like anything else."""
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default, description=meaning, validate_default=True, json_schema_extra=extra, **limits)


def required(meaning: str, **limits: Any) -> Any:
    """A setting that has to be written."""
    return Field(description=meaning, **limits)


def optional(meaning: str, without: str, **limits: Any) -> Any:
    """A setting that may be left out; `without` says what is so then."""
    return Field(None, description=meaning, json_schema_extra={"without": without}, **limits)


def part(model: type[BaseModel], meaning: str) -> Any:
    """A section that may be left out: all its defaults hold then."""
    return Field(default_factory=model, description=meaning)


class Section(BaseModel):
    """A map with these keys and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    written_only: ClassVar[bool] = False
    """Whether leaving a setting out means "as elsewhere" instead of a default of its own."""
