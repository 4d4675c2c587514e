"""The original's dbusers.yaml: whatever stands in it, it is taken or every problem is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.dbusers_yaml import Original, parse
from labstore.model.accounts import DbUser, PartialLimits
from labstore.model.database import GrantType, HostKey
from labstore.reports.in_file import BadFile

KEYS = st.sampled_from(
    [
        *("ldap", "labsdbs", "accounts-backend", "nfs-cluster-ip", "replica_cnf", "variances", "metrics_port"),
        *("hosts", "username", "password", "host", "grant-type", "tools", "paws", "root_url", "max_connections"),
        *("s52788", "db1:3306", "db1"),
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 1 << 40),
        st.text(max_size=12),
        st.sampled_from(["role", "legacy", "https://nfs1/v1", "10.0.0.1", "ldap1.example.org"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_content_is_taken_or_refused_with_places(content: dict[str, Any]) -> None:
    try:
        found = parse(json.dumps(content).encode(), "dbusers.yaml")
    except BadFile as error:
        assert error.reports
        assert all("dbusers.yaml" in report.message() for report in error.reports)
    else:
        assert isinstance(found, Original)
        assert all(isinstance(key, HostKey) for key in found.hosts)


def test_both_forms_of_hosts_and_of_variances() -> None:
    found = parse(
        b"labsdbs: {hosts: {db1: {grant-type: role}, 'db2:3311': {grant-type: legacy}}}\n"
        b"variances: {s1: 5, s2: {max_connections: 6}}\n",
        "dbusers.yaml",
    )
    assert found.hosts == {HostKey("db1"): GrantType.ROLE, HostKey("db2", 3311): GrantType.LEGACY}
    assert found.variances == {DbUser("s1"): PartialLimits(5), DbUser("s2"): PartialLimits(6)}


def test_one_server_in_both_forms_is_said() -> None:
    text = b"labsdbs: {hosts: {db1: {grant-type: role}, 'db1:3306': {grant-type: role}}}\n"
    with pytest.raises(BadFile, match="twice"):
        parse(text, "dbusers.yaml")


def test_a_password_of_digits_alone_wants_quotes() -> None:
    """Without them YAML makes a number of it, and forgets how it was written."""
    with pytest.raises(BadFile, match="not text"):
        parse(b"labsdbs: {hosts: {}, username: admin, password: 1234}\n", "dbusers.yaml")
    found = parse(b"labsdbs: {hosts: {}, username: admin, password: '0123'}\n", "dbusers.yaml")
    assert found.login.password.reveal() == "0123"
    assert "0123" not in repr(found)
