"""What the page and the API show: records and histories, opened for each request, read and never written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labstore.assembly import SiteSource, history_file
from labstore.exports.history import History
from labstore.model.address import Client
from labstore.model.names import ExportPath
from labstore.system.identity import node_name
from labstore.telemetry.exports import Shown, Words, generation_words, pin_words, why
from labstore.telemetry.status import RoomStatus, look, worst


class NotThere(Exception):
    """What was asked for does not exist; the text says so."""


class Unfit(Exception):
    """What was asked is not a question; the text says what one would be."""


@dataclass(frozen=True)
class Reader:
    """Raises NotThere, Unfit, sqlite3.Error."""

    source: SiteSource
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def rooms(self) -> tuple[tuple[RoomStatus, ...], tuple[str, ...]]:
        """Every room that has reported, judged, and what could not be read."""
        return look(self.source().run_dir, self.now())

    def status(self) -> Words:
        rooms, unreadable = self.rooms()
        return {
            "site": str(self.source().name),
            "node": node_name(),
            "at": self.now().isoformat(timespec="seconds"),
            "health": worst(rooms).name,
            "rooms": [room.to_dict() for room in rooms],
            "site_problems": [problem.to_dict() for problem in self.source.concerns()],
            "unreadable": list(unreadable),
        }

    def exports(self, cluster: str | None, owner: str | None) -> Words:
        with self._history(cluster) as (name, history):
            words = Shown.of(name, history, None).words(owner or None)
        if owner and not words["exports"]:
            raise NotThere(f"nothing is exported for {owner}")
        return words

    def history(self, cluster: str | None, limit: int) -> Words:
        with self._history(cluster) as (name, history):
            generations = [generation_words(each) for each in history.generations(limit)]
            return {"cluster": name, "generations": generations, "pin": pin_words(history.pin())}

    def why(self, cluster: str | None, address: str, path: str) -> Words:
        try:
            client, place = Client(address.strip()), ExportPath(path.strip()) if path.strip() else None
        except ValueError as error:
            raise Unfit(str(error)) from None
        with self._history(cluster) as (name, history):
            return {"cluster": name, **why(history, client, place).words()}

    def clusters(self) -> tuple[str, ...]:
        """The clusters of this site of which something was applied on this node."""
        site = self.source()
        return tuple(str(each.name) for each in site.clusters if history_file(site, each.name).exists())

    @contextlib.contextmanager
    def _history(self, cluster: str | None) -> Iterator[tuple[str, History]]:
        known = self.clusters()
        if not known:
            raise NotThere("nothing was applied by labstore on this node yet")
        if cluster and cluster not in known:
            raise NotThere(f"there is no cluster {cluster}; known are: {', '.join(known)}")
        name = cluster or known[0]
        history = History(history_file(self.source(), name), read_only=True)
        try:
            yield name, history
        finally:
            history.close()


def attempt(ask: Callable[[], Any]) -> tuple[Any, str | None]:
    """An answer, or why there is none, for a page that shows the rest all the same."""
    try:
        return ask(), None
    except (NotThere, Unfit) as error:
        return None, str(error)
    except sqlite3.Error as error:
        return None, f"the history cannot be read: {error}"
