"""Whatever goes wrong: no generation is called good that is not, the next run recovers, and what happened is said.

Short forms by default; LABSTORE_BACKUP_CUTS=100 and LABSTORE_BACKUP_KILLS=50 are the long ones.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.messages import limits_text, options_text
from labstore.blocksync.wire import VERSION, Kind, Sealer
from labstore.model.block_sync import DEFAULTS, UNLIMITED, Role
from tests.integration.backup.site import Site, digest
from tests.integration.test_blocksync import BLOCK, BLOCKS, change, child_of, serving, sync
from tests.support.blocksync import honest
from tests.support.cutting import Cutting
from tests.support.hang import HANGS
from tests.support.sshd import Sshd, private_sshd

CUTS = int(os.environ.get("LABSTORE_BACKUP_CUTS", "6"))
KILLS = int(os.environ.get("LABSTORE_BACKUP_KILLS", "4"))
LOST = {"blocksync-peer-lost", "blocksync-broken-protocol", "blocksync-not-reached"}


class States:
    """Every state that the source was ever in when a run began, by digest."""

    def __init__(self, site: Site) -> None:
        self.site, self.seen = site, set[str]()

    def change(self, text: str) -> None:
        self.site.write(text)
        self.seen.add(digest(self.site.source))

    def no_generation_lies(self) -> None:
        """One that is proven is a state of the source, byte for byte."""
        folder = Path(f"{self.site.target}.generations")
        for each in self.site.generations():
            if each["verdict"] == "proven":
                assert digest(folder / f"labstore-tools-{each['name']}.img") in self.seen, each


def words(said: str) -> str:
    return " ".join(said.split())


# --- killed and cut --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["backup host", "source"])
def test_a_job_killed_at_any_moment(site: Site, whom: str) -> None:
    chance, states = random.Random(whom), States(site)
    states.change("first")
    site.do("run", "tools")
    for number in range(KILLS):
        states.change(f"more {number}")
        argv = [sys.executable, "-m", "labstore", "backup", "run", "tools", "--site", str(site.file)]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(chance.uniform(0.3, 2.5))
        victim = process.pid if whom == "backup host" else child_of(process.pid)
        if victim is not None and process.poll() is None:
            os.kill(victim, signal.SIGKILL)
        process.wait(HANGS)
        states.no_generation_lies()
    states.change("last")
    site.do("run", "tools")
    states.no_generation_lies()
    newest = site.generations()[-1]
    assert newest["verdict"] == "proven"
    assert digest(site.target) == digest(site.source)
    assert not list(Path(f"{site.source}.generations").glob("*.img")), "no snapshot of the source lingers"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with private_sshd(tmp_path / "ssh") as running:
        yield running


def through(relay: Cutting, sshd: Sshd, folder: Path) -> Path:
    """The ssh configuration that reaches the sshd by way of the relay."""
    config = folder / "relayed"
    config.write_text(sshd.config.read_text().replace(f"Port {sshd.port}", f"Port {relay.port}"))
    return config


def test_ssh_cut_at_random_places(tmp_path: Path, sshd: Sshd) -> None:
    source, target, state = tmp_path / "source.img", tmp_path / "target.img", tmp_path / "here"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    relay, chance, failed = Cutting(sshd.port), random.Random(2), 0
    config = through(relay, sshd, tmp_path)
    how = ("--state", state, "--ssh-config", config, "--remote", serving(tmp_path / "there"), "--attempts", "1")
    sync(f"elsewhere:{source}", target, *how)
    for number in range(CUTS):
        change(source, number, 60)
        relay.upward = bool(number % 2)
        relay.after = chance.randrange(3000, 8000) if relay.upward else chance.randrange(3000, 1_000_000)
        done = attempt(f"elsewhere:{source}", target, *how)
        if done.get("code"):
            assert done["code"] in LOST, done
            assert "run again" in str(done["remedy"])
            failed += 1
        else:
            assert target.read_bytes() == source.read_bytes()
        relay.after = None
        honest(source, target, state)
        if number % 3 == 2:
            sync(f"elsewhere:{source}", target, *how)
            assert target.read_bytes() == source.read_bytes()
    relay.after = None
    sync(f"elsewhere:{source}", target, *how)
    assert target.read_bytes() == source.read_bytes()
    assert failed >= CUTS // 3
    relay.close()


def attempt(*more: object) -> dict[str, object]:
    """A sync that may end either way."""
    code = "from labstore.cli.blocksync import blocksync; blocksync()"
    argv = [sys.executable, "-c", code, "run", "--json", *map(str, more)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HANGS, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_a_job_whose_source_is_switched_off_says_so_and_goes_on_later(tmp_path: Path, sshd: Sshd) -> None:
    """Its sshd is gone between two runs, and the connection goes dead within one."""
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    relay = Cutting(sshd.port)
    config = through(relay, sshd, tmp_path)
    site = Site(tmp_path, f"      nodes: [elsewhere]\n      reach: {{ssh_config: {config}}}")
    sshd.allow(f"{sys.executable} -m labstore.cli.backup_serve --site {site.file} --job tools")
    states = States(site)
    states.change("first")
    site.do("run", "tools")
    states.change("second")
    relay.target, port = 1, relay.target
    said = words(site.do("run", "tools", expect=1))
    assert "no machine can be read" in said and "elsewhere" in said
    relay.target, relay.after = port, 12_000
    site.do("run", "tools")
    assert relay.cuts == 1, "it was cut on the way, and the same run went on"
    states.no_generation_lies()
    assert len(site.generations()) == 2
    relay.close()


# --- full, overflowing, rotten ---------------------------------------------------------------------------------------


def test_a_backup_disk_that_is_full(site: Site) -> None:
    states = States(site)
    states.change("first")
    small = site.target.parent
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "none", small], check=False).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        site.do("run", "tools")
        states.change("second" * 30)
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 16))
        before = site.generations()
        assert "No space left" in words(site.do("run", "tools", expect=1))
        assert site.generations() == before
        states.no_generation_lies()
        ballast.unlink()
        site.do("run", "tools")
        states.no_generation_lies()
        assert [each["verdict"] for each in site.generations()] == ["proven", "proven"]
        assert digest(site.target) == digest(site.source)
    finally:
        site.do("unmount", "tools")
        subprocess.run(["umount", small], check=True)


def test_a_source_that_cannot_be_read_to_its_end(tmp_path: Path) -> None:
    """What an overflowed snapshot does: reads fail from some moment on."""
    if os.geteuid() != 0:
        pytest.skip("loop devices want root")
    backing, target, state = tmp_path / "backing", tmp_path / "target", tmp_path / "state"
    backing.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    done = subprocess.run(["losetup", "-f", "--show", backing], capture_output=True, text=True, check=True)
    loop = done.stdout.strip()
    try:
        sync(loop, target, "--state", state, "--read", "direct")
        good = target.read_bytes()
        os.truncate(backing, BLOCKS * BLOCK // 2)
        failed = sync(loop, target, "--state", state, "--read", "direct", "--full", "--attempts", "1", expect=1)
        assert failed["code"] == "blocksync-read-failed"
        assert "overflowed" in str(failed["remedy"])
        honest(Path(loop), target, state)
        assert len(target.read_bytes()) == len(good)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def test_a_target_written_behind_our_back_is_repaired(site: Site) -> None:
    states = States(site)
    states.change("first")
    site.do("run", "tools")
    for at in (0x438, 5 << 20, (32 << 20) - 1):
        with site.target.open("r+b") as file:
            file.seek(at)
            flipped = bytes([file.read(1)[0] ^ 0x40])
            file.seek(at)
            file.write(flipped)
    states.change("second")
    site.do("run", "tools")
    assert digest(site.target) == digest(site.source)
    states.no_generation_lies()


def test_a_generation_that_rotted_is_found_out_when_it_is_proven_again(site: Site) -> None:
    site.do("run", "tools")
    (image,) = Path(f"{site.target}.generations").glob("*.img")
    with image.open("r+b") as file:
        file.seek(1024 + 4096 * 10)
        file.write(b"\xff" * 400_000)
    assert "does not restore" in words(site.do("prove", "tools", expect=1))
    assert [each["verdict"] for each in site.generations()] == ["failed"]
    site.do("run", "tools")
    assert [each["verdict"] for each in site.generations()] == ["failed", "proven"]


def test_a_disk_below_the_target_that_changes_is_found_and_repaired(tmp_path: Path) -> None:
    """Here below a loop device. What leaves no trace at all is for the scrub (tests/unit/blocksync/test_session.py)."""
    if os.geteuid() != 0:
        pytest.skip("loop devices want root")
    source, backing, state = tmp_path / "source", tmp_path / "backing", tmp_path / "state"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    backing.touch()
    os.truncate(backing, BLOCKS * BLOCK)
    argv = ["losetup", "-f", "--show", backing]
    loop = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        sync(source, loop, "--state", state)
        with backing.open("r+b") as file:
            file.seek(77 * BLOCK + 5)
            file.write(b"rot")
            os.fsync(file.fileno())
        again = sync(source, loop, "--state", state, "--scrub", "1")
        assert again["passed"] == "both", again
        assert backing.read_bytes() == source.read_bytes()
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


# --- shrunk, swapped, foreign, mounted -------------------------------------------------------------------------------


def test_a_source_that_shrank_replaces_nothing(site: Site) -> None:
    states = States(site)
    states.change("first")
    site.do("run", "tools")
    before = digest(site.target)
    os.truncate(site.source, 16 << 20)
    said = words(site.do("run", "tools", expect=1))
    assert "it had 33554432" in said and "--permit shrink" in said
    assert digest(site.target) == before
    states.no_generation_lies()


def test_a_target_swapped_for_another_is_left_alone_until_somebody_permits_it(site: Site) -> None:
    site.do("run", "tools")
    site.target.rename(site.target.with_suffix(".old"))
    subprocess.run(["truncate", "-s", "32M", site.target], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", site.target], check=True)
    other = digest(site.target)
    said = words(site.do("run", "tools", expect=1))
    assert "another device than last time" in said and "--permit new-target" in said
    assert digest(site.target) == other
    site.do("run", "tools", "--permit", "new-target")
    assert digest(site.target) == digest(site.source)


def test_a_foreign_target_is_refused_before_anything_is_snapshotted(site: Site) -> None:
    subprocess.run(["truncate", "-s", "32M", site.target], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", site.target], check=True)
    before = digest(site.target)
    said = words(site.do("run", "tools", expect=3))
    assert "never written as this backup" in said
    assert digest(site.target) == before
    assert not Path(f"{site.source}.generations").exists(), "nothing was snapshotted"
    site.do("run", "tools", "--permit", "adopt-target")
    assert digest(site.target) == digest(site.source)


def test_a_mounted_target_is_refused_before_anything_is_snapshotted(site: Site) -> None:
    """upstream #39."""
    site.do("run", "tools")
    snapshots = Path(f"{site.source}.generations")
    taken = snapshots.stat().st_mtime_ns
    subprocess.run(["mount", "-o", "loop", site.target, site.work], check=True)
    try:
        said = words(site.do("run", "tools", expect=3))
        assert "cannot be written" in said and "labstore backup mount" in said
        assert snapshots.stat().st_mtime_ns == taken, "nothing was snapshotted"
        assert len(site.generations()) == 1
    finally:
        subprocess.run(["umount", site.work], check=True)
    site.do("run", "tools")
    assert digest(site.target) == digest(site.source)


