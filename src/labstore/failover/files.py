"""The files of a node that follow from the site file, as they are and as they shall be."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.failover.desired import Here, Wanted, desired_files
from labstore.formats.drbd_conf import BadConf, differences, parse
from labstore.model.failover import Pair
from labstore.system.files import FileTooLarge, read_limited, write_atomic

LIMIT = 1 << 20


@dataclass(frozen=True)
class SystemFiles:
    """`root` is `/`; tests have their own."""

    pair: Pair
    labstore: str
    run: Path = Path("/run/labstore-failover")
    nine: bool = False
    root: Path = Path("/")

    def wanted(self) -> Mapping[Path, Wanted]:
        """Raises OSError where the secret cannot be read, ValueError where it is none."""
        here = Here(self.labstore, str(self.run), self._secret(), self.nine)
        return {self.root / path.lstrip("/"): wanted for path, wanted in desired_files(self.pair, here).items()}

    def _secret(self) -> str | None:
        path = self.pair.settings.replication.secret_file
        if path is None:
            return None
        text = read_limited(self.root / str(path).lstrip("/"), 4096).decode("ascii").strip()
        if not 16 <= len(text) <= 63 or not text.isprintable() or '"' in text or "\\" in text:
            raise ValueError(f"{path} must hold one line of 16 to 63 plain characters")
        return text

    def differences(self) -> tuple[str, ...]:
        """In words, what is not as it shall be; empty where all is. Raises OSError, ValueError."""
        return tuple(words for path, wanted in self.wanted().items() for words in self._differences(path, wanted))

    def _differences(self, path: Path, wanted: Wanted) -> tuple[str, ...]:
        try:
            found = read_limited(path, LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            return (f"{path} is missing",)
        except (OSError, FileTooLarge) as error:
            return (f"{path} cannot be read: {error}",)
        if not wanted.drbd:
            return () if found == wanted.content else (f"{path} differs",)
        try:
            return tuple(f"{path}: {each}" for each in differences(parse(wanted.content), parse(found)))
        except BadConf as error:
            return (f"{path}: {error}",)

    def write(self) -> tuple[Path, ...]:
        """Write what differs; returns those paths. Raises OSError, ValueError."""
        written: list[Path] = []
        for path, wanted in self.wanted().items():
            if self._differences(path, wanted):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, wanted.content.encode(), wanted.mode)
                written.append(path)
        return tuple(written)

    def handler_missing(self) -> str | None:
        """The fence handler's program where it is not there: fencing without it could never promote alone."""
        with contextlib.suppress(OSError):
            if Path(self.labstore).is_file():
                return None
        return self.labstore
