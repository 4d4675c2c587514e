"""The site that the original's `dbusers.yaml` amounts to, for `maintain-dbusers` where there is no site file.

What the file does not say is as the original had it built in: the bases of LDAP, the homes of 2020 where no service
keeps files. What is safer here stays so: connections are verified unless somebody says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from labstore.config.accounts import resolved
from labstore.config.load_accounts import load_original
from labstore.config.sections.dbusers import DbusersFile
from labstore.formats.findings import Findings
from labstore.formats.places import Places
from labstore.formats.strict_yaml import Document
from labstore.model.accounts import AccountKind
from labstore.model.dbusers_settings import DbusersSettings, Tls
from labstore.model.site import Site, SiteName
from labstore.reports.in_file import FileNotice

HOMES = {"tool": "/srv/tools/shared/tools/project", "user": "/srv/tools/shared/tools/home"}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where the original's metrics were asked for


@dataclass(frozen=True)
class BuiltinAccounts:
    site: Site
    settings: DbusersSettings
    notices: tuple[FileNotice, ...]


def builtin_accounts(path: Path, state_dir: Path, run_dir: Path, tls: Tls = Tls.VERIFY) -> BuiltinAccounts:
    """Raises BadFile with every problem of the file."""
    original = load_original(path)
    findings = Findings(Document(str(path), {}, Places(0)))
    site = Site(SiteName("local"), (), state_dir=state_dir, run_dir=run_dir)
    paws = ["paws"] if AccountKind.PAWS in original.services else []
    homes = {kind: home for kind, home in HOMES.items() if AccountKind(kind) not in original.services}
    file = DbusersFile.model_validate(
        {
            "original": str(path),
            "kinds": ["tool", "user", *paws],
            "directory": {"ldap": {"tls": tls.value}},
            "login": {"tls": tls.value},
            "files": homes,
        }
    )
    settings = resolved(findings, file, site, path.parent, original=original, ledger_tls=tls)
    findings.raise_problems()
    return BuiltinAccounts(site, replace(settings, metrics_host=EVERYWHERE), original.notices)
