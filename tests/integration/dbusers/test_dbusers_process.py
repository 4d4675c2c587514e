"""The programs themselves, as an operator starts them: setting up a server, the daemon, the service for files."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pymysql
import pytest

from labstore.model.accounts import AccountKind
from tests.integration.dbusers.place import Place
from tests.support import slapd
from tests.support.exportd_lab import LABSTORE
from tests.support.hang import HANGS
from tests.support.mariadb import PASSWORD, PROCEDURES, free_port
from tests.support.slapd import certificate

pytestmark = pytest.mark.root


def test_a_server_is_set_up_by_its_administrator_and_the_login_can_do_nothing_else(place: Place) -> None:
    server = place.servers[0]
    server.run("DROP USER IF EXISTS 'labstore'@'127.0.0.1'", f"DROP DATABASE IF EXISTS {PROCEDURES}")
    said = place.run(
        "host-setup", f"127.0.0.1:{server.port}", "--apply", "--admin-socket", str(server.socket), "--json"
    )
    words = json.loads(said)
    assert (words["done"], words["works"]) == (True, "by the procedures, with no other right")
    assert PASSWORD not in said
    login = pymysql.connect(host="127.0.0.1", port=server.port, user="labstore", password=PASSWORD)
    with login.cursor() as cursor, pytest.raises(pymysql.MySQLError) as refused:
        cursor.execute("CREATE USER 's1'@'%'")
    assert refused.value.args[0] == 1227
    login.close()


def test_what_host_setup_prints_can_be_piped_into_the_client(place: Place) -> None:
    server = place.servers[0]
    server.run("DROP USER IF EXISTS 'labstore'@'127.0.0.1'", f"DROP DATABASE IF EXISTS {PROCEDURES}")
    printed = place.run("host-setup", f"127.0.0.1:{server.port}")
    client = [shutil.which("mariadb") or "mariadb", f"--socket={server.socket}", "--user=root"]
    for _ in range(2):
        subprocess.run(client, input=printed, text=True, check=True, capture_output=True, timeout=60)
    file = place.add("wikibugs", 52788)
    place.run("host-setup", f"127.0.0.1:{place.servers[1].port}", "--apply", "--admin-socket",
              str(place.servers[1].socket))  # fmt: skip
    place.run("apply", "--yes")
    user, password = place.homes.credentials(AccountKind.TOOL, "wikibugs")
    assert file.exists()
    assert all(each.works(user, password) for each in place.servers)


def test_an_administrator_who_is_none_ends_it_in_words(place: Place) -> None:
    server = place.servers[0]
    command = [str(LABSTORE), "dbusers", "host-setup", f"127.0.0.1:{server.port}", "--apply", "--admin-user", "nobody"]
    done = subprocess.run(
        [*command, "--site", str(place.site)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"127.0.0.1:{server.port}" in done.stderr


def test_the_daemon_follows_the_directory_and_the_ledger_and_ends_in_order(place: Place) -> None:
    place.set_up()
    first = place.add("first", 52001)
    with place.daemon() as process:
        place.until(first.exists, "the first tool's file")
        second = place.add("second", 52002)
        place.until(second.exists, "a newcomer is seen long before the next cycle is due")
        place.run("limit", "second", "--connections", "3")
        account = "SELECT JSON_VALUE(Priv, '$.max_user_connections') FROM mysql.global_priv WHERE User = 's52002'"
        for server in place.servers:
            place.until(lambda s=server: s.run(account) == [("3",)], "the limit is on every server")
        before = second.read_text()
        assert "the daemon does it within seconds" in place.run("rotate", "second", "--yes")
        place.until(lambda: second.read_text() != before, "the new password is in the file")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 0
    assert place.run("plan").startswith("place: nothing to do")
    assert json.loads(place.run("show", "--json"))["leader"] is None, "another machine may lead at once"


def test_a_tool_that_is_added_to_ldap_has_its_account_long_before_the_next_look(place: Place) -> None:
    """The doorbell rings over verified TLS; the truth stays the listing."""
    place.set_up()
    secret = place.root / "ldap.password"
    secret.write_text(slapd.PASSWORD)
    secret.chmod(0o400)
    basis = (slapd.tool("first", 52001), slapd.person("alice", 2170), slapd.group(["alice"]))
    with slapd.running(1, tls=True, ldif=basis) as (server,):
        words = json.loads(place.site.read_text())
        words["dbusers"]["directory"] = {
            "ldap": {
                "servers": [server.url],
                "bind_dn": slapd.READER,
                "password_file": str(secret),
                "ca_file": str(server.ca),
            }
        }
        place.site.write_text(json.dumps(words))
        first = place.add("first", 52001)
        with place.daemon():
            place.until(first.exists, "the first tool's file")
            second = place.add("second", 52002)
            server.add(slapd.tool("second", 52002))
            place.until(second.exists, "the newcomer's file")
        user, password = place.homes.credentials(AccountKind.TOOL, "second")
        assert all(each.works(user, password) for each in place.servers)


def test_a_daemon_that_was_killed_is_followed_at_once(place: Place) -> None:
    place.set_up()
    first = place.add("first", 52001)
    with place.daemon() as process:
        place.until(first.exists, "the first tool's file")
        process.kill()
        process.wait(HANGS)
    second = place.add("second", 52002)
    with place.daemon():
        place.until(second.exists, "the next daemon does not wait for the lease of the dead one")


def test_a_second_daemon_is_refused(place: Place) -> None:
    place.set_up()
    first = place.add("first", 52001)
    with place.daemon():
        place.until(first.exists, "the daemon works")
        place.run("run", expect=6)


def test_a_command_has_its_turn_while_the_daemon_runs(place: Place) -> None:
    place.set_up()
    first = place.add("first", 52001)
    with place.daemon():
        place.until(first.exists, "the daemon works")
        assert "converged" in place.run("apply", "--yes")


# --- files on another machine ----------------------------------------------------------------------------------------


def test_files_are_kept_over_tls_by_the_service_on_the_node_that_has_them(place: Place) -> None:
    place.set_up()
    chain, key = certificate(place.root)
    asks = place.root / "writer.password"
    asks.write_text("who may ask\n")
    asks.chmod(0o400)
    port = free_port()
    there = Place(_made(place.root / "nfs"), [], place.homes)
    words = json.loads(there.site.read_text())
    words["dbusers"] = {
        "kinds": ["tool"],
        "files": {"tool": str(place.homes.root / "tool")},
        "writer": {
            "listen": f"127.0.0.1:{port}",
            "password_file": str(asks),
            "certificate": str(chain),
            "key": str(key),
        },
    }
    there.site.write_text(json.dumps(words))
    words = json.loads(place.site.read_text())
    remote = {"url": f"https://127.0.0.1:{port}/v1", "password_file": str(asks), "ca_file": str(chain)}
    words["dbusers"]["files"] = {"remote": {"tool": remote}}
    place.site.write_text(json.dumps(words))
    file = place.add("wikibugs", 52788)
    place.run("apply", "--yes", expect=4)  # the service does not run yet: nothing is known of files
    assert not file.exists()
    with there.daemon("writer") as service:
        there.until(lambda: _answers(port), "the service")
        place.run("apply", "--yes")
        user, password = place.homes.credentials(AccountKind.TOOL, "wikibugs")
        assert all(server.works(user, password) for server in place.servers)
        assert place.homes.protected(AccountKind.TOOL, "wikibugs")
        place.run("rotate", "wikibugs", "--yes")
        place.run("apply", "--yes")
        assert place.homes.credentials(AccountKind.TOOL, "wikibugs")[1] != password
        service.send_signal(signal.SIGTERM)
        service.wait(HANGS)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
