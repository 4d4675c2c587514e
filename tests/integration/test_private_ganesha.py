"""The private server of the demonstration and the tests: quick, alone, and gone with whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.demo.child import Child, ChildFailed
from labstore.demo.client import Instance, Mount, NfsError
from labstore.demo.relay import Relays
from labstore.demo.server import PrivateGanesha
from labstore.model.exports import ExportTable
from tests.contracts.export_server import made
from tests.support.ganesha import need_ganesha, running_ganesha
from tests.support.hang import HANGS

pytestmark = pytest.mark.root

ONE = "127.77.0.1"


@pytest.fixture(autouse=True)
def installed() -> None:
    need_ganesha()


def listening() -> set[tuple[str, int]]:
    """(address, port) of every listening TCP socket of this machine, as /proc/net/tcp and tcp6 give them."""
    found: set[tuple[str, int]] = set()
    for file in ("tcp", "tcp6"):
        for line in Path("/proc/net", file).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                found.add((local.partition(":")[0], int(local.partition(":")[2], 16)))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, pids
        time.sleep(0.02)


def test_it_opens_one_port_on_loopback_and_no_other(tmp_path: Path) -> None:
    before = listening()
    with running_ganesha(tmp_path) as lab:
        new = {(address, port) for address, port in listening() - before if port == lab.ganesha.port or port == 2049}
        assert [port for _, port in new] == [lab.ganesha.port]
        ((address, _),) = new
        assert address.endswith("0100007F")


def test_it_starts_again(tmp_path: Path) -> None:
    with running_ganesha(tmp_path) as lab:
        lab.ganesha.stop()
        assert lab.ganesha.start() < HANGS


_OWNER = """
import sys, time
from pathlib import Path
from labstore.demo.server import PrivateGanesha
directory = Path(sys.argv[1])
exports = directory / "exports.conf"
exports.write_text("")
ganesha = PrivateGanesha(directory / "g", exports)
ganesha.start()
print(ganesha.pid, ganesha._bus.pid, flush=True)
time.sleep(60)
"""


def test_it_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    server, bus = map(int, owner.stdout.readline().split())
    assert alive(server)
    assert alive(bus)
    owner.kill()
    owner.wait()
    wait_until_gone([server, bus])


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    exports = tmp_path / "exports.conf"
    exports.write_text("EXPORT { Export_Id = ")
    with PrivateGanesha(tmp_path / "g", exports) as ganesha, pytest.raises(ChildFailed, match="ganesha"):
        ganesha.start()


def test_a_path_too_long_for_a_socket_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        PrivateGanesha(tmp_path / ("x" * 100), tmp_path / "exports.conf")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    child = Child(["sleep", "60"], tmp_path / "log")
    yield child
    child.kill()


def test_a_child_that_is_deaf_to_asking_is_killed(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], tmp_path / "log")
    child.wait_until(lambda: "ready" in child.last_words(), 5.0)
    assert child.stop(0.2) == -signal.SIGKILL


def test_waiting_has_an_end(sleeper: Child) -> None:
    with pytest.raises(ChildFailed, match="not ready"):
        sleeper.wait_until(lambda: False, 0.1)


def test_a_child_has_a_small_environment(tmp_path: Path) -> None:
    os.environ["A_SECRET"] = "of ours"
    child = Child(["env"], tmp_path / "log")
    child.stop()
    assert "A_SECRET" not in (tmp_path / "log").read_text()
    del os.environ["A_SECRET"]


# --- the client ------------------------------------------------------------------------------------------------------


def test_a_silent_server_keeps_a_client_no_longer_than_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(NfsError) as failed:
            Mount(silent.getsockname()[1], "/srv/a", deadline=0.5)
        assert time.monotonic() - started < HANGS
        assert not failed.value.refused


def test_two_mounts_of_one_process_do_not_take_each_others_state(tmp_path: Path) -> None:
    with running_ganesha(tmp_path) as lab:
        table = ExportTable((made(lab, "tools", ONE),))
        (lab.root / "tools" / "hello").write_text("hello")
        lab.server.apply(table, 1)
        instance = lab.instance(ONE)
        with instance.mounted(table.exports[0].path) as one, one.open("/hello") as first:
            assert first.read() == b"hello"
            with instance.mounted(table.exports[0].path) as two:
                assert two.read("/hello") == b"hello"
                assert first.read() == b"hello"


def test_a_large_file_goes_there_and_back(tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    with running_ganesha(tmp_path) as lab:
        table = ExportTable((made(lab, "tools", ONE),))
        (lab.root / "tools").chmod(0o777)
        lab.server.apply(table, 1)
        with lab.instance(ONE, uid=1000, gid=1000).mounted(table.exports[0].path) as mount:
            mount.write("/large", content)
            assert mount.read("/large", 2_000_000) == content
            assert mount.read("/large", 200_000) == content[:200_000]
            mount.remove("/large")
            assert mount.list() == ()


def test_nobody_there_is_a_failure_and_no_refusal(tmp_path: Path) -> None:
    with running_ganesha(tmp_path) as lab:
        lab.ganesha.stop()
        with Relays(lab.ganesha.port) as relays, pytest.raises(NfsError) as failed:
            Instance(relays, ONE).may_mount("/srv/a")
        assert not failed.value.refused


def test_after_a_restart_with_a_grace_period_newcomers_wait(tmp_path: Path) -> None:
    """Why the demonstration has none; on a production server the clients that were there come first."""
    with running_ganesha(tmp_path, grace=3) as lab:
        table = ExportTable((made(lab, "tools", ONE),))
        path = table.exports[0].path
        (lab.root / "tools" / "hello").write_text("hello")
        lab.server.apply(table, 1)
        with lab.instance(ONE).mounted(path) as mount:
            assert mount.read("/hello") == b"hello"
            lab.restart_server()
        with lab.driver.connect() as session:
            assert session.in_grace()
        with lab.instance(ONE).mounted(path) as mount, pytest.raises(NfsError) as waiting:
            mount.read("/hello")
        assert waiting.value.status == "NFS4ERR_GRACE"
        until = time.monotonic() + 15.0
        with lab.driver.connect() as session:
            while session.in_grace():
                assert time.monotonic() < until
                time.sleep(0.1)
        with lab.instance(ONE).mounted(path) as mount:
            assert mount.read("/hello") == b"hello"
