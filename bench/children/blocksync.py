"""`labstore blocksync`, without the other commands around it."""

from __future__ import annotations

from labstore.cli.blocksync import blocksync

if __name__ == "__main__":
    blocksync(prog_name="labstore blocksync")
