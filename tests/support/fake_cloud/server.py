"""The HTTP around the answers: keep-alive, several requests at once, latency by sleeping, faults on demand."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from labstore.model.site import OpenStackSettings
from tests.support.fake_cloud.answers import USER, Answer, Cloud, Request
from tests.support.fake_cloud.world import World

Rule = Mapping[str, Any]


class FakeCloud:
    """A world being served. `rules` are faults on demand in the language of the lab's labfault.py, the first that
    matches acts; `latency` in seconds is what every answer takes. `asked` are the requests so far."""

    def __init__(self, world: World, port: int = 0, latency: float = 0.0) -> None:
        self.world, self.latency = world, latency
        self.rules: Sequence[Rule] = ()
        self.asked: list[str] = []
        self.busy, self.busiest = 0, 0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.cloud = Cloud(world, self.url)

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clouds_file(self, directory: Path, **scope: object) -> Path:
        """A clouds.yaml with the entry `fake`; `scope` replaces the project scope."""
        auth = {
            "auth_url": f"{self.url}/identity/v3",
            "username": USER,
            "password": self.world.password,
            "user_domain_id": "default",
            **(scope or {"project_name": "home", "project_domain_id": "default"}),
        }
        entry = {"auth_type": "password", "auth": auth}
        target = directory / "clouds.yaml"
        target.write_text(json.dumps({"clouds": {"fake": entry}}))
        return target

    def settings(self, directory: Path, **more: Any) -> OpenStackSettings:
        wanted = {"call_deadline": 3.0, "listing_deadline": 20.0, **more}
        return OpenStackSettings(cloud="fake", clouds_file=self.clouds_file(directory), **wanted)

    def count(self, pattern: str = "") -> int:
        return sum(re.search(pattern, line) is not None for line in self.asked)

    # --- one exchange -----------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> tuple[Answer, int | None]:
        """The answer and after how many bytes of its body it breaks off."""
        self.asked.append(f"{request.method} {request.url}")
        rule = self._rule(request)
        time.sleep(self.latency + (rule or {}).get("delay", 0))
        if rule is not None and "status" in rule:
            body = rule.get("body", {"error": {"code": rule["status"], "message": "fake fault"}})
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            version = request.headers.get("openstack-api-version")
            known = {"OpenStack-API-Version": version} if version and not isinstance(body, str) else {}
            return Answer(rule["status"], data, {**known, **rule.get("headers", {})}), None
        answer = self.cloud.answer(request)
        if rule is not None and rule.get("empty"):
            lists = {key: [] for key, value in json.loads(answer.body).items() if isinstance(value, list)}
            return Answer(answer.status, json.dumps(lists).encode(), answer.headers), None
        return answer, (rule or {}).get("truncate")

    def _rule(self, request: Request) -> Rule | None:
        project = self.cloud.project_of(request)
        names = {project, self.world.projects[project].name if project in self.world.projects else None}
        for rule in self.rules:
            if (
                rule.get("service", request.service) == request.service
                and rule.get("region", request.region) == request.region
                and rule.get("method", request.method) == request.method
                and ("project" not in rule or rule["project"] in names)
                and re.search(rule.get("path", ""), request.url) is not None
                and random.random() < rule.get("chance", 1)
            ):
                return rule
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    fake: FakeCloud

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake.busy += 1
        fake.busiest = max(fake.busiest, fake.busy)
        try:
            answer, breaks = fake.answer(self._request(body))
        finally:
            fake.busy -= 1
        self._send(answer, breaks)

    do_POST = do_GET  # noqa: N815 - the base class names them so

    def _request(self, body: bytes) -> Request:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {key.lower(): value for key, value in self.headers.items()}
        steps = parts.path.split("/")
        if steps[1] == "identity":
            return Request(self.command, "keystone", "", parts.path[12:], query, headers, body, self.path)
        region = steps[2] if len(steps) > 2 else ""
        return Request(self.command, "nova", region, "/" + "/".join(steps[4:]), query, headers, body, self.path)

    def _send(self, answer: Answer, breaks: int | None) -> None:
        head = [f"HTTP/1.1 {answer.status} Fake", f"Content-Length: {len(answer.body)}"]
        head += [f"{key}: {value}" for key, value in answer.headers.items()]
        if self.server.fake.world.dates:
            head.append(f"Date: {formatdate(self.server.fake.world.now().timestamp(), usegmt=True)}")
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + answer.body[:breaks])
        if breaks is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(world: World, latency: float = 0.0) -> Iterator[FakeCloud]:
    """The world in a thread of this process, for as long as the block runs."""
    fake = FakeCloud(world, latency=latency)
    thread = threading.Thread(target=fake.serve, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.close()
        thread.join()
