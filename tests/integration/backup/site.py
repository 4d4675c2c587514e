"""A backup host with real file systems on image files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from labstore.cli.backup import backup

SIZE = 32 << 20


class Site:
    """A backup host with one job, and the file system that it copies."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.file = folder, folder / "site.yaml"
        self.source, self.target = folder / "source.img", folder / "backup" / "target.img"
        self.target.parent.mkdir()
        self.mounts, self.work = folder / "mounts", folder / "work"
        self.work.mkdir()
        self.source.touch()
        os.truncate(self.source, SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.source], check=True)
        self.write("first")
        (folder / "instances.yaml").write_text("projects: {}\n")
        self.file.write_text(
            f"""
site: wikicloud
state_dir: {folder}/state
run_dir: {folder}/run
clusters: {{primary: {{volumes: {{misc: {{mount: /srv/misc}}}}}}}}
inventory: {{source: file, file: instances.yaml}}
backup:
  mounts: {self.mounts}
  jobs:
    tools:
      source: {self.source}
      target: {self.target}
      keep: {{hourly: 3, least: 3}}
      proof: {{canary: canary}}
{more}
"""
        )

    def write(self, text: str, after: float = 0.0) -> None:
        """Change the file system, as its users would. `after`: how many seconds from now the canary is."""
        subprocess.run(["mount", "-o", "loop", self.source, self.work], check=True)
        try:
            (self.work / "home").mkdir(exist_ok=True)
            (self.work / "home" / text).write_text(text * 1000)
            (self.work / "canary").write_text((datetime.now(UTC) + timedelta(seconds=after)).isoformat())
        finally:
            subprocess.run(["umount", self.work], check=True)

    def do(self, verb: str, *words: object, expect: int = 0) -> str:
        done = CliRunner().invoke(backup, [verb, "--site", str(self.file), *map(str, words)])
        assert done.exit_code == expect, done.output
        return done.output

    def generations(self) -> list[dict[str, object]]:
        return list(json.loads(self.do("show", "tools", "--json")))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
