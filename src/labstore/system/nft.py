"""nftables: the barrier that keeps clients waiting in silence while the service moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from labstore.formats import nft_json
from labstore.formats.nft_json import BadListing, Barrier
from labstore.model.address import Client
from labstore.ports.host import Command, CommandFailed, Host

DEADLINE = 20.0


class NftFailed(Exception):
    """nft did not do it, or answered in no known form."""


@dataclass(frozen=True)
class Nft:
    host: Host

    def barrier(self) -> Barrier:
        """What is blocked. Raises NftFailed."""
        command = Command.of("nft", "--json", "list", "table", "inet", nft_json.TABLE, deadline=DEADLINE)
        try:
            done = self.host.run(command, expect=None)
            if not done.ok and "No such file or directory" in done.stderr:
                return Barrier()
            if not done.ok:
                raise NftFailed(f"nft: {done.stderr.strip()[:300]}")
            return nft_json.barrier(done.stdout)
        except (CommandFailed, BadListing) as error:
            raise NftFailed(str(error)) from error

    def block(self, addresses: Iterable[Client]) -> None:
        """Drop port 2049 of these addresses in both directions. Raises NftFailed."""
        self._apply(nft_json.raised(addresses))

    def unblock(self) -> None:
        """Take the barrier away. Raises NftFailed."""
        self._apply(nft_json.lifted())

    def _apply(self, text: str) -> None:
        try:
            self.host.run(Command.of("nft", "-f", "-", deadline=DEADLINE, input=text.encode()))
        except CommandFailed as error:
            raise NftFailed(str(error)) from error
