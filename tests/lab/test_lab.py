"""The driver's parts that need no machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.lab import client_load, image, kill_at, leash
from tests.lab.client_load import Holder, Notes, Reader, Rival, Writer, compare, record
from tests.lab.image import built_once
from tests.lab.net import Net, mac
from tests.lab.waiting import TooLate, wait_until
from tests.support.hang import HANGS

# --- records ----------------------------------------------------------------------------------------------------------


def acknowledged(*numbers: int) -> bytes:
    return b"".join(b"%d 0.0\n" % number for number in numbers)


def test_what_was_promised_and_is_there_is_complete() -> None:
    found = b"".join(record(3, number) for number in (1, 2, 3, 4))
    totals = compare(3, acknowledged(1, 2, 3), found)
    assert totals == {"acknowledged": 3, "found": 4, "lost": 0, "twice": 0, "unasked": 1, "broken": 0}


def test_a_promised_record_that_is_missing_is_lost() -> None:
    assert compare(3, acknowledged(1, 2, 3), record(3, 1) + record(3, 3))["lost"] == 1


def test_a_torn_record_is_broken_and_so_is_another_writers() -> None:
    found = record(3, 1) + record(4, 2) + record(3, 3)[:100]
    assert compare(3, acknowledged(1), found)["broken"] == 2


def test_a_record_may_be_there_twice_only_after_an_error() -> None:
    found = record(0, 1) + record(0, 2) + record(0, 2)
    assert compare(0, acknowledged(1, 2), found)["twice"] == 1
    assert compare(0, acknowledged(1, 2), found, frozenset({2}))["twice"] == 0


def test_records_are_lines_of_one_length() -> None:
    assert {len(record(writer, number)) for writer in (0, 9999) for number in (1, 10**9)} == {client_load.RECORD}
    assert record(1, 1).endswith(b"\n") and record(1, 1).count(b"\n") == 1


# --- the load on a local directory ------------------------------------------------------------------------------------


def work(tmp_path: Path, seconds: float, *kinds: type[client_load.Worker]) -> dict[str, object]:
    share = tmp_path / client_load.DIRECTORY
    share.mkdir(exist_ok=True)
    notes, stopping = Notes(tmp_path / "state"), threading.Event()
    notes.workers = [kind(notes, share, 0, 0.01, stopping) for kind in kinds]
    for worker in notes.workers:
        worker.start()
    time.sleep(seconds)
    stopping.set()
    for worker in notes.workers:
        worker.join(5)
    notes.status()
    return client_load.report(*((tmp_path / "state" / name).read_text() for name in ("status", "events")))


def test_every_worker_works_and_the_promises_are_kept(tmp_path: Path) -> None:
    report = work(tmp_path, 0.5, Writer, Holder, Reader)
    assert not report["errors"] and not report["lost_locks"] and not report["wrong_content"]
    promised = (tmp_path / "state" / "acknowledged-0").read_bytes()
    totals = compare(0, promised, (tmp_path / client_load.DIRECTORY / "writer-0").read_bytes())
    assert totals["acknowledged"] > 2 and totals["lost"] == totals["broken"] == totals["unasked"] == 0


def test_a_rival_gets_a_lock_that_nobody_holds_and_that_is_noted(tmp_path: Path) -> None:
    share = tmp_path / client_load.DIRECTORY
    share.mkdir()
    (share / "lock-0").touch()
    report = work(tmp_path, 0.3, Rival)
    assert report["lost_locks"]


def test_a_held_lock_is_refused_to_another_process(tmp_path: Path) -> None:
    for ofd in (False, True):
        path = tmp_path / f"lock-{ofd}"
        with path.open("w+b") as file:
            client_load.lock(file.fileno(), ofd)
            code = f"file = open({str(path)!r}, 'r+b'); client_load.lock(file.fileno(), {ofd})"
            code = f"from tests.lab import client_load; {code}"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
            assert "BlockingIOError" in done.stderr, done


def test_an_error_is_noted_with_its_name_and_the_work_goes_on(tmp_path: Path) -> None:
    share = tmp_path / client_load.DIRECTORY
    share.mkdir()
    (share / "writer-0").mkdir()  # what a writer cannot open
    report = work(tmp_path, 0.3, Writer, Reader)
    assert {error["name"] for error in report["errors"]} == {"EISDIR"}  # type: ignore[attr-defined]
    assert report["workers"]["reader-0"]["done"] > 1  # type: ignore[index]


# --- the switch -------------------------------------------------------------------------------------------------------


class Wire:
    """One machine's end of a cable."""

    def __init__(self, net: Net, network: str, machine: str) -> None:
        self.address = bytes.fromhex(mac(machine, network).replace(":", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(net.port(network, machine)))
        self._socket.settimeout(5)

    def send(self, target: bytes, text: bytes) -> None:
        frame = target + self.address + b"\x08\x00" + text
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def take(self, seconds: float = 5) -> bytes | None:
        """The text of the next frame, None if none comes."""
        self._socket.settimeout(seconds)
        try:
            size = int.from_bytes(self._exactly(4), "big")
            return self._exactly(size)[14:]
        except TimeoutError:
            return None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._socket.recv(size - len(data))
        return data


EVERYBODY = b"\xff" * 6


@pytest.fixture
def net(tmp_path_factory: pytest.TempPathFactory) -> object:
    net = Net(tmp_path_factory.mktemp("s"))
    yield net
    net.close()


@pytest.fixture
def wires(net: Net) -> dict[str, Wire]:
    wires = {name: Wire(net, "front", name) for name in ("a", "b", "c")}
    for name, wire in wires.items():  # the switch learns where everybody is
        wire.send(EVERYBODY, b"here is " + name.encode())
    for wire in wires.values():
        assert wire.take() and wire.take()
    return wires


def test_frames_reach_whom_they_are_for(wires: dict[str, Wire]) -> None:
    wires["a"].send(wires["b"].address, b"to b")
    assert wires["b"].take() == b"to b"
    assert wires["c"].take(0.2) is None


def test_a_way_is_cut_alone_and_heals(net: Net, wires: dict[str, Wire]) -> None:
    net.cut("front", "a", "b", both=False)
    wires["a"].send(wires["b"].address, b"lost")
    assert wires["b"].take(0.2) is None
    wires["b"].send(wires["a"].address, b"back")
    assert wires["a"].take() == b"back"
    net.heal_all()
    wires["a"].send(wires["b"].address, b"again")
    assert wires["b"].take() == b"again"
    assert net.carried()["cut front a b"] == 1


def test_another_network_hears_nothing(net: Net, wires: dict[str, Wire]) -> None:
    other = Wire(net, "link", "a")
    wires["b"].send(EVERYBODY, b"for the front")
    assert other.take(0.2) is None


def test_who_does_not_read_holds_nobody_up(wires: dict[str, Wire]) -> None:
    for _ in range(2000):
        wires["a"].send(EVERYBODY, b"x" * 8000)
        if wires["b"].take() is None:
            pytest.fail("b waits for c")


def test_frames_are_captured(net: Net, wires: dict[str, Wire], tmp_path: Path) -> None:
    with net.capture("front", tmp_path / "all.pcap") as path:
        wires["a"].send(wires["b"].address, b"seen")
        assert wires["b"].take() == b"seen"
    assert path.read_bytes().endswith(b"seen")


# --- what is built once -----------------------------------------------------------------------------------------------


def test_a_build_that_fails_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), built_once(tmp_path / "it") as building:
        assert building is not None
        (building / "half").touch()
        raise RuntimeError
    assert not (tmp_path / "it").exists()
    with built_once(tmp_path / "it") as building:
        assert building is not None and not list(building.iterdir())


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    built: list[bool] = []

    def build() -> None:
        with built_once(tmp_path / "it") as building:
            built.append(building is not None)
            time.sleep(0.2)

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [False, False, True]


