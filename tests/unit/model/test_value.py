import dataclasses
from collections.abc import Callable
from typing import ClassVar

import pytest

from labstore.model.value import Value


class Point(Value):
    """A place."""

    across: int
    up: int = 0
    tags: tuple[str, ...] = ()

    code: ClassVar[str] = "point"


class Named(Point):
    label: str = "none"


class Listed(Value):
    many: list[int] = dataclasses.field(default_factory=list)


class Checked(Value):
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("below zero")


def test_fields_are_given_by_place_by_name_or_by_default() -> None:
    point = Point(3, tags=("a",))
    assert (point.across, point.up, point.tags) == (3, 0, ("a",))
    assert Named(1, 2, label="x").label == "x"
    assert [field.name for field in dataclasses.fields(Named)] == ["across", "up", "tags", "label"]


def test_each_gets_a_default_of_its_own() -> None:
    assert Listed().many is not Listed().many


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Point(up=1),  # type: ignore[call-arg]
        lambda: Point(1, 2, (), 4),  # type: ignore[call-arg]
        lambda: Point(1, across=1),  # type: ignore[misc]
        lambda: Point(1, code="x"),  # type: ignore[call-arg]
    ],
)
def test_fields_that_are_missing_or_too_many_are_refused(wrong: Callable[[], Point]) -> None:
    with pytest.raises(TypeError, match="Point"):
        wrong()


def test_values_are_equal_by_class_and_fields() -> None:
    assert Point(1, 2) == Point(1, up=2)
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    assert Point(1) != "point"
    assert len({Point(1), Point(1, 0), Named(1)}) == 2


def test_no_field_can_be_set_or_taken_away() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="across"):
        point.across = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="across"):
        del point.across  # type: ignore[misc]
    assert point.across == 1


def test_they_are_dataclasses_to_the_library() -> None:
    point = Point(1, tags=("a", "b"))
    assert dataclasses.asdict(point) == {"across": 1, "up": 0, "tags": ("a", "b")}
    assert dataclasses.replace(point, up=5) == Point(1, 5, ("a", "b"))
    assert repr(point) == "Point(across=1, up=0, tags=('a', 'b'))"
    match point:
        case Point(across, up):
            assert (across, up) == (1, 0)


def test_what_must_not_be_is_refused_by_the_value_itself() -> None:
    assert Checked(0).size == 0
    with pytest.raises(ValueError, match="below zero"):
        Checked(-1)
