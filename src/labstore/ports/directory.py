"""Who should have an account: the source of tools and users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from labstore.model.accounts import AccountKind
from labstore.model.people import Listing
from labstore.reconcile.facts import Answer


class Directory(Protocol):
    """Implementations answer within their deadlines and never raise for a source that failed."""

    def listing(self) -> Mapping[AccountKind, Answer[Listing]]:
        """Everybody, per kind: complete, or Missing. Never a part that looks like the whole (upstream #46)."""

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Call `ring` (from another thread) when something changed, as far as the source can tell; it may ring for
        nothing and miss a change: truth stays the listing. Returns what ends it."""
