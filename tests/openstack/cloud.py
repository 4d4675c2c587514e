"""Hands on the lab: raw requests, an administrator's deeds, its services, its database, and faults on demand."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import openstack

warnings.simplefilter("ignore")

SCRIPTS = Path(__file__).parent / "lab"
ROOT = Path(os.environ.get("LAB", "/tmp/openstack-lab"))
REGIONS = (os.environ.get("LAB_REGION1", "eqiad1-r"), os.environ.get("LAB_REGION2", "codfw1dev-r"))
KEYSTONE = int(os.environ.get("P_KEYSTONE", "15000"))
NOVA = dict(
    zip(REGIONS, (int(os.environ.get("P_NOVA", "18774")), int(os.environ.get("P_NOVA2", "28774"))), strict=True)
)
PASSWORD = os.environ.get("LAB_PASSWORD", "labpass")
OBSERVER = "novaobserver"
NETWORK, FLOATING_NETWORK = "lan-flat-cloudinstances2b", "wan-transport"

Rule = Mapping[str, Any]
Scope = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """A raw answer; `body` is what arrived, also where it was cut short. `seconds` is how long it took."""

    request: tuple[str, ...]
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Lab:
    """The running lab. Everything it changes can be put back: by the method named beside it, or by `seed`."""

    clouds = ROOT / "clouds.yaml"

    def running(self) -> bool:
        try:
            return self.request(KEYSTONE, "GET", "/v3").status == 200
        except OSError:
            return False

    def start(self) -> None:
        """Install, start and seed whatever is not there."""
        self._script("openstack-up.sh")

    def expected(self) -> dict[str, dict[str, dict[str, list[str]]]]:
        """Project: server: kind: addresses, made from Neutron's ports, not from Nova's listing."""
        expected: dict[str, dict[str, dict[str, list[str]]]] = json.loads((ROOT / "expected.json").read_text())
        return expected

    def project_ids(self) -> dict[str, str]:
        """Name to id, for every project that the seed knows."""
        return {name: id_ for id_, name in json.loads((ROOT / "projects.json").read_text()).items()}

    # --- raw requests

    def request(
        self, port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None
    ) -> Reply:
        sent = {"Content-Type": "application/json", **(headers or {})}
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        try:
            data = response.read()
        except http.client.IncompleteRead as cut:
            data = cut.partial
        finally:
            connection.close()
        request = (f"{method} {path}", *(f"{key}: {value}" for key, value in (headers or {}).items()))
        seconds = time.monotonic() - started
        return Reply(request, response.status, response.reason, tuple(response.getheaders()), data, seconds)

    def login(self, scope: Scope, user: str = OBSERVER) -> Reply:
        who = {"name": user, "password": PASSWORD, "domain": {"id": "default"}}
        identity = {"methods": ["password"], "password": {"user": who}}
        body = {"auth": {"identity": identity, "scope": scope}}
        return self.request(KEYSTONE, "POST", "/v3/auth/tokens", body=body)

    def token(self, project: str = "tools", scope: Scope | None = None) -> str:
        reply = self.login(scope or in_project(project))
        token = reply.header("X-Subject-Token")
        if token is None:
            raise RuntimeError(f"no token for {scope or project}: {reply.status} {reply.body[:200]!r}")
        return token

    def nova(self, path: str, token: str, microversion: str | None = "2.93", region: str = REGIONS[0]) -> Reply:
        version = {"OpenStack-API-Version": f"compute {microversion}"} if microversion else {}
        return self.request(NOVA[region], "GET", f"/v2.1{path}", {"X-Auth-Token": token, **version})

    def keystone(self, path: str, token: str) -> Reply:
        return self.request(KEYSTONE, "GET", f"/v3{path}", {"X-Auth-Token": token})

    # --- an administrator's deeds

    def admin(self, project: str = "admin") -> Any:
        return _connection(project)

    def boot(self, project: str, name: str, wait: bool = True, **more: Any) -> str:
        """Create a server; `delete` puts it back. Returns its id, when it is ACTIVE where `wait`."""
        cloud = self.admin(project)
        image, flavor = (
            cloud.image.find_image("debian-12.0-bookworm"),
            cloud.compute.find_flavor("g4.cores1.ram2.disk20"),
        )
        networks = more.pop("networks", None) or [{"uuid": cloud.network.find_network(NETWORK).id}]
        wanted = {"flavor_id": flavor.id, "image_id": image.id, "networks": networks, **more}
        server = cloud.compute.create_server(name=name, **wanted)
        if wait:
            cloud.compute.wait_for_server(server, interval=0.5, wait=120)
        return str(server.id)

    def delete(self, project: str, server: str, wait: bool = True) -> None:
        cloud = self.admin(project)
        cloud.compute.delete_server(server, ignore_missing=True, force=False)
        if wait:
            eventually(lambda: self.sql(f"select deleted from nova.instances where uuid='{server}'") not in ("0", ""))

    def give_floating(self, project: str, server: str) -> str:
        """Attach a floating address; `take_floating` puts it back. Returns the address's id."""
        cloud = self.admin(project)
        port = next(iter(cloud.network.ports(device_id=server)))
        outer = cloud.network.find_network(FLOATING_NETWORK)
        return str(cloud.network.create_ip(floating_network_id=outer.id, port_id=port.id).id)

    def take_floating(self, project: str, address: str) -> None:
        self.admin(project).network.delete_ip(address)

    def seed(self) -> None:
        """Put the seeded projects, roles and servers back, and remove the faults on demand."""
        self._script("openstack-up.sh", "seed")

    # --- services, knobs, database, faults on demand

    def down(self, *services: str) -> None:
        self._script("openstack-down.sh", *services)

    def up(self, *services: str) -> None:
        self._script("openstack-up.sh", "start", *services)

    def signal(self, service: str, number: signal.Signals) -> None:
        """To the whole session of a service: SIGSTOP freezes it, SIGCONT lets it go on."""
        os.killpg(int((ROOT / "run" / f"{service}.pid").read_text().split()[0]), number)

    def knobs(self, **knobs: str) -> None:
        """Write the services' configuration again with these knobs; without any, with the defaults. Policy files are
        read again by the running services; anything else needs a restart of the service."""
        self._script("openstack-up.sh", "configure", knobs=knobs)

    def sql(self, statement: str) -> str:
        command = ["mariadb", "--no-defaults", f"--socket={ROOT}/mysql/mysql.sock", "-uroot", "-N", "-e", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def fault(self, *rules: Rule) -> None:
        """Faults on demand, replaced as a whole; without rules the file goes away."""
        target, new = ROOT / "faults.json", ROOT / "faults.json.new"
        if rules:
            new.write_text(json.dumps(rules))
            new.replace(target)
        else:
            target.unlink(missing_ok=True)

    @contextmanager
    def faulty(self, *rules: Rule) -> Iterator[None]:
        self.fault(*rules)
        try:
            yield
        finally:
            self.fault()

    def _script(self, name: str, *arguments: str, knobs: Mapping[str, str] | None = None) -> None:
        command = [str(SCRIPTS / name), *arguments]
        done = subprocess.run(command, env={**os.environ, **(knobs or {})}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-500:]}")


@dataclass
class Undo:
    """What has to be put back, last thing first."""

    steps: list[Callable[[], object]] = field(default_factory=list)

    def later(self, step: Callable[[], object]) -> None:
        self.steps.append(step)

    def now(self) -> None:
        while self.steps:
            self.steps.pop()()


def in_project(name: str) -> Scope:
    return {"project": {"name": name, "domain": {"id": "default"}}}


IN_SYSTEM: Scope = {"system": {"all": True}}
IN_DOMAIN: Scope = {"domain": {"id": "default"}}


def eventually(holds: Callable[[], object], seconds: float = 60, every: float = 0.25) -> float:
    """Wait until `holds()` is true; returns the seconds it took, raises TimeoutError."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"still not so after {seconds:g} s")
        time.sleep(every)
    return time.monotonic() - started


def ids(servers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {server["name"]: server["id"] for server in servers}


@cache
def _connection(project: str) -> Any:
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(Lab.clouds)
    return openstack.connect(cloud="lab-admin", project_name=project)
