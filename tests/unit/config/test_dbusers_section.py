"""`dbusers:` of the site file, and the original's dbusers.yaml: what they become, and everything that is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labstore.config.load import load
from labstore.config.load_accounts import load_accounts
from labstore.model.accounts import AccountKind, DbUser, Limits
from labstore.model.database import GrantType, HostKey
from labstore.model.dbusers_settings import (
    DbusersSettings,
    FileDirectorySettings,
    FilesSettings,
    LdapSettings,
    LedgerSettings,
    ReplicaSettings,
)
from labstore.reports.in_file import BadFile
from tests.support.site_text import BASE

SMALL = """\
dbusers:
  directory: {source: file, file: people.yaml}
  hosts:
    db1.example.org: {}
  files: {tool: /srv/homes/tools, user: /srv/homes/people}
"""
ORIGINAL = """\
ldap:
  hosts: [ldap1.example.org, "ldaps://ldap2.example.org"]
  username: cn=proxyagent,dc=example,dc=org
  password: "ldap secret"
labsdbs:
  hosts:
    s1.web.example.org:3311: {grant-type: role}
    tools.example.org: {grant-type: legacy}
  username: labsdbadmin
  password: "db secret"
accounts-backend:
  host: m5.example.org
  username: labsdbaccounts
  password: "ledger secret"
nfs-cluster-ip: 10.64.37.18
replica_cnf:
  tools: {root_url: "https://nfs1.example.org/v1/", username: api, password: "api secret"}
  paws: {root_url: "https://nfs2.example.org/v1", username: api, password: "paws secret"}
variances:
  s52788: 48
  u12903: {max_connections: 15}
metrics_port: 9191
"""


def written(tmp_path: Path, section: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(BASE + section)
    return path


def original(tmp_path: Path, text: str = ORIGINAL, section: str = "") -> Path:
    (tmp_path / "dbusers.yaml").write_text(text)
    return written(tmp_path, f"dbusers:\n  original: {tmp_path}/dbusers.yaml\n{section}")


def settings(path: Path) -> DbusersSettings:
    return load_accounts(path).settings


def problems(path: Path) -> list[str]:
    with pytest.raises(BadFile) as error:
        load_accounts(path)
    return [report.text() for report in error.value.reports]


def test_a_small_section_has_the_model_s_defaults(tmp_path: Path) -> None:
    found = settings(written(tmp_path, SMALL))
    plain = DbusersSettings(found.directory, found.ledger, found.hosts, found.files)
    assert found.directory == FileDirectorySettings(tmp_path / "people.yaml")
    assert found.ledger == LedgerSettings(sqlite=load(tmp_path / "site.yaml").site.state_dir / "dbusers/ledger.sqlite")
    for part in ("kinds", "uids", "limits", "removal", "rotation", "governor", "pacing", "metrics_port"):
        assert getattr(found, part) == getattr(plain, part), part
    assert found.hosts == (ReplicaSettings(HostKey("db1.example.org"), user="labstore"),)
    assert replace(found.files, bases={}) == FilesSettings()


def test_a_database_host_is_one_line(tmp_path: Path) -> None:
    before = settings(written(tmp_path, SMALL)).hosts
    more = SMALL.replace("  files:", "    db2.example.org:3311: {}\n  files:")
    after = settings(written(tmp_path, more)).hosts
    assert after[: len(before)] == before
    assert [str(host.key) for host in after[len(before) :]] == ["db2.example.org:3311"]


def test_ldap_defaults_are_the_model_s(tmp_path: Path) -> None:
    section = SMALL.replace("{source: file, file: people.yaml}", '{ldap: {servers: ["ldaps://ldap1.example.org"]}}')
    assert settings(written(tmp_path, section)).directory == LdapSettings(("ldaps://ldap1.example.org",))


def test_passwords_are_read_from_files_by_the_room_alone(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    path = written(tmp_path, f"{SMALL}  login: {{password_file: {secret}}}\n")
    assert load(path).accounts is not None, "whoever reads the site file needs no password"
    assert any("cannot be read" in each and ":" in each for each in problems(path))
    secret.write_text("very secret\n")
    secret.chmod(0o644)
    assert any("can be read by everybody" in each for each in problems(path))
    secret.chmod(0o400)
    loaded = load_accounts(path)
    assert loaded.settings.hosts[0].password.reveal() == "very secret"
    assert secret in loaded.files, "it is read again when it changes"
    assert "very secret" not in repr(loaded.settings)


def test_the_original_s_file_is_taken_as_it_is(tmp_path: Path) -> None:
    found = settings(original(tmp_path))
    assert isinstance(found.directory, LdapSettings)
    assert found.directory.servers == ("ldap://ldap1.example.org", "ldaps://ldap2.example.org")
    assert found.directory.password.reveal() == "ldap secret"
    kinds = {str(host.key): (host.grant_type, host.user, host.password.reveal()) for host in found.hosts}
    assert kinds == {
        "s1.web.example.org:3311": (GrantType.ROLE, "labsdbadmin", "db secret"),
        "tools.example.org": (GrantType.LEGACY, "labsdbadmin", "db secret"),
    }
    assert (found.ledger.host, found.ledger.database) == ("m5.example.org", "labsdbaccounts")
    assert found.ledger.password.reveal() == "ledger secret"
    assert [str(each) for each in found.service_addresses] == ["10.64.37.18"]
    assert found.metrics_port == 9191
    remote = found.files.remote
    assert remote[AccountKind.USER].url == remote[AccountKind.TOOL].url == "https://nfs1.example.org/v1"
    assert remote[AccountKind.PAWS].password.reveal() == "paws secret"


def test_variances_load_as_numbers_and_as_maps(tmp_path: Path) -> None:
    """Production's data had numbers where the original's program wanted maps."""
    section = "  limits: {variances: {s52788: 40, p7: {max_connections: 2, statement_time: 90s}}}\n"
    rules = {rule.account: rule.limits for rule in settings(original(tmp_path, section=section)).limits.rules}
    assert rules[DbUser("s52788")].over(Limits(10)) == Limits(40), "what the site file says wins"
    assert rules[DbUser("u12903")].over(Limits(10)) == Limits(15)
    assert rules[DbUser("p7")].over(Limits(10)) == Limits(2, 90)


def test_what_the_site_file_says_of_a_host_wins_over_the_original(tmp_path: Path) -> None:
    section = "  hosts: {tools.example.org:3306: {grants: role, group: tools}}\n"
    found = {str(host.key): host for host in settings(original(tmp_path, section=section)).hosts}
    assert found["tools.example.org"].grant_type is GrantType.ROLE
    assert found["tools.example.org"].group == "tools"
    assert found["tools.example.org"].user == "labsdbadmin"
    assert len(found) == 2


def test_rules_have_an_end_and_a_reason(tmp_path: Path) -> None:
    rule = 'batch: {kind: tool, group: web, queries_per_hour: 100, until: "2027-01-31", reason: slow summer}'
    section = SMALL.replace("{}", "{group: web}") + f"  limits:\n    rules:\n      {rule}\n"
    (found,) = settings(written(tmp_path, section)).limits.rules
    assert (found.kind, found.group, found.reason) == (AccountKind.TOOL, "web", "slow summer")
    assert found.until == datetime(2027, 2, 1, tzinfo=UTC)


WRONG = """\
dbusers:
  cluster: nowhere
  kinds: [tool, user, paws]
  directory: {source: file}
  hosts:
    db1.example.org: {}
    db1.example.org:3306: {grants: legacy}
  files: {tool: /srv/homes/tools, user: /srv/homes/people}
  writer: {listen: "10.0.0.1:8442"}
  uids: {first: 5000, last: 600}
  limits:
    rules:
      empty: {kind: tool}
      other: {account: s1, kind: user, max_connections: 1, group: nobody, until: tomorrow}
  pacing: {interval: 5m}
