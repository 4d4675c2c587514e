"""Values that are many kinds of small things, each seldom made: reports, the messages of a protocol.

`dataclasses.dataclass(frozen=True)` writes five methods for each class and compiles them, 0.3 ms a class, whether it is
ever used or not. A program that starts with a hundred kinds of report spends more on that than on its work. Here the
methods are written once, for all.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Value:
    """The base of frozen dataclasses that cost next to nothing to declare: annotate the fields, no decorator.

    They are dataclasses to `dataclasses.fields`, `asdict` and `replace`, equal when class and fields are, hashed by
    these, and raise `dataclasses.FrozenInstanceError` when a field is set. To make one takes some microseconds longer:
    what is made by the million stays a dataclass of its own.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = cls.__doc__ or ""  # where there is none, dataclass() would write one, from the signature
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        fields = [field for field in dataclasses.fields(self) if field.init]
        if len(given) > len(fields):
            raise TypeError(f"{type(self).__name__} has {len(fields)} fields, {len(given)} were given")
        values = dict(zip((field.name for field in fields), given, strict=False))
        for field in fields[len(given) :]:
            values[field.name] = _of(self, field, named)
        if named:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(named))}, or was given it twice")
        self.__dict__.update(values)
        self.__post_init__()

    def __post_init__(self) -> None:
        """For subclasses: raise ValueError for what must not be."""

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __setattr__(self, name: str, _value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _of(made: Value, field: dataclasses.Field[Any], named: dict[str, Any]) -> Any:
    """What a field gets that was not given by its place. Raises TypeError."""
    if field.name in named:
        return named.pop(field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f"{type(made).__name__} needs its field {field.name}")
