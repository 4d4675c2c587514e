"""The old command names, with their old options: `nfs-exportd`.

What differs from the original, on purpose: statuses are those of docs/reference/exit-statuses.md; a cycle that finds
nothing changed touches nothing; run by root it goes on as the owner of the state directory, where the original refused
(its reason, files of root's that block later runs, is gone by that).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from labstore import __version__
from labstore.assembly import ExportsRoom, SiteFiles, SiteSource, cluster_here, from_site_file
from labstore.cli.adopt import take_over
from labstore.cli.exit import Exit, of_state
from labstore.cli.options import hands, told
from labstore.config.builtin import builtin_site
from labstore.config.load import DEFAULT, load_mounts
from labstore.formats import strict_yaml
from labstore.model.site import Site
from labstore.reports.in_file import BadFile, Origin
from labstore.reports.report import Override
from labstore.system.files import FileTooLarge, read_limited
from labstore.system.identity import become_owner_of, node_name, program
from labstore.telemetry import logs

NAME = "nfs-exportd"
CLOUD = "novaobserver"
EXPORTS_D = Path("/etc/exports.d/")
MOUNTS = Path("/etc/nfs-mounts.yaml")
OBSERVER = Path("/etc/novaobserver.yaml")
_FILE = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Old:
    """The original's options as they were given; None where an option was left out."""

    exports_dir: Path | None
    mounts: Path | None
    observer_pass: str | None
    auth_url: str | None
    cloud: str | None
    service_names: tuple[str, ...]
    interval: float


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.option("--exports-d-path", type=click.Path(path_type=Path), help="Where export files go; /etc/exports.d/.")
@click.option("--config-path", type=_FILE, help="A mounts file; without it the site file counts, if there is one.")
@click.option("--observer-pass", help="Accepted, and visible to everybody in `ps`: use /etc/novaobserver.yaml.")
@click.option("--auth-url", help="Keystone's address; else OS_AUTH_URL of /etc/novaobserver.yaml.")
@click.option("--os-cloud", help="The entry of clouds.yaml; novaobserver.")
@click.option("--service-name", multiple=True, help="A host name in `host:/path` that means this server (ours).")
@click.option("--interval", type=click.FloatRange(0), default=0, show_default=True, help="Seconds; 0 for once.")
@click.option("--debug", is_flag=True, help="Log every step.")
@click.option("--no-exports-is-ok", is_flag=True, help=f"As --{Override.ALLOW_EMPTY} of labstore exports.")
@click.option("--adopt", "adopts", is_flag=True, help="First take over the files that the original wrote (ours).")
@click.version_option(__version__, prog_name=NAME)
def nfs_exportd(
    exports_d_path: Path | None,
    config_path: Path | None,
    observer_pass: str | None,
    auth_url: str | None,
    os_cloud: str | None,
    service_name: tuple[str, ...],
    interval: float,
    debug: bool,
    no_exports_is_ok: bool,
    adopts: bool,
) -> None:
    """Export every project's shares to its instances: the old name of `labstore exports run`.

    With a site file (/etc/labstore/site.yaml, or LABSTORE_SITE) it does what that says; the old options win over it.
    Without one, or with --config-path, a mounts file and the original's built-in paths and options are enough.

    \b
    Example:
      nfs-exportd --config-path /etc/nfs-mounts.yaml --interval 300
    """
    from labstore.daemons.exportd import serve  # noqa: PLC0415 - not for --help

    logs.configure("debug" if debug else "info")
    old = Old(exports_d_path, config_path, observer_pass, auth_url, os_cloud, service_name, interval)
    if observer_pass is not None:
        logs.mask(observer_pass)
        warning = f"warning: --observer-pass can be read by every user of this machine; put it into {OBSERVER}"
        click.echo(warning, err=True)
    with told():
        source, file = _source(old)
        for notice in source.notices:
            click.echo(notice.text(), err=True)
        chosen = os.environ.get("LABSTORE_CLUSTER"), os.environ.get("LABSTORE_NODE")
        cluster = cluster_here(source(), *chosen, str(file))
        become_owner_of(source().state_dir)
        room = ExportsRoom(source, cluster.name, program(NAME), hands=hands())
        if adopts:
            take_over(room)
            room.close()
        overrides = frozenset({Override.ALLOW_EMPTY}) if no_exports_is_ok else frozenset()
        state = serve(room, interval == 0, overrides)
    sys.exit(Exit.DONE if state is None else of_state(state))


