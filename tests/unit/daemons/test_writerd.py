"""The v1 service as the original's callers know it, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from labstore.daemons.writerd import application
from labstore.formats.replica_cnf import BODY_LIMIT
from labstore.model.accounts import AccountKind, NativeHash
from labstore.model.dbusers_settings import FilesSettings
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileFact, FileState
from tests.contracts.credential_writer import PAWS, WIKIBUGS
from tests.support.dbusers_fakes import FakeFiles
from tests.support.fake_clock import FakeClock
from tests.support.web_client import TestClient
from tests.support.writer_service import PASSWORD, Running

AUTH = ("labstore", PASSWORD.reveal())
WRITE: dict[str, Any] = {
    "account_id": "tools.wikibugs",
    "account_type": "tool",
    "uid": 50001,
    "mysql_username": "s50001",
    "password": "abcdefghijklmnop",
    "dry_run": False,
}
WHOSE = {key: WRITE[key] for key in ("account_id", "account_type", "dry_run")}
PATHS = [
    ("POST", "/v1/write-replica-cnf"),
    ("POST", "/v1/read-replica-cnf"),
    ("POST", "/v1/delete-replica-cnf"),
    ("GET", "/v1/paws-uids"),
    ("POST", "/v1/inspect-replica-cnfs"),
    ("POST", "/v1/replace-replica-cnf"),
    ("POST", "/v1/protect-replica-cnf"),
]


@pytest.fixture
def files() -> FakeFiles:
    return FakeFiles(FakeClock())


@pytest.fixture
def client(files: FakeFiles, tmp_path: Path) -> TestClient:
    home = tmp_path / "wikibugs"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, WIKIBUGS.uid, WIKIBUGS.uid)
    running = Running(files, FilesSettings({AccountKind.TOOL: tmp_path}))
    return TestClient(application(running.service), raise_server_exceptions=False)


def post(client: TestClient, what: str, words: dict[str, Any], status: int = 200) -> dict[str, Any]:
    reply = client.post(f"/v1/{what}-replica-cnf", json=words, auth=AUTH)
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize(("method", "path"), PATHS, ids=[path for _, path in PATHS])
@pytest.mark.parametrize(
    "header", [None, "Basic", "Basic !!!", "Bearer abc", "Basic bGFic3RvcmU6", "Basic bGFic3RvcmU6d3Jvbmc="]
)
def test_nobody_is_answered_without_the_password(
    client: TestClient, files: FakeFiles, method: str, path: str, header: str | None
) -> None:
    files.homes.add(WIKIBUGS.user)
    reply = client.request(method, path, headers={"authorization": header} if header else {}, content=b"{}")
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Basic")
    assert not files.files


def test_a_write_makes_the_file(client: TestClient, files: FakeFiles, tmp_path: Path) -> None:
    files.homes.add(WIKIBUGS.user)
    answer = post(client, "write", WRITE)
    assert answer["result"] == "ok"
    assert answer["detail"]["replica_path"] == f"{tmp_path}/wikibugs/replica.my.cnf"
    assert files.passwords[WIKIBUGS.user].reveal() == WRITE["password"]


def test_a_write_without_a_home_is_skipped(client: TestClient) -> None:
    answer = post(client, "write", WRITE)
    assert answer["result"] == "skip"
    assert answer["detail"]["reason"]


def test_a_write_over_another_file_is_skipped_and_changes_nothing(client: TestClient, files: FakeFiles) -> None:
    files.homes.add(WIKIBUGS.user)
    post(client, "write", WRITE)
    assert post(client, "write", WRITE | {"password": "ponmlkjihgfedcba"})["result"] == "skip"
    assert files.passwords[WIKIBUGS.user].reveal() == WRITE["password"]


def test_a_dry_run_writes_nothing(client: TestClient, files: FakeFiles) -> None:
    files.homes.add(WIKIBUGS.user)
    assert post(client, "write", WRITE | {"dry_run": True})["result"] == "ok"
    assert post(client, "delete", WHOSE | {"dry_run": True})["result"] == "ok"
    assert post(client, "read", WHOSE | {"dry_run": True})["detail"]["user"] == "dry.run.username"
    assert not files.files


@pytest.mark.skipif(os.geteuid() != 0, reason="a home that belongs to a tool needs root")
def test_a_read_gives_the_hash_and_never_the_password(client: TestClient, files: FakeFiles) -> None:
    files.homes.add(WIKIBUGS.user)
    post(client, "write", WRITE)
    answer = post(client, "read", WHOSE)
    verifier = NativeHash.of(Secret(WRITE["password"]))
    assert answer["detail"] == {"user": "s50001", "password": verifier.stored, "state": "trusted"}
    assert WRITE["password"] not in str(answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="a home that belongs to a tool needs root")
def test_a_delete_removes_and_deleting_again_is_harmless(client: TestClient, files: FakeFiles) -> None:
    files.homes.add(WIKIBUGS.user)
    post(client, "write", WRITE)
    for _ in range(2):
        assert post(client, "delete", WHOSE)["result"] == "ok"
    assert not files.files


def test_a_file_that_is_not_ours_is_an_error_for_readers(client: TestClient, files: FakeFiles) -> None:
    files.files[WIKIBUGS.user] = FileFact(FileState.FOREIGN, why="it is a symbolic link")
    words = {**WHOSE, "uid": 50001, "mysql_username": "s50001"}
    assert "symbolic link" in post(client, "read", words, 500)["detail"]["reason"]


def test_paws_ids(client: TestClient, files: FakeFiles) -> None:
    files.homes.add(PAWS.user)
    reply = client.get("/v1/paws-uids", auth=AUTH)
    assert reply.json() == {"result": "ok", "detail": {"paws_uids": ["31"]}}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"account_type": "robot"}, 400),
        ({"account_id": "../../etc"}, 400),
        ({"account_id": "tools.wiki/bugs"}, 400),
        ({"account_id": "wikibugs"}, 400),
        ({"uid": 0}, 400),
        ({"uid": 4294967295}, 400),
        ({"uid": "many"}, 400),
        ({"mysql_username": "s50002"}, 400),
        ({"mysql_username": "root"}, 400),
        ({"password": 5}, 400),
        ({"dry_run": "no"}, 400),
    ],
)
def test_what_does_not_belong_together_is_refused(
    client: TestClient, files: FakeFiles, change: dict[str, Any], status: int
) -> None:
    files.homes.add(WIKIBUGS.user)
    answer = post(client, "write", WRITE | change, status)
    assert answer["result"] == "error"
    assert answer["detail"]["reason"]
    assert not files.files


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"[" * 100000, b"\xff\xfe"])
def test_bodies_that_are_no_request(client: TestClient, body: bytes) -> None:
    reply = client.post("/v1/write-replica-cnf", content=body, auth=AUTH)
    assert (reply.status_code, reply.json()["result"]) == (400, "error")


def test_a_body_without_end_is_cut_off(client: TestClient) -> None:
    reply = client.post("/v1/write-replica-cnf", content=b" " * (BODY_LIMIT + 1), auth=AUTH)
    assert reply.status_code == 413


def test_more_than_a_few_thousand_accounts_are_not_asked_about_at_once(client: TestClient) -> None:
    words = {"accounts": [WRITE] * 5001}
    assert client.post("/v1/inspect-replica-cnfs", json=words, auth=AUTH).status_code == 400