def test_a_second_run_beside_the_first_is_turned_away_by_name(site: Site) -> None:
    """upstream #38."""
    from labstore.system.locks import exclusive  # noqa: PLC0415 - here alone

    folder = site.folder / "run/backup"
    folder.mkdir(parents=True)
    with exclusive(folder / "tools.lock", "backup of tools"):
        said = words(site.do("run", "tools", expect=6))
    assert "another run is at it: backup of tools" in said


# --- a hostile caller ------------------------------------------------------------------------------------------------


def asked(sshd: Sshd, said: bytes, words: str = "") -> tuple[int, bytes]:
    """What the forced command makes of these bytes."""
    argv = ["ssh", "-F", str(sshd.config), "root@elsewhere", words]
    done = subprocess.run(argv, input=said, capture_output=True, timeout=HANGS, check=False)
    return done.returncode, done.stdout


def test_a_stolen_key_reads_its_job_s_volume_and_nothing_else(tmp_path: Path, sshd: Sshd) -> None:
    """Fuzzed frames, oversized lengths, path tricks, other roles: over ssh, against what a job's key runs."""
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    site = Site(tmp_path)
    sshd.allow(f"{sys.executable} -m labstore.cli.backup_serve --site {site.file} --job tools")
    before, chance, secret = digest(site.source), random.Random(6), tmp_path / "secret"
    secret.write_text("nobody's business")
    texts = {"options": options_text(DEFAULTS), "limits": limits_text(UNLIMITED), "label": "../../x"}
    hello = {"version": VERSION, "nonce": "0" * 32, **texts}
    tricks = [
        secret,
        f"{site.source}/../secret",
        f"/{site.source}",
        "/dev/vda",
        "/proc/self/fd/0",
        "",
        "\0",
        site.target,
    ]
    for role, path in [*((Role.SOURCE, path) for path in tricks), (Role.TARGET, site.source), (Role.TARGET, secret)]:
        payload = json.dumps({**hello, "role": role, "path": str(path)}).encode()
        status, said = asked(sshd, Sealer().seal(Kind.HELLO, payload) + payload)
        assert status == 1, (role, path)
        assert b"nobody's business" not in said
    for _ in range(6):
        noise = chance.randbytes(chance.choice([1, 40, 5000]))
        assert asked(sshd, noise)[0] == 1
    huge = bytearray(Sealer().seal(Kind.HELLO, b"x"))
    for at in range(4, len(huge), 8):
        assert asked(sshd, bytes(huge[:at] + b"\xff" * (len(huge) - at)))[0] == 1
    for words in ("bash -i", f"cat {secret}", f"; cat {secret}", f"x --job other {secret}", "x" * 5000):
        status, said = asked(sshd, b"", words)
        assert status == 1 and b"nobody's business" not in said, words
    assert digest(site.source) == before
    assert not Path(f"{site.source}.generations").exists(), "a caller that says nothing has nothing snapshotted"
    assert secret.read_text() == "nobody's business"
