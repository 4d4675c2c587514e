"""Tools and users from a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labstore.formats.people_file import parse
from labstore.formats.strict_yaml import DATA_LIMIT
from labstore.model.accounts import AccountKind, UidRange
from labstore.model.dbusers_settings import FileDirectorySettings
from labstore.model.people import Listing
from labstore.ports.clock import Clock
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.in_file import BadFile
from labstore.reports.sources import SourceFailed
from labstore.system.files import FileTooLarge, read_limited

LOOK = 0.5
"""Seconds between two looks at the file's change time."""


@dataclass(frozen=True)
class FileDirectory:
    """See ports.directory.Directory."""

    settings: FileDirectorySettings
    uids: UidRange
    clock: Clock

    def listing(self) -> Mapping[AccountKind, Answer[Listing]]:
        path = self.settings.path
        try:
            found = parse(read_limited(path, DATA_LIMIT), str(path), self.settings.project, self.uids)
        except (OSError, FileTooLarge) as error:
            return dict.fromkeys((AccountKind.TOOL, AccountKind.USER), self._missing(str(error)))
        except BadFile as error:
            return dict.fromkeys((AccountKind.TOOL, AccountKind.USER), self._missing(error.reports[0].message()))
        return {kind: Fact(listing, str(path), self.clock.now()) for kind, listing in found.items()}

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        ended = threading.Event()

        def run() -> None:
            seen = self._changed()
            while not ended.wait(LOOK):
                now = self._changed()
                if now != seen:
                    seen = now
                    ring()

        thread = threading.Thread(target=run, name="people-file", daemon=True)
        thread.start()
        return ended.set

    def _changed(self) -> tuple[int, int]:
        try:
            status = self.settings.path.stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino

    def _missing(self, reason: str) -> Missing:
        path = str(self.settings.path)
        return Missing(SourceFailed(path, "tools and users", reason), path, self.clock.now())