"""


def test_all_problems_are_said_at_once_with_their_places(tmp_path: Path) -> None:
    said = problems(written(tmp_path, WRONG))
    for part in (
        "there is no cluster nowhere",
        "source: file, and no file",
        "db1.example.org:3306 is the same server as db1.example.org",
        "homes of paws",
        "unencrypted",
        "uids from 5000 to 600",
        "rule empty says nothing",
        "s1 is no user",
        "no server is of group nobody",
        "not a date",
        "the lease ends before",
    ):
        (found,) = [each for each in said if part in each]
        place = found.split("site.yaml:")[1].split(" ")[0]
        line, column = place.rstrip(":").split(":")
        assert int(line) > BASE.count("\n"), found
        assert int(column) > 0


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("hosts: {'-db': {}}", "host"),
        ("hosts: {db1: {grants: roles}}", "none of: role or legacy"),
        ("hosts: {db1: {password: x}}", "secrets never stand"),
        ("limits: {variances: {root: 5}}", "root"),
        ("limits: {variances: {s5: many}}", "s5"),
        ("limits: {role: {max_connections: -1}}", "less than 0"),
        ("removal: {wait: 40}", "unit"),
        ("kinds: [tool, robot]", "robot"),
        ("directory: {ldap: {servers: [ldap1]}}", "ldaps://"),
    ],
)
def test_values_of_another_kind_are_refused(tmp_path: Path, key: str, part: str) -> None:
    assert any(part in each for each in problems(written(tmp_path, f"dbusers:\n  {key}\n")))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("grant-type: legacy", "grant-type: lagacy", "lagacy"),
        ("s52788: 48", "s52788: many", "no number of connections"),
        ("u12903: {max", "root: {max", "root"),
        ("metrics_port: 9191", "metrics_port: high", "metrics_port"),
        ("nfs-cluster-ip: 10.64.37.18", "nfs-cluster-ip: nfs1", "nfs1"),
        ('root_url: "https://nfs1.example.org/v1/"', "url: x", "root_url"),
        ("    tools.example.org: {grant", "    s1.web.example.org:03311: {grant", "twice"),
    ],
)
def test_problems_of_the_original_s_file_have_their_places(tmp_path: Path, old: str, new: str, part: str) -> None:
    assert old in ORIGINAL
    said = problems(original(tmp_path, ORIGINAL.replace(old, new)))
    assert any(part in each and "dbusers.yaml:" in each for each in said), said


def test_keys_that_nobody_knows_in_the_original_s_file_cost_nothing(tmp_path: Path) -> None:
    loaded = load_accounts(original(tmp_path, ORIGINAL + "colour: green\n"))
    assert "colour" in loaded.notices[0].message()


def test_a_site_without_accounts_says_so(tmp_path: Path) -> None:
    assert "no `dbusers:`" in problems(written(tmp_path, ""))[0]
