"""`nfs-exportd` with the original's options (upstream 1.2)."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labstore.assembly import Hands
from labstore.cli import compat
from labstore.cli.compat import nfs_exportd
from labstore.model.site import Cluster, Site
from labstore.ports.clock import Clock
from labstore.ports.export_server import ExportServer
from labstore.reports.report import Override
from labstore.telemetry import logs
from labstore.telemetry.records import Kept, read_all
from tests.support.cli_world import CliWorld
from tests.support.logs_kept import logs_kept

MOUNTS = """\
private:
  cvn: {gid: 50196, mounts: {home: true, project: true}}
  far: {gid: 50197, mounts: {home: "elsewhere.example.org:/srv/misc/shared/far/home"}}
public: {}
"""


class Served:
    """Everything outside, faked, and the sites for which a server was made."""

    def __init__(self, base: Path) -> None:
        self.world = CliWorld.of(base)
        self.sites: list[Site] = []

    @property
    def hands(self) -> Hands:
        def server(site: Site, _cluster: Cluster, _clock: Clock) -> ExportServer:
            self.sites.append(site)
            return self.world.server

        return replace(self.world.hands, server=server)

    @property
    def site(self) -> Site:
        return self.sites[-1]

    @property
    def record(self) -> Kept:
        (kept,), _ = read_all(self.site.run_dir)
        return kept

    def run(self, *arguments: str, site: Path | None = None) -> Result:
        base = self.world.base
        environment = {
            "LABSTORE_SITE": str(site or base / "no-site.yaml"),
            "STATE_DIRECTORY": str(base / "state"),
            "RUNTIME_DIRECTORY": str(base / "run"),
        }
        with logs_kept():
            return CliRunner(env=environment).invoke(nfs_exportd, list(arguments), obj=self.hands)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "nfs-mounts.yaml"
    path.write_text(MOUNTS)
    return path


@pytest.fixture(autouse=True)
def observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "novaobserver.yaml"
    monkeypatch.setattr(compat, "OBSERVER", path)
    return path


def test_a_mounts_file_is_enough(mounts: Path, served: Served, tmp_path: Path) -> None:
    result = served.run("--config-path", str(mounts), "--exports-d-path", str(tmp_path / "d"))
    assert result.exit_code == 0, result.output
    site = served.site
    assert str(served.world.server.live.by_path["/srv/misc/shared/cvn"].clients[0]) == "172.16.3.11"  # type: ignore[index]
    assert site.clusters[0].exports_dir == tmp_path / "d"
    assert [str(wanted.path) for wanted in site.wanted("local")] == ["/srv/misc/shared/cvn"]
    assert (site.state_dir, site.run_dir) == (tmp_path / "state", tmp_path / "run")
    assert site.inventory.openstack.cloud == "novaobserver"
    assert "elsewhere.example.org is not said to be this server" in result.stderr


def test_hosts_of_the_newer_schema_are_compared_by_name(mounts: Path, served: Served) -> None:
    served.run("--config-path", str(mounts), "--service-name", "elsewhere.example.org")
    assert "/srv/misc/shared/far/home" in [wanted.path for wanted in served.site.wanted("local")]


def test_an_interval_makes_a_daemon(mounts: Path, served: Served) -> None:
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    served.world.clock.sleep = sleep  # type: ignore[method-assign]
    assert served.run("--config-path", str(mounts), "--interval", "60").exit_code == 0
    assert 60 <= sleeps[0] < 67
    assert (served.site.exports.poll, served.site.exports.listing) == (60.0, 300.0)


def test_no_exports_is_ok_is_the_named_override(mounts: Path, served: Served) -> None:
    """The last project is taken out of the mounts file."""
    assert served.run("--config-path", str(mounts)).exit_code == 0
    mounts.write_text("private: {}\npublic: {}\n")
    assert served.run("--config-path", str(mounts)).exit_code == 3
    assert [said.override for said in served.record.refused] == [Override.ALLOW_EMPTY]
    assert served.run("--config-path", str(mounts), "--no-exports-is-ok").exit_code == 0
    assert len(served.world.server.live) == 0


def test_statuses_are_those_of_every_command(mounts: Path, served: Served) -> None:
    statuses = [served.run("--config-path", str(mounts)).exit_code]
    served.world.inventory.broken.add("eqiad1-r")
    statuses.append(served.run("--config-path", str(mounts)).exit_code)
    served.world.server.unreadable = True
    statuses.append(served.run("--config-path", str(mounts)).exit_code)
    served.world.node.active = False
    statuses.append(served.run("--config-path", str(mounts)).exit_code)
    assert statuses == [0, 4, 1, 7]


def test_with_a_site_file_that_counts_and_options_win(served: Served, tmp_path: Path) -> None:
    world = served.world
    world.site_file.write_text(world.site_file.read_text().replace("    nodes: {labstore1: {}, labstore2: {}}\n", ""))
    result = served.run("--os-cloud", "observer", "--exports-d-path", str(tmp_path / "d"), site=world.site_file)
    assert result.exit_code == 0, result.output
    assert served.site.name == "wikicloud"
    assert served.site.clusters[0].exports_dir == tmp_path / "d"
    assert served.site.inventory.openstack.cloud == "observer"


def test_no_file_at_all_is_a_configuration_error(served: Served, tmp_path: Path) -> None:
    result = served.run("--config-path", str(tmp_path / "none.yaml"))
    assert result.exit_code == 5
    assert "none.yaml" in result.stderr
    assert served.sites == []


def test_a_duplicate_gid_ends_it_as_the_original_did(mounts: Path, served: Served) -> None:
    mounts.write_text(
        MOUNTS.replace("gid: 50197", "gid: 50196").replace(
            "elsewhere.example.org:/srv/misc/shared/far/home", "h:/srv/x"
        )
    )
    assert served.run("--config-path", str(mounts), "--service-name", "h").exit_code == 5


# --- the older credentials -------------------------------------------------------------------------------------------


def clouds(served: Served) -> dict[str, Any]:
    file = served.site.inventory.openstack.clouds_file
    assert str(file).startswith("/proc/self/fd/"), "secrets meet no disk"
    found: dict[str, Any] = json.loads(file.read_text())["clouds"]["novaobserver"]["auth"]
    return found


def test_a_password_as_an_argument_is_taken_and_scolded(mounts: Path, served: Served) -> None:
    arguments = ("--observer-pass", "sesame-77", "--auth-url", "http://keystone:5000/v3")
    result = served.run("--config-path", str(mounts), *arguments)
    assert result.exit_code == 0, result.output
    assert "can be read by every user of this machine" in result.stderr
    assert "sesame-77" not in result.output
    assert clouds(served)["password"] == "sesame-77"
    assert clouds(served)["project_name"] == "observer"
    assert logs.masked(None, "", {"line": "x sesame-77 y"})["line"] == "x *** y"


def test_novaobserver_yaml_fills_what_was_not_given(mounts: Path, served: Served, observer: Path) -> None:
    observer.write_text('OS_PASSWORD: "sesame-78"\nOS_AUTH_URL: http://k:5000/v3\n')
    served.run("--config-path", str(mounts))
    assert clouds(served) == {
        "auth_url": "http://k:5000/v3",
        "username": "novaobserver",
        "password": "sesame-78",
        "project_name": "observer",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def test_half_of_the_older_credentials_is_an_error_with_a_remedy(mounts: Path, served: Served) -> None:
    result = served.run("--config-path", str(mounts), "--auth-url", "http://k:5000/v3")
    assert result.exit_code == 5
    assert "no OS_PASSWORD" in result.stderr
    assert "--os-cloud" in result.stderr


def test_os_cloud_is_the_newer_generation(mounts: Path, served: Served, observer: Path) -> None:
    observer.write_text("OS_PASSWORD: x\nOS_AUTH_URL: y\n")
    served.run("--config-path", str(mounts), "--os-cloud", "other")
    assert (served.site.inventory.openstack.cloud, served.site.inventory.openstack.clouds_file) == ("other", None)


def test_an_unknown_option_is_a_usage_error(served: Served) -> None:
    assert served.run("--force").exit_code == 2
