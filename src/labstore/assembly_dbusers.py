"""Where the room of database accounts is put together from the site, and anew when the site changes it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from labstore.assembly import SiteFiles, SiteSource, local_node
from labstore.config.load import DEFAULT
from labstore.config.load_accounts import load_accounts
from labstore.dbusers import assemble
from labstore.dbusers.cycle import DbCycle
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.site import Site
from labstore.ports.clock import Clock
from labstore.ports.node import Node
from labstore.system.clock import SystemClock
from labstore.system.files import make_directory
from labstore.system.identity import node_name
from labstore.system.locks import Locked

ROOM = "dbusers"


def accounts_of(path: Path = DEFAULT) -> Callable[[], SiteFiles]:
    """Reads the site file with what it names about accounts, passwords included. The reader raises BadFile."""

    def read() -> SiteFiles:
        found = load_accounts(path)
        loaded = found.loaded
        files = (*found.files, *(Path(mounts.name) for mounts in loaded.mounts))
        return SiteFiles(loaded.site, files, (*loaded.notices, *found.notices), found.settings)

    return read


def alive_file(site: Site) -> Path:
    """Locked by the daemon for as long as it lives."""
    return site.run_dir / ROOM / f"{site.name}.daemon"


@dataclass(frozen=True)
class AccountHands:
    """What makes the room's parts concrete: the real things, unless somebody hands in others."""

    clock: Clock = field(default_factory=SystemClock)
    cycle: Callable[[DbusersSettings, Clock, Node], DbCycle] = assemble.cycle
    node: Callable[[Clock], Node] = local_node


@dataclass
class AccountsRoom:
    """The accounts of a site. `change` is what a command line says otherwise than the file; `parting` is called before
    a cycle's connections are closed. Raises BadFile, OSError."""

    source: SiteSource
    who: str
    hands: AccountHands = field(default_factory=AccountHands)
    change: Callable[[DbusersSettings], DbusersSettings] = lambda settings: settings
    node: str = field(default_factory=node_name)
    parting: Callable[[], None] = lambda: None
    _made: tuple[DbusersSettings, DbCycle] | None = field(default=None, init=False)

    @property
    def clock(self) -> Clock:
        return self.hands.clock

    @property
    def settings(self) -> DbusersSettings:
        return self.change(self.source.accounts())

    @property
    def name(self) -> str:
        return str(self.source().name)

    def cycle(self) -> DbCycle:
        """The reconciler as the site wants it now; the same object as long as that is the same. What is in memory of
        passwords that nobody has read goes over to the next one."""
        settings = self.settings
        if self._made is not None and self._made[0] == settings:
            return self._made[1]
        before = self._made[1] if self._made is not None else None
        make_directory(settings.state_dir, 0o750)
        made = self.hands.cycle(settings, self.clock, self.hands.node(self.clock))
        if before is not None:
            made.number = before.number
            made.observer = replace(made.observer, vault=before.observer.vault)
            self._let_go(before)
        self._made = (settings, made)
        return made

    def patient(self, seconds: float) -> DbCycle:
        """The same, that waits for so long until the daemon's cycle on this machine is over."""
        cycle = self.cycle()
        cycle.turn = _waited(cycle.turn, seconds, self.clock)
        return cycle

    def close(self) -> None:
        if self._made is not None:
            self._let_go(self._made[1])
            self._made = None

    def _let_go(self, cycle: DbCycle) -> None:
        self.parting()
        cycle.observer.crew.close()
        cycle.observer.ledger.close()


Turn = Callable[[], contextlib.AbstractContextManager[None]]


def _waited(turn: Turn, seconds: float, clock: Clock) -> Turn:
    @contextlib.contextmanager
    def taken() -> Iterator[None]:
        until = time.monotonic() + seconds
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(turn())
                    break
                except Locked:
                    if time.monotonic() >= until:
                        raise
                    clock.sleep(0.1)
            yield

    return taken
