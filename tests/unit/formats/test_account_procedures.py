"""What `host-setup` would say to a server. Whether it holds is tried on real ones (tests/integration)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labstore.formats.account_procedures import DIGESTS, Setup, in_buckets, rows
from labstore.model.database import GrantType, RoleName

SETUP = Setup("labstore_accounts", "labstore", "10.0.0.1", GrantType.ROLE, RoleName("labsdbuser"))


def test_the_login_gets_nothing_but_execute() -> None:
    mine = [line for line in SETUP.statements() if "TO 'labstore'@'10.0.0.1'" in line]
    assert mine == ["GRANT EXECUTE ON `labstore_accounts`.* TO 'labstore'@'10.0.0.1'"]


def test_the_powerful_account_cannot_log_in() -> None:
    assert any("CREATE USER IF NOT EXISTS" in line and line.endswith("ACCOUNT LOCK") for line in SETUP.statements())


def test_every_procedure_runs_with_the_locked_accounts_rights() -> None:
    for line in SETUP.procedures():
        assert "SQL SECURITY DEFINER" in line and SETUP.definer in line


def test_every_procedure_that_takes_names_checks_them_first() -> None:
    for line in SETUP.procedures():
        if "MODIFIES SQL DATA" in line and "batch LONGTEXT" in line:
            body = line.partition("BEGIN")[2]
            assert body.index("check_accounts") < body.index("EXECUTE IMMEDIATE" if "EXECUTE" in body else "KILL")


def test_the_version_follows_what_is_in_the_procedures() -> None:
    assert SETUP.version == replace(SETUP, login="other").version
    assert SETUP.version != replace(SETUP, role=RoleName("other")).version
    assert SETUP.version != replace(SETUP, grant_type=GrantType.LEGACY).version
    assert SETUP.version != replace(SETUP, keep_binlog=True).version


@pytest.mark.parametrize(
    "wrong", [{"database": "a`b"}, {"database": ""}, {"login": "a'b"}, {"source": "10.0.0.1'"}, {"source": ""}]
)
def test_names_are_checked(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not"):
        replace(SETUP, **wrong)


def test_plain_rights_are_the_same_powers_for_the_login() -> None:
    plain = SETUP.plain_rights()
    assert all("labstore_accounts_definer" not in line for line in plain)
    assert any("CREATE USER, PROCESS, CONNECTION ADMIN, BINLOG ADMIN, READ_ONLY ADMIN" in line for line in plain)


def test_with_the_binary_log_kept_no_session_leaves_it() -> None:
    kept = replace(SETUP, keep_binlog=True)
    assert not any("sql_log_bin" in line or "BINLOG ADMIN" in line for line in kept.statements())
    assert any("sql_log_bin = 0" in line for line in SETUP.statements())


def test_only_numbers_reach_the_bucket_list() -> None:
    assert in_buckets([1, 63]).endswith("IN (1, 63)")
    with pytest.raises(ValueError):
        in_buckets(["1) OR (1=1"])  # type: ignore[list-item]


def test_reading_asks_for_our_accounts_alone() -> None:
    for question in (*rows("TRUE"), DIGESTS):
        assert "Host = '%' AND User RLIKE '^[sup][1-9][0-9]{0,9}$'" in question
