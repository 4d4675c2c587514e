"""One login and one listing per project, in turn: `... SIZE`."""

from __future__ import annotations

import json
import sys
import time

from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from bench.children.cloud import INSTANCES, PASSWORD, USER, cloud


def baseline(size: int) -> dict[str, float]:

    with cloud(size) as (url, tell):
        tell({"asked": True})
        started = time.perf_counter()
        for number in range(size):
            auth = Password(
                f"{url}/identity/v3",
                username=USER,
                password=PASSWORD,
                user_domain_id="default",
                project_name=f"project-{number:05}",
                project_domain_id="default",
            )
            session = Session(auth)
            access = auth.get_access(session)
            endpoint = access.service_catalog.url_for(service_type="compute", interface="public")
            servers = session.get(f"{endpoint}/servers/detail").json()["servers"]
            found = [entry["addr"] for server in servers for net in server["addresses"].values() for entry in net]
            assert len(found) == INSTANCES
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "requests": tell({"asked": True})["requests"]}


if __name__ == "__main__":
    print(json.dumps(baseline(int(sys.argv[1]))))
