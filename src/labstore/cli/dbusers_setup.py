"""`labstore dbusers host-setup`: what a replica server needs before labstore can keep accounts there."""

from __future__ import annotations

from pathlib import Path

import click

from labstore.cli.dbusers_parts import room
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, line, waiting
from labstore.formats.findings import did_you_mean
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.secret import NO_SECRET, Secret
from labstore.sources.host_setup import Admin, carry_out, proven, source_towards, statements
from labstore.system.files import read_limited
from labstore.telemetry.words import plural


@click.command("host-setup")
@click.argument("host")
@click.option("--apply", "do", is_flag=True, help="Do it, as the server's administrator, and prove it.")
@click.option("--plain", is_flag=True, help="Rights of the login itself, in place of the procedures.")
@click.option("--source", metavar="ADDRESS", help="Where labstore connects from; else this machine's address.")
@click.option("--admin-user", default="root", show_default=True, help="The server's administrator.")
@click.option("--admin-socket", type=click.Path(path_type=Path), help="The server's socket, where it is this machine.")
@click.option("--admin-password-file", type=click.Path(path_type=Path), help="A file with its password.")
@json_option
@site_options
def host_setup(
    host: str,
    do: bool,
    plain: bool,
    source: str | None,
    admin_user: str,
    admin_socket: Path | None,
    admin_password_file: Path | None,
    as_json: bool,
    chosen: Chosen,
) -> None:
    """Make labstore's login on the replica server HOST, and the procedures that are all it may use.

    Without --apply it prints the statements, for an administrator to run; each may be repeated. A stolen login can then
    make trouble for tools, and never an administrator. HOST stands under dbusers.hosts in the site file.

    \b
    Examples:
      labstore dbusers host-setup s1.db.example.org:3311 | mariadb
      labstore dbusers host-setup tools.db --apply --admin-password-file /root/pw
    """
    settings = _host(chosen, host)
    try:
        seen = source or source_towards(settings)
        wanted = statements(settings, seen, plain)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not do:
        if as_json:
            emit({"host": str(settings.key), "source": seen, "statements": list(wanted), "done": False})
        else:
            click.echo("DELIMITER $$\n" + "".join(f"{each} $$\n" for each in wanted), nl=False)
        return
    admin = Admin(admin_user, _password(admin_password_file), admin_socket)
    with waiting(f"setting up {settings.key}"):
        carry_out(settings, admin, wanted)
    works = proven(settings)
    if as_json:
        emit({"host": str(settings.key), "source": seen, "statements": list(wanted), "done": True, "works": works})
    else:
        line(f"{settings.key}: {plural(len(wanted), 'statement')} done; labstore works there {works}", bold=True)


def _host(chosen: Chosen, text: str) -> ReplicaSettings:
    known = {host.key: host for host in room(chosen).settings.hosts}
    try:
        return known[HostKey.parse(text)]
    except (ValueError, KeyError):
        advice = did_you_mean(text, map(str, known))
        message = f"error: the site file has no replica server {text}"
        raise Stop(Exit.FAILED, message, f"write it under dbusers.hosts; {advice}") from None


def _password(path: Path | None) -> Secret:
    return NO_SECRET if path is None else Secret(read_limited(path, 4096).decode().strip("\r\n"))
