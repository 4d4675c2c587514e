"""What the kernel's NFS server, nftables and LVM say, and the packets that move an address."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats import lvm_report, nfs4_wire, nft_json, packets
from labstore.formats.nfsd_clients import BadClient, client, state
from labstore.formats.systemd_show import blocks
from labstore.model.address import Client
from labstore.model.nfsd import ClientStatus, FileId, StateKind

LVM = Path(__file__).parents[2] / "captures" / "lvm" / "2.03.16"

INFO = """clientid: 0x2ff5a1b86a01d03b
address: "10.77.0.21:795"
status: confirmed
seconds from last renew: 3
name: "Linux NFSv4.2 client"
minor version: 2
Implementation domain: "kernel.org"
Implementation name: "Linux 6.1.0 #1 SMP"
Implementation time: [0, 0]
callback state: UP
callback address: 10.77.0.21:0
"""
STATES = (
    '- 0x00000001c5a1: { type: open, access: rw, deny: --, superblock: "93:01:13", filename: "tools/a, }", '
    'owner: "open id:\\x00\\x01\\"" }\n'
    '- 0x00000002c5a1: { type: lock, superblock: "93:01:13", filename: "tools/a", owner: "lock id:\\x02" }\n'
    '- 0x00000003c5a1: { type: deleg, access: r, superblock: "93:01:14", filename: "tools/b" }\n'
)


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\x0cb",
        "a\u2028b",
        'zz", superblock: "00:00:1',
        "a\n\nb",
        "a }\nb",
        "a\n- 0x1: { type: no }",
        "a\n- 0x",
    ],
)
def test_a_file_s_name_stops_nobody(name: str) -> None:
    """The kernel does not escape it, and a tenant chooses it: every move would be refused for as long as it is open."""
    line = STATES.splitlines(keepends=True)[0].replace("tools/a, }", name)
    found = client(INFO, line + STATES)
    assert len(found.states) == 4
    assert found.states[0].kind is StateKind.OPEN
    assert found.states[0].file == FileId((0x93, 1), 13)


def test_a_client_and_what_it_holds() -> None:
    found = client(INFO, STATES)
    assert (found.name, found.address, found.port, found.status) == (
        "Linux NFSv4.2 client",
        "10.77.0.21",
        795,
        ClientStatus.CONFIRMED,
    )
    assert [each.kind for each in found.states] == [StateKind.OPEN, StateKind.LOCK, StateKind.DELEGATION]
    opened = found.states[0]
    assert opened.file == FileId((147, 1), 13)
    assert (opened.access, opened.deny) == ("rw", "--")
    assert opened.filename == "tools/a, }"
    assert opened.owner.startswith("open id:")


def test_ipv6_and_mapped_addresses() -> None:
    assert client(INFO.replace("10.77.0.21:795", "[2001:db8::1]:795")).address == "2001:db8::1"
    assert client(INFO.replace("10.77.0.21:795", "[::ffff:10.0.0.1]:795")).address == "10.0.0.1"


@given(st.text(max_size=200))
def test_a_client_cannot_break_the_reader(garbage: str) -> None:
    """The name is the client's own choice."""
    with contextlib.suppress(BadClient):
        state(garbage)
    with contextlib.suppress(BadClient):
        client(garbage, garbage)


# --- nft -------------------------------------------------------------------------------------------------------------


def listing(addresses: list[str], rules: int) -> str:
    drop = {"rule": {"expr": [{"counter": {"packets": 2, "bytes": 120}}, {"drop": None}]}}
    parts: list[object] = [{"metainfo": {}}, {"set": {"name": "blocked4", "elem": addresses}}, *[drop] * rules]
    return json.dumps({"nftables": parts})


def test_the_barrier_is_whole_only_with_all_its_rules() -> None:
    found = nft_json.barrier(listing(["10.77.0.10"], nft_json.RULES))
    assert found.addresses == {Client("10.77.0.10")} and found.whole and found.dropped == 8
    assert not nft_json.barrier(listing(["10.77.0.10"], nft_json.RULES - 1)).whole


def test_the_barrier_drops_both_ways_and_spares_the_node_itself() -> None:
    """A reset or refused connection would set off clients' back-off of up to 300 s (research nfs_ha 2.1, 13)."""
    text = nft_json.raised([Client("10.77.0.10"), Client("2001:db8::10")])
    assert text.count("drop") == nft_json.RULES
    assert text.count('!= "lo"') == nft_json.RULES
    assert "reject" not in text
    assert "elements = { 10.77.0.10 }" in text and "elements = { 2001:db8::10 }" in text


