"""The cloud as a process: prints one line of JSON with its address, then serves until it is ended.

One line of JSON on standard input is one deed, answered by one line on standard output:
{"boot": ["project-00001", "new", "10.9.9.9"]}, {"delete": "instance-00001-00"}, {"rules": [...]}, {"asked": true}.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from typing import Any

from tests.support.fake_cloud.server import FakeCloud
from tests.support.fake_cloud.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=100)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that every answer takes")
    options = parser.parse_args()
    world = World()
    world.populate(options.projects, options.instances)
    world.written()
    fake = FakeCloud(world, latency=options.latency)
    threading.Thread(target=fake.serve, daemon=True).start()
    print(json.dumps({"url": fake.url, "servers": len(world.by_id)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_deed(fake, json.loads(line))), flush=True)


def _deed(fake: FakeCloud, deed: dict[str, Any]) -> Any:
    world = fake.world
    if "boot" in deed:
        return world.boot(*deed["boot"]).id
    if "delete" in deed:
        server = next(each for each in world.by_id.values() if each.name == deed["delete"])
        world.delete(server)
        return server.id
    if "rules" in deed:
        fake.rules = deed["rules"]
    if "asked" in deed:
        counts = {"requests": len(fake.asked), "busiest": fake.busiest}
        fake.asked.clear()
        return counts
    return None


if __name__ == "__main__":
    main()
