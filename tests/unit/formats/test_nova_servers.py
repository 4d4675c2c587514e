"""Nova's lists, from answers of a real one; a shape that is not known is never "no addresses" (upstream #8)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.json_api import Unreadable
from labstore.formats.nova_servers import ServerPage, one_server, says_no_such_server, server_page
from labstore.model.cloud import AddressKind, Instance
from tests.support.http_captures import capture

REGION = "eqiad1-r"
GOOD: dict[str, Any] = {
    "id": "f761e221-18e6-4e7b-86d4-b9bb1bb2d1d1",
    "name": "maps-wma1",
    "status": "ACTIVE",
    "tenant_id": "c422a6a50bc842a59787eb376a93f845",
    "created": "2026-11-22T15:07:29Z",
    "updated": "2026-11-22T15:07:32Z",
    "addresses": {"lan": [{"version": 4, "addr": "172.16.2.23", "OS-EXT-IPS:type": "fixed"}]},
    "OS-SRV-USG:terminated_at": None,
}
OTHER = {**GOOD, "id": "another", "tenant_id": "tools"}


def listed(name: str) -> ServerPage:
    return server_page(capture(name).body, REGION)


def page(*rows: object, **more: object) -> ServerPage:
    return server_page(json.dumps({"servers": rows, **more}).encode(), REGION)


def instances(answer: ServerPage) -> dict[str, Instance]:
    return {each.instance.name: each.instance for each in answer.servers}


def texts(instance: Instance) -> list[tuple[str, str]]:
    return [(entry.kind.value, str(entry.address)) for entry in instance.addresses or ()]


# --- what a real Nova says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.1", "2.69", "2.93"])
def test_every_microversion_gives_the_same_instances(version: str) -> None:
    seen = instances(listed(f"servers-{version}"))
    assert len(seen) == 17
    kinds = {kind for kind, _ in texts(seen["tools-bastion-12"])}
    assert kinds == {"fixed", "floating"}
    assert texts(seen["tools-static-15"]) == [("fixed", "172.16.7.254")]
    assert [":" in address for _, address in texts(seen["testlabs-dual-1"])] == [False, True]
    assert all(each.region == REGION and each.status == "ACTIVE" for each in seen.values())


def test_times_are_utc() -> None:
    found = next(each for each in listed("servers-2.69").servers if each.instance.name == "maps-wma1")
    assert found.instance.created == datetime(2026, 11, 22, 15, 7, 29, tzinfo=UTC)
    assert found.updated == datetime(2026, 11, 22, 15, 7, 32, tzinfo=UTC)
    assert found.deleted is None


def test_the_link_to_the_next_page_gives_its_marker_alone() -> None:
    first, second, last = (listed(f"servers-page-{number}") for number in ("1", "2", "last"))
    assert first.marker == first.servers[-1].instance.id
    assert second.marker == second.servers[-1].instance.id
    assert last.marker is None


def test_a_deleted_server_is_listed_with_the_time_and_without_addresses() -> None:
    found = {each.instance.name: each for each in listed("changes").servers}
    gone = found["captured-gone"]
    assert (gone.instance.status, gone.instance.addresses) == ("DELETED", None)
    assert gone.deleted is not None
    assert gone.instance.created is not None
    assert gone.deleted > gone.instance.created


@pytest.mark.parametrize("name", ["servers-building", "servers-error", "servers-empty-cache"])
def test_no_addresses_told_is_doubt(name: str) -> None:
    (found,) = listed(name).servers
    assert found.instance.addresses is None
    assert found.deleted is None


@pytest.mark.parametrize("name", ["cell-down-servers-2.93", "servers-system-scope-2.93", "servers-domain-scope-2.93"])
def test_a_server_of_a_cell_that_is_down_is_there_without_anything(name: str) -> None:
    found = listed(name)
    assert found.unreadable == {}
    assert len(found.servers) >= 16
    assert {(each.instance.status, each.instance.addresses, each.instance.name) for each in found.servers} == {
        ("UNKNOWN", None, "")
    }


def test_a_single_server() -> None:
    found = one_server(capture("server-living").body, REGION)
    assert found.instance.name == "captured-gone"
    assert one_server(capture("cell-down-server-2.93").body, REGION).instance.status == "UNKNOWN"


def test_an_orphan_keeps_the_id_of_the_project_that_is_gone() -> None:
    (found,) = listed("servers-orphan").servers
    assert found.instance.project_id not in capture("projects-deleted").body.decode()
    assert texts(found.instance) != []


@pytest.mark.parametrize("name", ["servers-truncated", "servers-html", "servers-no-key", "servers-500", "servers-406"])
def test_what_is_no_list_is_refused(name: str) -> None:
    with pytest.raises(Unreadable):
        listed(name)


def test_nova_says_itself_that_there_is_no_such_server() -> None:
    assert says_no_such_server(capture("server-gone").body)
    assert not says_no_such_server(b"<html>404</html>")
    assert not says_no_such_server(capture("servers-403").body)


# --- shapes that are not known (upstream #8) -------------------------------------------------------------------------

BAD_ADDRESSES: list[object] = [
    None,
    [],
    "172.16.2.23",
    {"lan": None},
    {"lan": {"addr": "172.16.2.23"}},
    {"lan": ["172.16.2.23"]},
    {"lan": [{"addr": "172.16.2.23"}]},
    {"lan": [{"addr": "172.16.2.23", "OS-EXT-IPS:type": "public"}]},
    {"lan": [{"OS-EXT-IPS:type": "fixed"}]},
    {"lan": [{"addr": ["172.16.2.23"], "OS-EXT-IPS:type": "fixed"}]},
    {"lan": [{"addr": "0.0.0.0/0", "OS-EXT-IPS:type": "fixed"}]},
    {"lan": [{"addr": "172.16.2.0/24", "OS-EXT-IPS:type": "fixed"}]},
    {"lan": [{"addr": "*", "OS-EXT-IPS:type": "fixed"}]},
    {"lan": [{"addr": "224.0.0.1", "OS-EXT-IPS:type": "fixed"}]},
]


@pytest.mark.parametrize("addresses", BAD_ADDRESSES, ids=repr)
def test_addresses_of_another_shape_are_an_error_of_that_project_alone(addresses: object) -> None:
    found = page({**GOOD, "addresses": addresses}, OTHER)
    assert list(found.unreadable) == [GOOD["tenant_id"]]
    assert GOOD["id"] in found.unreadable[GOOD["tenant_id"]]
    assert [each.instance.project_id for each in found.servers] == ["tools"]


@pytest.mark.parametrize(
    "wrong",
    [{"status": None}, {"status": 5}, {"name": 7}, {"id": None}, {"id": "../etc"}, {"created": "yesterday"}],
    ids=repr,
)
def test_other_fields_of_another_shape_too(wrong: dict[str, object]) -> None:
    assert list(page({**GOOD, **wrong}, OTHER).unreadable) == [GOOD["tenant_id"]]


@pytest.mark.parametrize(
    "row", [None, "server", [], {**GOOD, "tenant_id": None}, {**GOOD, "tenant_id": "a b"}], ids=repr
)
def test_a_server_of_nobody_spoils_the_whole_list(row: object) -> None:
    with pytest.raises(Unreadable):
        page(OTHER, row)


@pytest.mark.parametrize(
    "links", [{}, "next", [{"rel": "next"}], [{"rel": "next", "href": "http://nova/servers?limit=2"}]], ids=repr
)
def test_a_link_that_leads_nowhere_spoils_the_whole_list(links: object) -> None:
    with pytest.raises(Unreadable):
        page(OTHER, servers_links=links)


def test_names_are_safe_to_show() -> None:
    (found,) = page({**GOOD, "name": "ev\x1b[31mil\nname é" + "x" * 300}).servers
    assert found.instance.name.isascii()
    assert found.instance.name.isprintable()


def test_an_address_listed_twice_counts_once() -> None:
    entry = {"version": 4, "addr": "172.16.2.23", "OS-EXT-IPS:type": "fixed"}
    (found,) = page({**GOOD, "addresses": {"a": [entry], "b": [entry]}}).servers
    assert [entry.kind for entry in found.instance.addresses or ()] == [AddressKind.FIXED]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(GOOD)) | st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), JSON))
def test_whatever_comes_is_read_or_refused(wrong: dict[str, object]) -> None:
    try:
        found = page({**GOOD, **wrong}, OTHER)
    except Unreadable:
        return
    assert len(found.servers) + len(found.unreadable) == 2


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_come_are_read_or_refused(body: bytes) -> None:
    for read in (server_page, one_server):
        try:
            read(body, REGION)
        except Unreadable:
            continue


def test_a_deep_nest_is_refused() -> None:
    with pytest.raises(Unreadable):
        server_page(b'{"servers": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", REGION)
