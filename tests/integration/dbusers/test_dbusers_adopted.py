"""A deployment of the original is adopted by the commands, from its own dbusers.yaml: no password changes."""

from __future__ import annotations

import json

import pytest

from labstore.model.accounts import AccountKind, NativeHash
from labstore.model.secret import Secret
from tests.integration.dbusers.place import Place
from tests.integration.dbusers.test_dbusers_preview import state
from tests.support.dbusers import credentials
from tests.support.mariadb import PASSWORD

pytestmark = pytest.mark.root
OLD = "an0ldpasswordXYZ"
HASH = NativeHash.of(Secret(OLD))
TABLES = (
    "CREATE TABLE account (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, mysql_username VARCHAR(255) NOT NULL, "
    "type ENUM('tool','user') NOT NULL, username VARCHAR(255) NOT NULL, password_hash BINARY(41) NOT NULL, "
    "UNIQUE KEY account_type (type, username)) ENGINE=InnoDB CHARSET=utf8mb4",
    "CREATE TABLE account_host (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, account_id INT UNSIGNED NOT NULL, "
    "hostname VARCHAR(255) NOT NULL, status ENUM('present','absent') NOT NULL) ENGINE=InnoDB CHARSET=utf8mb4",
)
READERS = (
    "SELECT mysql_username, password_hash, hostname FROM labsdbaccounts.account JOIN labsdbaccounts.account_host "
    "ON account.id = account_host.account_id WHERE type = 'tool' AND status = 'present' ORDER BY hostname"
)


def _as_the_original_left_it(place: Place) -> None:
    ledger = place.servers[0].ledger()
    hosts = {f"127.0.0.1:{server.port}": {"grant-type": "role"} for server in place.servers}
    rows = ", ".join(f"({number}, 7, '{name}', 'present')" for number, name in enumerate(hosts, 1))
    place.servers[0].run(
        "USE labsdbaccounts",
        *TABLES,
        f"INSERT INTO account VALUES (7, 's52001', 'tool', 'tools.first', '{HASH.stored}')",
        f"INSERT INTO account_host VALUES {rows}",
    )
    for server in place.servers:
        server.set_up()
        server.run(
            f"GRANT USAGE ON *.* TO 's52001'@'%' IDENTIFIED BY PASSWORD '{HASH}' WITH MAX_USER_CONNECTIONS 10",
            "GRANT labsdbuser TO 's52001'@'%'",
            "SET DEFAULT ROLE labsdbuser FOR 's52001'@'%'",
        )
    place.add("first", 52001)
    place.homes.put(AccountKind.TOOL, "first", 52001, credentials("s52001", OLD))
    original = {
        "ldap": {"hosts": [], "username": "", "password": ""},
        "labsdbs": {"hosts": hosts, "username": "labstore", "password": PASSWORD},
        "accounts-backend": {"host": "127.0.0.1", "username": "ledger", "password": PASSWORD},
        "variances": {"s52001": 48},
    }
    (place.root / "dbusers.yaml").write_text(json.dumps(original))
    words = json.loads(place.site.read_text())
    words["dbusers"] = {
        "original": str(place.root / "dbusers.yaml"),
        "directory": {"source": "file", "file": "people.yaml"},
        "ledger": {"mariadb": {"port": ledger.port, "tls": "off"}},
        "login": {"tls": "off"},
        "files": {"tool": str(place.homes.root / "tool")},
        "kinds": ["tool"],
        "metrics": {"enabled": False},
    }
    place.site.write_text(json.dumps(words))


def test_an_original_deployment_is_adopted_by_its_own_file(place: Place) -> None:
    _as_the_original_left_it(place)
    file = place.homes.file(AccountKind.TOOL, "first")
    ledger, before, content = place.servers[0], state(place.servers[0]), file.read_bytes()
    shown = place.run("plan")
    assert "its tables become labstore's, in place" in " ".join(shown.split())
    assert "issue a password" not in shown
    assert state(ledger) == before, "a plan writes nothing"
    readers = ledger.run(READERS)
    place.run("apply", "--yes")
    assert file.read_bytes() == content
    assert all(server.works("s52001", OLD) for server in place.servers)
    assert ledger.run(READERS) == readers, "the original's readers go on"
    limit = "SELECT JSON_VALUE(Priv, '$.max_user_connections') FROM mysql.global_priv WHERE User = 's52001'"
    assert [server.run(limit) for server in place.servers] == [[("48",)]] * 2
    assert place.run("plan").startswith("place: nothing to do")
