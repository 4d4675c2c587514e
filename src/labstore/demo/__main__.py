"""`make demo`: play the scenes, then go on with a live view until Ctrl-C. `--once` ends with the summary."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from pymysql import MySQLError
from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from labstore.demo.child import ChildFailed
from labstore.demo.client import NfsError
from labstore.demo.scenes import SCENES, Scene, Unproven
from labstore.demo.stage import NoGround, Stage
from labstore.ports.host import CommandFailed
from labstore.telemetry import logs
from labstore.telemetry.words import plural

STEP = 4.0
"""Seconds between two changes of the live view."""


@dataclass(frozen=True)
class Played:
    scene: Scene
    seconds: float
    said: str
    proved: bool


@click.command()
@click.option("--once", is_flag=True, help="End with the summary instead of going on with a live view.")
def main(once: bool) -> None:
    """The main job of labstore on this machine, with real NFS on loopback.

    Example: python -m labstore.demo --once
    """
    console = Console(highlight=False)
    logs.configure("error")
    if os.geteuid() != 0:
        raise click.ClickException("NFS-Ganesha needs root to open files by handle; run it as root")
    # SIGINT too: a shell without job control starts what it puts in the background with it ignored
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with Stage() as stage:
            played = _play_all(console, stage)
            _summary(console, played)
            if not once and played[0].proved:
                _live(console, stage)
    except NoGround as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        console.print("\nended; nothing is left behind")
        sys.exit(0)
    sys.exit(0 if all(each.proved for each in played) else 1)


def _play_all(console: Console, stage: Stage) -> list[Played]:
    """Every scene; without the first there is no stage for the others."""
    played: list[Played] = []
    for number, scene in enumerate(SCENES, 1):
        played.append(_play(console, stage, number, scene))
        if not played[0].proved:
            break
    return played


def _play(console: Console, stage: Stage, number: int, scene: Scene) -> Played:
    started = time.monotonic()
    with console.status(f"{number:2}. {scene.title} ..."):
        try:
            said, proved = scene.play(stage), True
        except (Unproven, TimeoutError, NfsError, ChildFailed, CommandFailed, MySQLError, OSError) as error:
            said, proved = f"{type(error).__name__}: {error}", False
    played = Played(scene, time.monotonic() - started, said, proved)
    mark = "[green]proved[/]" if proved else "[red]FAILED[/]"
    console.print(f"{number:2}. {scene.title}: {mark} [dim]({played.seconds:.1f} s)[/]")
    console.print(Padding(Text(said, style="" if proved else "red"), (0, 0, 0, 4)))
    return played


def _summary(console: Console, played: list[Played]) -> None:
    proved, seconds = sum(each.proved for each in played), sum(each.seconds for each in played)
    colour = "green" if proved == len(SCENES) else "red"
    real = "with real NFS mounts and real logins"
    console.print(f"\n[{colour}]{proved} of {len(SCENES)} scenes proved[/] in {seconds:.0f} s, {real}")


# --- the live view ---------------------------------------------------------------------------------------------------


def _live(console: Console, stage: Stage) -> None:
    """Instances come and go; each line is what a real mount says at this moment. Until Ctrl-C."""
    console.print("[dim]to look at it from another terminal:[/]")
    console.print(f"  {program()} exports show --site {stage.cloud.site_file}", soft_wrap=True, markup=False)
    console.print("[dim]instances now come and go by themselves; Ctrl-C ends[/]\n")
    chance = random.Random()  # noqa: S311 - which instance leaves is no secret
    gone: dict[str, tuple[str, str]] = {}
    changed = time.monotonic()
    with Live(_view(stage, gone), console=console, refresh_per_second=2, transient=False) as live:
        while True:
            if time.monotonic() - changed > STEP:
                _change(stage, chance, gone)
                changed = time.monotonic()
            live.update(_view(stage, gone))
            time.sleep(0.3)


def program() -> str:
    """How labstore is called from anywhere on this machine."""
    beside = Path(sys.executable).absolute().with_name("labstore")
    return str(beside) if os.access(beside, os.X_OK) else f"{sys.executable} -m labstore"


def _change(stage: Stage, chance: random.Random, gone: dict[str, tuple[str, str]]) -> None:
    """One instance is deleted, or one that was deleted comes back."""
    here = [name for name, (project, _) in stage.cloud.instances.items() if project == "tools"]
    if gone and (len(gone) > 1 or chance.random() < 0.5):
        name, (project, address) = gone.popitem()
        stage.cloud.add(name, project, address)
    elif len(here) > 2:
        name = chance.choice(here)
        gone[name] = stage.cloud.instances[name]
        stage.cloud.delete(name)


def _view(stage: Stage, gone: dict[str, tuple[str, str]]) -> Table:
    record = stage.record()
    facts = record.get("facts", {})
    served = (plural(int(facts.get(f"served_{what}s") or 0), what) for what in ("client", "export"))
    title = f"state {record.get('state', '?')}, generation {facts.get('generation', '?')}, {' of '.join(served)}"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("instance", "address", "inventory", "mounts tools", "mounts its own"):
        table.add_column(column, no_wrap=True)
    everybody = {**stage.cloud.instances, **gone}
    for name, (project, address) in sorted(everybody.items(), key=lambda each: each[1][1]):
        here = "yes" if name in stage.cloud.instances else "deleted"
        answers = [_mounts(stage, address, of) for of in ("tools", project)]
        table.add_row(name, address, here, *answers)
    return table


def _mounts(stage: Stage, address: str, project: str) -> str:
    try:
        return "[green]yes[/]" if stage.at(address).may_mount(stage.cloud.path(project)) else "[red]refused[/]"
    except NfsError as error:
        return f"[yellow]{error.status or 'no answer'}[/]"


if __name__ == "__main__":
    main()
