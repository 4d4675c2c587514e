"""The file of people keeps the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labstore.model.accounts import UidRange
from labstore.model.dbusers_settings import FileDirectorySettings
from labstore.sources.file_directory import FileDirectory
from tests.contracts.directory import DirectoryContract
from tests.support.fake_clock import FakeClock


@dataclass
class FileLab:
    path: Path
    tools: dict[str, str] = field(default_factory=lambda: {"first": "50001"})
    users: dict[str, str] = field(default_factory=lambda: {"alice": "2170"})

    def __post_init__(self) -> None:
        self.directory = FileDirectory(FileDirectorySettings(self.path), UidRange(), FakeClock())
        self.write()

    def write(self) -> None:
        sections = {"tools": self.tools, "users": self.users}
        lines = (f"{key}: {{{', '.join(f'{n}: {w}' for n, w in value.items())}}}" for key, value in sections.items())
        new = self.path.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.rename(self.path)

    def add_tool(self, name: str, uid: int) -> None:
        self.tools[name] = str(uid)
        self.write()

    def add_user(self, name: str, uid: int) -> None:
        self.users[name] = str(uid)
        self.write()

    def remove_tool(self, name: str) -> None:
        del self.tools[name]
        self.write()

    def lock_tool(self, name: str) -> None:
        self.tools[name] = f"{{uid: {self.tools[name]}, locked: true}}"
        self.write()

    def break_it(self) -> None:
        self.path.write_text("tools: {first: 50001}\n")


class TestFileDirectory(DirectoryContract):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> Any:
        return FileLab(tmp_path / "people.yaml")
