"""Reading the site file and the mounts files it names; the one way from files to a Site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labstore.config import accounts
from labstore.config.resolve import resolved
from labstore.config.schema import SiteFile
from labstore.config.sections.dbusers import DbusersFile
from labstore.config.shape import shaped
from labstore.formats import inventory_file, mounts_file, people_file, strict_yaml
from labstore.formats.findings import Findings
from labstore.formats.mounts_file import MountsFile
from labstore.formats.strict_yaml import DATA_LIMIT, SITE_LIMIT, SITE_NODES, Document
from labstore.model.accounts import UidRange
from labstore.model.dbusers_settings import DirectoryKind
from labstore.model.site import InventoryKind, InventorySettings, Site
from labstore.reports.in_file import BadFile, FileNotice, FileProblem, Origin
from labstore.reports.report import Report
from labstore.system.files import FileTooLarge, read_limited

DEFAULT = Path("/etc/labstore/site.yaml")


@dataclass(frozen=True)
class Loaded:
    """A site with what is worth knowing about its files. `document` is the site file as it was written, `accounts` its
    section about database accounts: what that names is read by the room alone (load_accounts.py)."""

    site: Site
    path: Path
    document: Document
    mounts: tuple[MountsFile, ...]
    notices: tuple[FileNotice, ...]
    accounts: DbusersFile | None = None


def load(path: Path = DEFAULT) -> Loaded:
    """The site that `path` and the mounts files it names describe.

    Raises BadFile with every problem of all these files: where one part is wrong, the others are checked all the same.
    """
    document = strict_yaml.load(_read(path, SITE_LIMIT), str(path), SITE_LIMIT, SITE_NODES)
    findings = Findings(document)
    file = shaped(findings)
    mounts, wrong = _mounts(file.projects_file if file else (), path.parent)
    if file is None:
        raise BadFile([*findings.problems, *wrong])
    site = resolved(findings, _without_projects(file) if wrong else file, mounts, path.parent)
    if file.dbusers is not None:
        accounts.resolved(findings, file.dbusers, site, path.parent)
    if findings.problems or wrong:
        raise BadFile([*findings.problems, *wrong])
    notices = (*(notice for each in mounts for notice in each.notices), *findings.notices)
    return Loaded(site, path, document, mounts, notices, file.dbusers)


def _without_projects(file: SiteFile) -> SiteFile:
    """What can be checked where a mounts file could not be read: its projects would look unknown."""
    shares = {
        name: share.model_copy(update={"projects": None}) if share.projects else share
        for name, share in file.shares.items()
    }
    exports = file.exports.model_copy(update={"subnets": {}})
    return file.model_copy(update={"projects": {}, "shares": shares, "exports": exports})


def _mounts(paths: Sequence[Path], base: Path) -> tuple[tuple[MountsFile, ...], list[FileProblem]]:
    found: list[MountsFile] = []
    wrong: list[FileProblem] = []
    for path in paths:
        try:
            found.append(load_mounts(base / path))
        except BadFile as error:
            wrong += [report for report in error.reports if isinstance(report, FileProblem)]
    return tuple(found), wrong


def inventory_problems(settings: InventorySettings) -> tuple[Report, ...]:
    """Every problem of the inventory file, where the site has one; the daemon reads it again and again by itself."""
    if settings.source is not InventoryKind.FILE or settings.file is None:
        return ()
    try:
        inventory_file.parse(_read(settings.file, DATA_LIMIT), str(settings.file))
    except BadFile as error:
        return error.reports
    return ()


def people_problems(loaded: Loaded) -> tuple[Report, ...]:
    """Every problem of the file of tools and users, where the site has one; it is read again and again too."""
    if loaded.accounts is None or loaded.accounts.directory.source is not DirectoryKind.FILE:
        return ()
    directory, uids = loaded.accounts.directory, loaded.accounts.uids
    path = loaded.path.parent / (directory.file or "")
    try:
        people_file.parse(_read(path, DATA_LIMIT), str(path), directory.project, UidRange(uids.first, uids.last))
    except BadFile as error:
        return error.reports
    return ()


def load_mounts(path: Path) -> MountsFile:
    """One mounts file of the original. Raises BadFile."""
    return mounts_file.parse(_read(path, DATA_LIMIT), str(path))


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_limited(path, limit)
    except FileTooLarge as error:
        problem = f"has at least {error.size} bytes, and at most {error.limit} are read"
        raise BadFile([Origin(str(path)).problem(problem, "is this the right file?")]) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise BadFile([Origin(str(path)).problem(problem, "give the path of a file that this user may read")]) from None