def test_the_cache_is_where_it_is_asked_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABSTORE_CACHE", str(tmp_path))
    assert image.cache() == tmp_path / "lab"
    monkeypatch.delenv("LABSTORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert image.cache() == tmp_path / "xdg" / "labstore" / "lab"


# --- processes and waiting --------------------------------------------------------------------------------------------


def test_a_killed_test_run_leaves_no_process() -> None:
    code = (
        "import os, signal, threading\nfrom tests.lab import leash\n"
        "thread = threading.Thread(target=lambda: print(leash.start(['sleep', '600'], stdout=2).pid, flush=True))\n"
        "thread.start(); thread.join()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    pid = int(done.stdout)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or b"\0" not in _cmdline(pid), 10, "the process is gone")


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_child_outlives_the_thread_that_asked_for_it() -> None:
    found: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: found.append(leash.start(["sleep", "600"])))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert found[0].poll() is None
    leash.end(found[0])


def test_waiting_ends_with_the_reason() -> None:
    with pytest.raises(TooLate, match="the moon is blue"):
        wait_until(lambda: 0, 0.1, "the moon is blue", every=0.01)
    assert os.environ.get("LABSTORE_LAB_PATIENCE", "1") == "1"


# --- killing at a step ------------------------------------------------------------------------------------------------


def run_and_kill(journal: Path, step: str, script: str) -> int:
    """kill_at's status, for a shell script that writes the journal."""
    argv = [sys.executable, str(Path(kill_at.__file__)), "--journal", str(journal), "--step", step]
    return subprocess.run([*argv, "--", "sh", "-c", script], check=False, timeout=HANGS).returncode


def entry(event: str, step: str) -> str:
    return json.dumps({"event": event, "step": step})


def test_a_command_is_killed_when_its_journal_says_that_the_step_began(tmp_path: Path) -> None:
    journal, end = tmp_path / "journal", tmp_path / "end"
    journal.write_text(entry("step", "mount:tools") + "\n")  # of an earlier run
    script = f"echo '{entry('step', 'block')}' >>{journal}; echo '{entry('step', 'mount:tools')}' >>{journal}; sleep 9"
    assert run_and_kill(journal, "mount:tools", f"{script}; touch {end}") == 0
    assert not end.exists()


def test_a_command_that_ends_without_the_step_is_said_not_to_be_killed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = f"echo '{entry('done', 'block')}' >>{journal}; echo '{{\"ev' >>{journal}"
    assert run_and_kill(journal, "block", script) == kill_at.ENDED


def test_another_process_is_found_by_its_command_line_and_killed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    marked = [sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path / "victim")]
    victim = subprocess.Popen(marked)
    argv = [sys.executable, str(Path(kill_at.__file__)), "--journal", str(journal), "--step", "block"]
    watch = subprocess.Popen([*argv, "--other", marked[-1]])

    def said_again() -> bool:
        with journal.open("a") as file:
            file.write(entry("step", "block") + "\n")
        return watch.poll() is not None

    try:
        wait_until(said_again, HANGS, "the watch has started and seen it")
        assert watch.returncode == 0
        assert victim.wait(HANGS) == -9
    finally:
        watch.kill()
        victim.kill()
