"""KVM where it works. It can be there and hang every guest, so it is tried, with a deadline."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from functools import cache as once
from pathlib import Path

from tests.lab import leash
from tests.lab.image import Image, cache

PROBE_DEADLINE = 8.0


@once
def accelerator(image: Image) -> str:
    """ "kvm" or "tcg": LABSTORE_LAB_ACCEL if it is set, else what a kernel gets to print."""
    asked = os.environ.get("LABSTORE_LAB_ACCEL", "auto")
    if asked != "auto":
        return asked
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _boots_once(image) else "tcg"


def _boots_once(image: Image) -> bool:
    """`_boots`, asked once per boot of this host and kernel image."""
    known = cache() / "kvm"
    key = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {image.digest} "
    with contextlib.suppress(OSError):
        text = known.read_text()
        if text.startswith(key):
            return text.endswith("works")
    works = _boots(image)
    known.write_text(key + ("works" if works else "hangs"))
    return works


def _boots(image: Image) -> bool:
    """Whether a kernel under KVM says anything at all. A QEMU that cannot be killed is left behind."""
    with tempfile.TemporaryDirectory(prefix="labstore-kvm-") as directory:
        console = Path(directory) / "console"
        argv = ["qemu-system-x86_64", "-M", "pc", "-nodefaults", "-display", "none", "-no-reboot", "-accel", "kvm"]
        argv += ["-cpu", "host", "-m", "256", "-kernel", str(image.kernel), "-serial", f"file:{console}"]
        argv += ["-append", "console=ttyS0 panic=-1"]
        process = leash.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(PROBE_DEADLINE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
        return console.exists() and b"Kernel panic" in console.read_bytes()