@given(st.text(max_size=200))
def test_a_listing_of_garbage_is_refused(garbage: str) -> None:
    with contextlib.suppress(nft_json.BadListing):
        nft_json.barrier(garbage)


# --- packets ---------------------------------------------------------------------------------------------------------

MINE, THEIRS = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
ADDRESS = ipaddress.IPv4Address("10.77.0.10")


def test_another_owner_of_an_address_is_noticed_and_we_are_not() -> None:
    answer = packets.arp(False, THEIRS, ADDRESS, ipaddress.IPv4Address(0))
    assert packets.conflicts(answer, ADDRESS, MINE) == THEIRS
    assert packets.conflicts(packets.probe(THEIRS, ADDRESS), ADDRESS, MINE) == THEIRS
    assert packets.conflicts(packets.probe(MINE, ADDRESS), ADDRESS, MINE) is None
    assert packets.conflicts(packets.announcement(THEIRS, ADDRESS + 1), ADDRESS, MINE) is None


@given(st.binary(max_size=80))
def test_any_frame_is_survived(frame: bytes) -> None:
    packets.conflicts(frame, ADDRESS, MINE)
    packets.advertises(frame, ipaddress.IPv6Address("2001:db8::1"))


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_the_tickle_has_a_right_checksum(peer: ipaddress.IPv4Address, port: int) -> None:
    segment = packets.tickle(ADDRESS, 2049, peer, port)
    pseudo = ADDRESS.packed + peer.packed + struct.pack(">BBH", 0, 6, len(segment))
    assert packets.checksum(pseudo + segment) == 0
    assert struct.unpack(">HH", segment[:4]) == (2049, port)


def test_the_multicast_group_of_a_neighbour() -> None:
    assert str(packets.solicited_node(ipaddress.IPv6Address("2001:db8::12:3456"))) == "ff02::1:ff12:3456"


# --- EXCHANGE_ID -----------------------------------------------------------------------------------------------------


def opaque(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value + b"\0" * (-len(value) % 4)


def reply(xid: int, scope: bytes, owner: bytes = b"owner") -> bytes:
    head = struct.pack(">IIIII", xid, 1, 0, 0, 0) + struct.pack(">I", 0)
    body = struct.pack(">I", 0) + opaque(b"") + struct.pack(">III", 1, 42, 0)
    body += b"\0" * 8 + struct.pack(">III", 1, 0, 0) + b"\0" * 8 + opaque(owner) + opaque(scope) + struct.pack(">I", 0)
    return head + body


def test_the_scope_is_read_from_the_answer() -> None:
    assert nfs4_wire.answer(7, reply(7, b"nfs-tools")).scope == "nfs-tools"


def test_a_server_that_admits_nobody_from_here_refuses_the_question() -> None:
    denied = struct.pack(">IIIII", 7, 1, 1, 1, 1)
    with pytest.raises(nfs4_wire.BadReply, match="rejected"):
        nfs4_wire.answer(7, denied)


@given(st.binary(max_size=200))
def test_any_answer_is_survived(answer: bytes) -> None:
    with contextlib.suppress(nfs4_wire.BadReply):
        nfs4_wire.answer(7, answer)


def test_an_answer_without_end_is_not_read() -> None:
    with pytest.raises(nfs4_wire.BadReply):
        nfs4_wire.length(struct.pack(">I", 0x7FFFFFFF))


# --- LVM and systemd -------------------------------------------------------------------------------------------------


def test_snapshots_are_told_from_volumes() -> None:
    found = {lv.name: lv for lv in lvm_report.logical_volumes((LVM / "snapshot" / "lvs.json").read_text())}
    snapshots = [lv for lv in found.values() if lv.snapshot]
    assert snapshots and all(lv.origin in found for lv in snapshots)
    assert any(not lv.snapshot for lv in found.values())


@pytest.mark.parametrize("state", ["linear", "merged", "nothing", "snapshot", "snapshot-overflown"])
def test_every_report_of_lvm_is_read(state: str) -> None:
    for lv in lvm_report.logical_volumes((LVM / state / "lvs.json").read_text()):
        assert lv.path.startswith("/dev/") and lv.size > 0
    lvm_report.volume_groups((LVM / state / "vgs.json").read_text())
    lvm_report.physical_volumes((LVM / state / "pvs.json").read_text())


def test_units_come_in_the_order_in_which_they_were_asked_for() -> None:
    text = "Id=a.service\nActiveState=active\n\nId=b.service\nActiveState=inactive\n"
    assert [block["ActiveState"] for block in blocks(text)] == ["active", "inactive"]
