"""What NFS-Ganesha 4.3 really answered (tests/captures/ganesha), to the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labstore.formats.ganesha_dbus import (
    BadReply,
    Listed,
    LiveExport,
    NotAllTaken,
    Terms,
    count_taken,
    export_shown,
    exports_listed,
)
from labstore.model.exports import Access, Export, ExportOptions, Security, Squash

CAPTURES = Path(__file__).parents[2] / "captures" / "ganesha" / "4.3"


def body(name: str) -> Any:
    return json.loads((CAPTURES / f"{name}.json").read_text())["body"]


def shown(name: str) -> LiveExport:
    return export_shown(body(name))


def test_the_list_of_exports_has_the_pseudo_root() -> None:
    assert set(exports_listed(body("show-two"))) == {Listed(0, "/"), Listed(5, "/srv/lab/a"), Listed(6, "/srv/lab/b")}


def test_a_list_of_clients_is_read_with_their_terms() -> None:
    wanted = Export.of("tools", "/srv/lab/a", ["127.77.0.5", "10.1.0.0/16", "2001:db8::5", "2001:db8:1::/64"])
    found = shown("display-spelled-out")
    assert {client.name for client in found.clients} == set(wanted.clients)
    assert {client.terms for client in found.clients} == {Terms.of(ExportOptions())}
    assert found.serves(wanted)


def test_everybody_is_a_star() -> None:
    assert shown("display-world").serves(Export.of("public_scratch", "/srv/lab/c", world=True))


def test_other_terms_are_read() -> None:
    options = ExportOptions(access=Access.RO, squash=Squash.ALL, security=(Security.KRB5I, Security.KRB5))
    assert shown("display-read-only-all-squash-krb5").serves(Export.of("x", "/srv/lab/c", ["10.0.0.9"], options))


def test_terms_that_are_inherited_are_not_ours() -> None:
    """What EXPORT_DEFAULTS says cannot be read, so it is never relied on."""
    (client,) = shown("display-inherited").clients
    assert client.terms is None


def test_an_empty_list_serves_nobody() -> None:
    assert shown("display-empty").clients == ()
    assert not shown("display-empty").serves(Export.of("x", "/srv/lab/c", ["10.0.0.1"]))


@pytest.mark.parametrize(
    "wanted",
    [
        Export.of("x", "/srv/lab/other", ["127.77.0.5", "10.1.0.0/16", "2001:db8::5", "2001:db8:1::/64"]),
        Export.of("x", "/srv/lab/a", ["127.77.0.5", "10.1.0.0/16", "2001:db8::5"]),
        Export.of("x", "/srv/lab/a", ["127.77.0.5", "10.1.0.0/17", "2001:db8::5", "2001:db8:1::/64"]),
        Export.of("x", "/srv/lab/a", world=True),
    ],
)
def test_any_difference_is_one(wanted: Export) -> None:
    assert not shown("display-spelled-out").serves(wanted)


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(access=Access.RO),
        ExportOptions(squash=Squash.NONE),
        ExportOptions(squash=Squash.ALL),
        ExportOptions(insecure=True),
        ExportOptions(anonuid=1),
        ExportOptions(anongid=1),
        ExportOptions(security=(Security.SYS, Security.KRB5)),
    ],
)
def test_other_terms_are_a_difference(options: ExportOptions) -> None:
    clients = ["127.77.0.5", "10.1.0.0/16", "2001:db8::5", "2001:db8:1::/64"]
    assert not shown("display-spelled-out").serves(Export.of("x", "/srv/lab/a", clients, options))


def test_an_unreserved_success_is_counted() -> None:
    assert count_taken(body("add")) == 1
    assert count_taken(body("update")) == 1


@pytest.mark.parametrize("name", ["add-bad-list", "update-bad-list", "update-unknown-word"])
def test_a_success_with_complaints_is_none(name: str) -> None:
    with pytest.raises(NotAllTaken) as refused:
        count_taken(body(name))
    assert "Errors found" in refused.value.said


@pytest.mark.parametrize("reply", [None, (), ("all well",), ("x exports added",)])
def test_a_success_in_other_words_is_none(reply: object) -> None:
    with pytest.raises(NotAllTaken):
        count_taken(reply)


@pytest.mark.parametrize("reply", [None, (), (1,), ("a", "b"), (5, "/a", "/a", "", [("x",)]), (5, "/a", "/a", "", 7)])
def test_replies_of_another_shape_are_told_apart(reply: object) -> None:
    with pytest.raises(BadReply):
        export_shown(reply)


@pytest.mark.parametrize("reply", [None, (), (1,), ((1, 2), 7), ((1, 2), [()])])
def test_lists_of_another_shape_are_told_apart(reply: object) -> None:
    with pytest.raises(BadReply):
        exports_listed(reply)
