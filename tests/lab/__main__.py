"""`python -m tests.lab [NAME...]`: a lab to try things in, from a Python prompt and from other terminals.

Each machine gets a script in build/lab: `build/lab/alpha 'drbdadm status'`, or a shell with no argument.
"""

from __future__ import annotations

import argparse
import code
import time
from pathlib import Path

from tests.lab import layout
from tests.lab.image import SUITES
from tests.lab.lab import Lab

SCRIPTS = Path("build/lab")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="*", default=[], help="machines to start (alpha, beta, client; default: all)")
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    parser.add_argument("--cold", action="store_true", help="boot, rather than wake from a saved state")
    arguments = parser.parse_args()
    specs = [spec for spec in layout.ALL if not arguments.name or spec.name in arguments.name]
    with Lab(specs, arguments.suite, cold=arguments.cold) as lab:
        started = time.monotonic()
        lab.start()
        SCRIPTS.mkdir(parents=True, exist_ok=True)
        for machine in lab.machines.values():
            script = SCRIPTS / machine.name
            script.write_text(f'#!/bin/sh\nexec ssh {machine.ssh_options()} root@127.0.0.1 "$@"\n')
            script.chmod(0o755)
        said = (
            f"{', '.join(lab.machines)} up in {time.monotonic() - started:.1f} s; scripts in {SCRIPTS}. `lab` is here."
        )
        code.interact(banner=said, local={"lab": lab, **lab.machines, "net": lab.net})


if __name__ == "__main__":
    main()
