"""The status page and its API: read-only, escaped, and useful when half of it is missing."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from labstore.assembly import SiteSource, from_site_file
from labstore.cli.web import hosts
from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.telemetry.records import Said, place, read, write
from labstore.web.app import create_app
from tests.support.cli_world import CliWorld
from tests.support.fakes import instance
from tests.support.web_client import TestClient

EVIL = "<script>alert(1)</script>&\"'\u202e"


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    world = CliWorld.of(tmp_path)
    world.inventory.add(instance(EVIL, "p-cvn", "172.16.3.66"))
    assert world.run("exports", "apply", "--yes").exit_code == 0
    return world


@pytest.fixture
def client(world: CliWorld) -> TestClient:
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    return TestClient(create_app(source, now=world.clock.now), base_url="http://127.0.0.1")


def told(world: CliWorld, *said: Said, state: State = State.REFUSED, untouched: dict[str, str] | None = None) -> None:
    """The newest record, with more to say."""
    run_dir = world.base / "run"
    before = read(place(run_dir, "exports", "primary"))
    refused = tuple(each for each in said if each.override)
    write(run_dir, replace(before, state=state, refused=refused, reports=said, untouched=untouched or {}, due=None))


def visible(text: str) -> str:
    """The page's words, without tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_the_page_says_how_everything_is(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    words = visible(answer.text)
    assert "wikicloud on" in words
    assert "exports primary converged: 4 exports, 9 clients" in words
    assert "clients 9" in words
    assert "public_scratch: seen: declared" in words


def test_refusals_come_with_the_command_that_would_allow_them(world: CliWorld, client: TestClient) -> None:
    told(world, Said("mass-removal", Severity.ERROR, "x", "40 of 128 clients", "if", "allow-mass-removal"))
    words = visible(client.get("/").text)
    assert "40 of 128 clients if this is right: labstore exports apply --allow-mass-removal" in words


def test_what_is_held_is_listed_with_its_reason(world: CliWorld, client: TestClient) -> None:
    told(world, state=State.HOLDING, untouched={"/srv/misc/shared/tools": "2 kept (172.16.1.11): 401"})
    assert "/srv/misc/shared/tools 2 kept (172.16.1.11): 401" in visible(client.get("/").text)


def test_hostile_names_are_text(world: CliWorld, client: TestClient) -> None:
    """Tenants name their instances (DESIGN law 8)."""
    told(world, Said("x", Severity.WARNING, EVIL, f"instance {EVIL}", EVIL, None), untouched={EVIL: EVIL})
    for url in ("/", "/?address=172.16.3.66", f"/?address={EVIL}", f"/?address=10.0.0.1&path={EVIL}"):
        text = client.get(url).text
        assert "<script" not in text
        assert "\u202e" not in text
    assert EVIL.replace("\u202e", "\\u202e") in visible(client.get("/?address=172.16.3.66").text)


def test_every_answer_forbids_scripts_and_frames(client: TestClient) -> None:
    for url in ("/", "/style.css", "/api/status", "/metrics", "/nothing"):
        headers = client.get(url).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    assert "<script" not in client.get("/").text
    assert "javascript:" not in client.get("/").text


def test_nothing_can_be_changed(client: TestClient) -> None:
    for url in ("/", "/api/status", "/api/exports", "/api/exports/history", "/api/exports/why"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, url).status_code == 405


def test_who_may_mount(client: TestClient) -> None:
    assert "172.16.1.11 may mount /srv/misc/shared/tools" in visible(
        client.get("/", params={"address": "172.16.1.11", "path": "/srv/misc/shared/tools"}).text
    )
    assert "10.9.9.9 may not mount anything" in visible(client.get("/", params={"address": "10.9.9.9"}).text)
    assert "is not an address" in visible(client.get("/", params={"address": "tools-1"}).text)


# --- the API ---------------------------------------------------------------------------------------------------------


def test_status(client: TestClient) -> None:
    words = client.get("/api/status").json()
    assert (words["site"], words["health"]) == ("wikicloud", "OK")
    assert words["rooms"][0]["facts"]["served_clients"] == 9


def test_exports(client: TestClient) -> None:
    words = client.get("/api/exports").json()
    assert [export["owner"] for export in words["exports"]] == ["public_scratch", "cvn", "maps", "tools"]
    one = client.get("/api/exports", params={"project": "tools"}).json()["exports"]
    assert [client_["instance_name"] for client_ in one[0]["clients"]] == ["tools-1", "tools-2", "tools-3", "tools-4"]


