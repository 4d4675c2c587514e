"""The demonstration's site and its inventory, in files, as an operator without OpenStack would write them."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from labstore.system.files import write_atomic

PROJECTS = {"tools": 50380, "maps": 50196, "quarry": 52243}
FIRST = {
    "tools-bastion-12": ("tools", "127.77.1.11"),
    "tools-k8s-worker-101": ("tools", "127.77.1.12"),
    "tools-k8s-worker-102": ("tools", "127.77.1.13"),
    "tools-static-15": ("tools", "127.77.1.14"),
    "maps-tiles1": ("maps", "127.77.2.21"),
    "maps-warper4": ("maps", "127.77.2.22"),
    "quarry-web-02": ("quarry", "127.77.3.31"),
}


@dataclass
class SmallCloud:
    """Projects and instances in `inventory.yaml`; each instance has an address in 127.0.0.0/8."""

    directory: Path
    instances: dict[str, tuple[str, str]] = field(default_factory=lambda: dict(FIRST))
    tools: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.directory / "inventory.yaml"

    @property
    def site_file(self) -> Path:
        return self.directory / "site.yaml"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def path(self, project: str) -> str:
        """The export path of a project's share."""
        return f"{self.directory}/srv/shared/{project}"

    def add(self, name: str, project: str, address: str) -> None:
        self.instances[name] = (project, address)
        self.write()

    def delete(self, name: str) -> None:
        del self.instances[name]
        self.write()

    def write(self) -> None:
        """The inventory as it is; JSON is YAML."""
        projects: dict[str, dict[str, dict[str, str]]] = {name: {"instances": {}} for name in PROJECTS}
        for name, (project, address) in self.instances.items():
            projects[project]["instances"][name] = address
        write_atomic(self.file, json.dumps({"projects": projects}, indent=1).encode())

    def spoil(self, text: str) -> None:
        """The source fails: the file holds this instead."""
        write_atomic(self.file, text.encode())

    # --- tools and their database accounts --------------------------------------------------------------------------

    @property
    def homes(self) -> Path:
        return self.directory / "homes"

    def home(self, tool: str) -> Path:
        return self.homes / tool

    def add_tool(self, name: str, uid: int) -> Path:
        """A tool in the directory, with its home."""
        home = self.home(name)
        home.mkdir(mode=0o755)
        os.chown(home, uid, uid)
        self.tools[name] = uid
        self.write_people()
        return home

    def write_people(self) -> None:
        write_atomic(self.directory / "people.yaml", json.dumps({"tools": self.tools, "users": {}}).encode())

    def _accounts(self, database: int) -> dict[str, object]:
        secret = self.directory / "replica.password"
        secret.touch(mode=0o400)
        secret.write_text(secrets.token_hex(16) + "\n")
        return {
            "directory": {"source": "file", "file": "people.yaml"},
            "login": {"password_file": str(secret), "tls": "off"},
            "hosts": {f"127.0.0.1:{database}": {}},
            # a demonstration that is killed leaves nothing that `rm -rf` could not remove
            "files": {"tool": str(self.homes), "immutable": False},
            "kinds": ["tool"],
            "pacing": {"interval": "5s"},
            "metrics": {"enabled": False},
        }

    # --- the site ---------------------------------------------------------------------------------------------------

    def write_site(self, bus: Path, database: int) -> None:
        shares = {name: {"gid": gid, "shares": {"project": True}} for name, gid in PROJECTS.items()}
        site = {
            "site": "demo",
            "state_dir": str(self.state),
            "run_dir": str(self.directory / "run"),
            "clusters": {
                "demo": {
                    "backend": "ganesha",
                    "service_addresses": ["127.0.0.1"],
                    "volumes": {"misc": {"mount": f"{self.directory}/srv", "mounted": False}},
                    "ganesha": {"bus": f"unix:path={bus}"},
                }
            },
            "shares": {"project": {"cluster": "demo", "volume": "misc", "path": "shared/{project}", "squash": "none"}},
            "projects": shares,
            "inventory": {"source": "file", "file": str(self.file)},
            "exports": {"poll": "1s", "listing": "30s"},
            "dbusers": self._accounts(database),
            "metrics": {"enabled": False},
        }
        write_atomic(self.site_file, json.dumps(site, indent=1).encode())

    def make_shares(self) -> None:
        for project, gid in PROJECTS.items():
            directory = Path(self.path(project))
            directory.mkdir(parents=True)
            directory.chmod(0o2775)
            os.chown(directory, 0, gid)
        self.homes.mkdir(mode=0o755)
        self.write_people()
