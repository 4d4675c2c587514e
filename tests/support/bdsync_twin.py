"""A program that behaves as bdsync 0.11 does as far as labstore uses it: same words, same output, same statuses.

`--server` reads a path from standard input and gives the whole of it; else what differs is compared here.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

MAGIC = b"BDSYNC 0.3\n"


def server() -> int:
    path = Path(sys.stdin.readline().rstrip("\n"))
    if not path.exists():
        print(f"opendev: {path}: No such file or directory", file=sys.stderr)
        return 6
    sys.stdout.buffer.write(path.read_bytes())
    return 0


def compare(block: int, command: str, near: str, far: str) -> int:
    done = subprocess.run(command.split(), input=far.encode() + b"\n", capture_output=True, check=False)
    sys.stderr.buffer.write(done.stderr)
    if done.returncode:
        return 6
    here, there, out = Path(near).read_bytes(), done.stdout, sys.stdout.buffer
    if len(here) != len(there):
        print(f"Different sizes local={len(here)} remote={len(there)}", file=sys.stderr)
        return 3
    out.write(MAGIC + struct.pack("<qH", len(here), len(near)) + near.encode())
    for at in range(0, len(here), block):
        if here[at : at + block] != there[at : at + block]:
            out.write(struct.pack("<qH", at, len(there[at : at + block])) + there[at : at + block])
    out.write(bytes(11))
    return 0


def patch(path: str) -> int:
    given = sys.stdin.buffer
    if given.read(len(MAGIC)) != MAGIC:
        print("do_patch: EOF(stdin)", file=sys.stderr)
        return 2
    _, named = struct.unpack("<qH", given.read(10))
    given.read(named)
    with Path(path).open("r+b") as file:
        while True:
            head = given.read(10)
            if len(head) < 10:
                print("Bad data", file=sys.stderr)
                return 2
            at, length = struct.unpack("<qH", head)
            if not length:
                return 0
            os.pwrite(file.fileno(), given.read(length), at)


def main() -> int:
    options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
    places = [word for word in sys.argv[1:] if not word.startswith("--")]
    if "server" in options:
        return server()
    if "patch" in options:
        return patch(options["patch"])
    return compare(int(options["blocksize"]), *places)


if __name__ == "__main__":
    sys.exit(main())