def test_history(client: TestClient) -> None:
    words = client.get("/api/exports/history", params={"limit": 5}).json()
    assert [generation["number"] for generation in words["generations"]] == [1]
    assert words["pin"] is None


def test_why(client: TestClient) -> None:
    words = client.get("/api/exports/why", params={"address": "172.16.1.11", "path": "/srv/misc/shared/tools"}).json()
    assert words["allowed"] is True
    assert words["now"][0]["instance_name"] == "tools-1"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/api/exports?project=nobody", 404),
        ("/api/exports?cluster=nothing", 404),
        ("/api/exports/history?limit=0", 400),
        ("/api/exports/history?limit=99999", 400),
        ("/api/exports/history?limit=x", 400),
        ("/api/exports/why", 400),
        ("/api/exports/why?address=nonsense", 400),
        ("/api/exports/why?address=10.0.0.1&path=../etc", 400),
    ],
)
def test_errors_are_json_with_words(client: TestClient, url: str, status: int) -> None:
    answer = client.get(url)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_metrics(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'labstore_exports_clients{cluster="primary"} 9.0' in answer.text


# --- half of it missing ----------------------------------------------------------------------------------------------


def fresh(tmp_path: Path) -> tuple[CliWorld, TestClient]:
    world = CliWorld.of(tmp_path)
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    return world, TestClient(create_app(source, now=world.clock.now))


def test_a_node_on_which_nothing_ran_yet(tmp_path: Path) -> None:
    _, client = fresh(tmp_path)
    words = visible(client.get("/").text)
    assert "Nothing has reported yet" in words
    assert "nothing was applied by labstore on this node yet" in words
    assert client.get("/api/exports").status_code == 404
    assert client.get("/api/status").json()["health"] == "UNKNOWN"


def test_a_broken_site_file_is_told_and_the_rest_is_shown(world: CliWorld, client: TestClient) -> None:
    assert client.get("/").status_code == 200
    world.site_file.write_text(world.site_file.read_text().replace("gid: 50380", "gid: -1"))
    words = visible(client.get("/").text)
    assert "The site file cannot be taken as it is" in words
    assert "exports primary" in words


def test_a_broken_history_costs_its_part_of_the_page(world: CliWorld, client: TestClient) -> None:
    for path in (world.base / "state/exports/primary").glob("history.sqlite*"):
        path.unlink()
    (world.base / "state/exports/primary/history.sqlite").write_bytes(b"not a database" * 100)
    answer = client.get("/")
    assert answer.status_code == 200
    assert "the history cannot be read" in visible(answer.text)
    assert client.get("/api/exports").status_code == 503


def test_a_silent_daemon_is_told_with_what_to_do(world: CliWorld, client: TestClient) -> None:
    run_dir = world.base / "run"
    kept = read(place(run_dir, "exports", "primary"))
    write(run_dir, replace(kept, due=kept.ended + timedelta(seconds=10)))
    words = visible(client.get("/").text)
    assert "its daemon does not run" in words
    assert "journalctl -u labstore-exportd" in words


# --- who may call ----------------------------------------------------------------------------------------------------


def called(world: CliWorld, allowed: tuple[str, ...], name: str) -> int:
    source = SiteSource(from_site_file(world.site_file), world.site_file)
    client = TestClient(create_app(source, allowed), base_url="http://127.0.0.1")
    return int(client.get("/api/status", headers={"host": name}).status_code)


@pytest.mark.parametrize(
    ("listen", "named", "name", "status"),
    [
        ("127.0.0.1", (), "127.0.0.1:9310", 200),
        ("127.0.0.1", (), "localhost:9310", 200),
        ("::1", (), "[::1]:9310", 200),
        ("127.0.0.1", (), "evil.example", 400),
        ("127.0.0.1", ("status.example.org",), "status.example.org", 200),
        ("192.0.2.1", (), "anything.example", 200),
        ("192.0.2.1", ("status.example.org",), "evil.example", 400),
    ],
)
def test_names_that_are_not_this_page_s_are_refused(
    world: CliWorld, listen: str, named: tuple[str, ...], name: str, status: int
) -> None:
    assert called(world, hosts(listen, named), name) == status


def test_the_page_needs_no_javascript_and_fits_a_phone(client: TestClient) -> None:
    text = client.get("/").text
    assert 'name="viewport"' in text
    style = client.get("/style.css").text
    assert "prefers-color-scheme: dark" in style
    assert "max-width" in style
    links: list[Any] = re.findall(r'(?:href|src|action)="([^"]*)"', text)
    assert all(link.startswith("/") or link == "data:," for link in links), "nothing comes from elsewhere"