def _source(old: Old) -> tuple[SiteSource, Path]:
    """The site: from the site file, or from a mounts file and what the original had built in. Raises BadFile."""
    file = Path(os.environ.get("LABSTORE_SITE", DEFAULT))
    credentials = _credentials(old)
    if old.mounts is None and file.exists():
        read = from_site_file(file)
        return SiteSource(lambda: _with(read(), old, credentials), file), file
    mounts = old.mounts or MOUNTS
    return SiteSource(lambda: _with(_builtin(old, mounts), old, credentials), mounts), mounts


def _builtin(old: Old, mounts: Path) -> SiteFiles:
    names = old.service_names or (node_name(),)
    made = builtin_site(load_mounts(mounts), old.exports_dir or EXPORTS_D, names, old.cloud or CLOUD)
    return SiteFiles(_in_given_directories(made.site), (mounts,), made.notices)


def _in_given_directories(site: Site, environ: Mapping[str, str] = os.environ) -> Site:
    """Where systemd says that state and run time files go (StateDirectory=, RuntimeDirectory=)."""
    return replace(
        site,
        state_dir=Path(environ.get("STATE_DIRECTORY", site.state_dir)),
        run_dir=Path(environ.get("RUNTIME_DIRECTORY", site.run_dir)),
    )


def _with(read: SiteFiles, old: Old, credentials: Path | None) -> SiteFiles:
    """The site with what the old options say instead."""
    site = read.site
    if old.exports_dir is not None:
        clusters = tuple(replace(cluster, exports_dir=old.exports_dir) for cluster in site.clusters)
        site = replace(site, clusters=clusters)
    if old.interval:
        exports = replace(site.exports, poll=old.interval, listing=max(old.interval, site.exports.listing))
        site = replace(site, exports=exports)
    if old.cloud is not None or credentials is not None:
        cloud = replace(site.inventory.openstack, cloud=old.cloud or CLOUD, clouds_file=credentials)
        site = replace(site, inventory=replace(site.inventory, openstack=cloud))
    return replace(read, site=site)


# --- the older credentials -------------------------------------------------------------------------------------------


def _credentials(old: Old) -> Path | None:
    """A clouds.yaml made of the older credentials, in memory, None where clouds.yaml itself counts. Raises BadFile."""
    given = old.observer_pass is not None or old.auth_url is not None
    if old.cloud is not None or not (given or (old.mounts is not None and OBSERVER.exists())):
        return None
    words = _observer()
    password, url = old.observer_pass or words.get("OS_PASSWORD"), old.auth_url or words.get("OS_AUTH_URL")
    if not password or not url:
        missing = "OS_PASSWORD" if not password else "OS_AUTH_URL"
        advice = "write it there, or name an entry of clouds.yaml with --os-cloud"
        raise BadFile([Origin(str(OBSERVER)).problem(f"no {missing}", advice)])
    logs.mask(password)
    auth = {
        "auth_url": url,
        "username": words.get("OS_USERNAME", "novaobserver"),
        "password": password,
        "project_name": words.get("OS_PROJECT_NAME", "observer"),
        "user_domain_name": words.get("OS_USER_DOMAIN_NAME", "Default"),
        "project_domain_name": words.get("OS_PROJECT_DOMAIN_NAME", "Default"),
    }
    return _in_memory(json.dumps({"clouds": {CLOUD: {"auth": auth, "identity_api_version": 3}}}))


def _observer() -> Mapping[str, str]:
    """The keys of /etc/novaobserver.yaml that are there."""
    try:
        document = strict_yaml.load(read_limited(OBSERVER, 1 << 16), str(OBSERVER))
    except FileNotFoundError:
        return {}
    except (OSError, FileTooLarge) as error:
        raise BadFile([Origin(str(OBSERVER)).problem(f"cannot be read: {error}", "let this user read it")]) from None
    return {key: str(value) for key, value in document.value.items() if value is not None}


def _in_memory(text: str) -> Path:
    """A file that no other process can open and that ends with this one: secrets meet no disk and no argument."""
    descriptor = os.memfd_create("clouds.yaml", os.MFD_CLOEXEC)
    os.write(descriptor, text.encode())
    return Path(f"/proc/self/fd/{descriptor}")
