"""An object, or an error that says what stands there instead."""

from __future__ import annotations

import pytest

from labstore.formats.json_api import Unreadable, document, kind


def test_an_object_is_taken() -> None:
    assert document(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>503</html>", "not JSON: '<html>503</html>'"),
        (b"", "not JSON: ''"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not an object, but a list"),
        (b"null", "not an object, but nothing"),
        (b'"text"', "not an object, but text 'text'"),
        (b"true", "not an object, but true or false"),
        (b"5", "not an object, but a number"),
    ],
)
def test_anything_else_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(Unreadable) as raised:
        document(body)
    assert str(raised.value).startswith(words)


def test_an_object_has_a_name_too() -> None:
    assert kind({}) == "an object"
