"""The site file with everything about accounts: the original's dbusers.yaml and the files with passwords.

The section's own words are checked with the whole site file, by anybody. Files with passwords are read by the room's
commands and daemons alone: nobody else may.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labstore.config.accounts import NOTHING, resolved
from labstore.config.load import Loaded, load
from labstore.formats import dbusers_yaml
from labstore.formats.dbusers_yaml import Original
from labstore.formats.findings import Findings
from labstore.formats.places import Path as Place
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.secret import NO_SECRET, Secret
from labstore.reports.in_file import BadFile, FileNotice, Origin
from labstore.system.files import FileTooLarge, read_limited

SECRET_LIMIT = 4096
ORIGINAL_LIMIT = 1 << 20


@dataclass(frozen=True)
class LoadedAccounts:
    """The settings, the files that they were read from, and what is worth knowing about these."""

    loaded: Loaded
    settings: DbusersSettings
    files: tuple[Path, ...]
    notices: tuple[FileNotice, ...]


def load_accounts(path: Path) -> LoadedAccounts:
    """The site file with everything about accounts, passwords included. Raises BadFile with every problem."""
    loaded = load(path)
    findings = Findings(loaded.document)
    if loaded.accounts is None:
        advice = "write `dbusers:` with its directory, hosts and files (docs/operations/dbusers.md)"
        findings.add(Origin(str(path)).problem("the site file has no `dbusers:`", advice))
        raise BadFile(findings.problems)
    secrets = Secrets(findings)
    original = NOTHING
    wrong: list[BadFile] = []
    if loaded.accounts.original is not None:
        try:
            original = load_original(loaded.accounts.original)
        except BadFile as error:
            wrong.append(error)
    settings = resolved(findings, loaded.accounts, loaded.site, path.parent, secrets, None if wrong else original)
    if findings.problems or wrong:
        raise BadFile([*findings.problems, *(report for error in wrong for report in error.reports)])
    files = (path, *((loaded.accounts.original,) if loaded.accounts.original else ()), *secrets.files)
    return LoadedAccounts(loaded, settings, files, original.notices)


def load_original(path: Path) -> Original:
    """Raises BadFile."""
    try:
        content = read_limited(path, ORIGINAL_LIMIT)
    except (OSError, FileTooLarge) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadFile([Origin(str(path)).problem(f"cannot be read: {reason}", "it is read by root alone")]) from None
    return dbusers_yaml.parse(content, str(path))


@dataclass
class Secrets:
    """Reads passwords from files."""

    findings: Findings
    files: list[Path] = field(default_factory=list)

    def __call__(self, path: Path | None, where: Place) -> Secret:
        if path is None:
            return NO_SECRET
        self.files.append(path)
        try:
            everybody = path.stat().st_mode & 0o007
            text = read_limited(path, SECRET_LIMIT).decode().strip("\r\n")
        except (OSError, FileTooLarge, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            advice = "run it as root" if isinstance(error, PermissionError) else "write the password into it, mode 0400"
            self.findings.problem(where, f"{path} cannot be read: {reason}", advice)
            return NO_SECRET
        if everybody:
            self.findings.problem(where, f"{path} can be read by everybody", f"chmod 0400 {path}")
        if not text or "\n" in text:
            self.findings.problem(where, f"{path} holds no password", "one line, the password alone")
        return Secret(text)
