"""The scenes: each shows one thing with the real server and real clients, measures it, and says what it proved."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labstore.demo.accounts import Unproven, gives_an_account, limits_an_account, prove, rotates_unnoticed
from labstore.demo.client import Mount, NfsError
from labstore.demo.stage import Stage, until

PATIENCE = 10.0
"""Seconds in which a new instance must be in, and a deleted one out (DESIGN's target)."""
OUTAGE = 6.0
"""Seconds for which the source fails: several cycles of the daemon."""
BASTION, WORKER, DOOMED, STRANGER = "tools-bastion-12", "tools-k8s-worker-101", "tools-static-15", "maps-tiles1"


@dataclass(frozen=True)
class Scene:
    title: str
    play: Callable[[Stage], str]


@contextmanager
def reading(stage: Stage, name: str) -> Iterator[Callable[[], bool]]:
    """An instance with an open file; the function says whether it can still read it."""
    project = stage.cloud.instances[name][0]
    mount: Mount
    with stage.instance(name).mounted(stage.cloud.path(project)) as mount:
        mount.write("/open.txt", b"still here\n")
        with mount.open("/open.txt") as file:

            def reads() -> bool:
                try:
                    return file.read(100) == b"still here\n"
                except NfsError:
                    return False

            yield reads


# --- the scenes, in their order --------------------------------------------------------------------------------------


def serves(stage: Stage) -> str:
    daemon = stage.start_daemon()
    server = stage.server.start()
    until(lambda: _in_step(stage), PATIENCE, "the daemon finds the server in step")
    listed = len(json.loads(stage.labstore("exports", "show", "--json"))["exports"])
    return f"the daemon's first cycle after {daemon:.1f} s, NFS-Ganesha up in {server:.1f} s, {listed} shares served"


def _in_step(stage: Stage) -> bool:
    record = stage.record()
    return record.get("state") == "converged" and bool(record["facts"].get("running"))


def reads_and_writes(stage: Stage) -> str:
    text = b"written by the bastion\n"
    started = time.monotonic()
    with stage.instance(BASTION).mounted(stage.cloud.path("tools")) as bastion:
        bastion.write("/hello.txt", text)
    with stage.instance(WORKER).mounted(stage.cloud.path("tools")) as worker:
        prove(worker.read("/hello.txt") == text, "another instance of the project reads what was written")
    return f"written on one instance, read on another in {1000 * (time.monotonic() - started):.0f} ms"


def refuses_strangers(stage: Stage) -> str:
    path = stage.cloud.path("tools")
    prove(not stage.instance(STRANGER).may_mount(path), "another project's instance is refused")
    prove(not stage.at("127.77.66.6").may_mount(path), "an address that is nobody's is refused")
    prove(stage.instance(STRANGER).may_mount(stage.cloud.path("maps")), "it mounts its own project's share")
    return "another project's instance and an unknown address are refused; each mounts its own"


def admits_newcomers(stage: Stage) -> str:
    with reading(stage, BASTION) as undisturbed:
        stage.cloud.add("tools-k8s-worker-103", "tools", "127.77.1.15")
        newcomer = stage.instance("tools-k8s-worker-103")
        took = until(lambda: newcomer.may_mount(stage.cloud.path("tools")), PATIENCE, "the newcomer is let in")
        prove(undisturbed(), "an open file of another instance is not disturbed")
    return f"in the inventory at 0.0 s, mounted after {took:.1f} s; nobody else noticed"


def cuts_off_the_deleted(stage: Stage) -> str:
    with reading(stage, DOOMED) as reads, reading(stage, BASTION) as undisturbed:
        prove(reads(), "the instance reads before")
        stage.cloud.delete(DOOMED)
        took = until(lambda: not reads(), PATIENCE, "the deleted instance is cut off")
        prove(not stage.at("127.77.1.14").may_mount(stage.cloud.path("tools")), "its address mounts nothing any more")
        prove(undisturbed(), "an open file of another instance is not disturbed")
    return f"its open file stopped answering after {took:.1f} s; nobody else noticed"


def survives_a_broken_source(stage: Stage) -> str:
    return _outage(stage, "projects: {tools: [this is not an inventory", "the source is garbage", "holding")


def survives_an_empty_source(stage: Stage) -> str:
    return _outage(stage, '{"projects": {"tools": {}, "maps": {}, "quarry": {}}}', "every list is empty", "refused")


def _outage(stage: Stage, text: str, what: str, state: str) -> str:
    with reading(stage, BASTION) as tools, reading(stage, STRANGER) as maps:
        stage.cloud.spoil(text)
        until(lambda: stage.record().get("state") == state, PATIENCE, f"the daemon says `{state}`")
        end = time.monotonic() + OUTAGE
        while time.monotonic() < end:
            prove(tools() and maps(), f"{what}: an open file reads on")
            prove(stage.instance(WORKER).may_mount(stage.cloud.path("tools")), f"{what}: new mounts go on")
            time.sleep(0.3)
        stage.cloud.write()
        healed = until(lambda: stage.record().get("state") == "converged", 40.0, "it heals by itself")
    return f"{what} for {OUTAGE:.0f} s: state `{state}`, nobody lost anything; healed by itself {healed:.1f} s after"


def survives_being_killed(stage: Stage) -> str:
    stage.kill_daemon()
    prove(stage.instance(BASTION).may_mount(stage.cloud.path("tools")), "the service does not need the daemon")
    stage.server.kill()
    back = stage.server.start()
    prove(stage.instance(BASTION).may_mount(stage.cloud.path("tools")), "the server serves the last known good alone")
    prove(not stage.instance(STRANGER).may_mount(stage.cloud.path("tools")), "and nobody else")
    stage.start_daemon()
    return f"daemon and server killed; the server alone was back in {back:.1f} s with the last known good"


def explains_itself(stage: Stage) -> str:
    why = stage.labstore("exports", "why", "127.77.1.15", stage.cloud.path("tools"))
    prove("tools-k8s-worker-103" in why, "why names the instance")
    generations = json.loads(stage.labstore("exports", "history", "--json"))
    count = len(generations["generations"] if isinstance(generations, dict) else generations)
    return f"`labstore exports why` names the instance; {count} generations kept, each with who, when and why"


def shows_a_page(stage: Stage) -> str:
    url = stage.start_page()
    page = stage.fetched(url) or b""
    prove(b"exports" in page.lower(), "the page shows the exports")
    return f"{url} ({len(page) / 1024:.0f} kB, no script needed)"


SCENES = (
    Scene("A server and a daemon come up", serves),
    Scene("Instances of a project read and write its share", reads_and_writes),
    Scene("Strangers are refused", refuses_strangers),
    Scene("A new instance is let in", admits_newcomers),
    Scene("A deleted instance is cut off", cuts_off_the_deleted),
    Scene("A broken source takes nothing away", survives_a_broken_source),
    Scene("An empty source takes nothing away", survives_an_empty_source),
    Scene("Killed, it serves what was last known good", survives_being_killed),
    Scene("Every grant is explained, every generation kept", explains_itself),
    Scene("A new tool gets a database account", gives_an_account),
    Scene("A limit holds", limits_an_account),
    Scene("A password is replaced, and nobody notices", rotates_unnoticed),
    Scene("A status page", shows_a_page),
)

__all__ = ["SCENES", "Scene", "Unproven"]
