"""`labstore web`: the status page and its read-only API."""

from __future__ import annotations

import ipaddress

import click

from labstore.cli.exit import not_installed
from labstore.cli.options import Chosen, Told, site_options
from labstore.system.identity import become_owner_of, node_name

LISTEN = "127.0.0.1:9310"


@click.group(cls=Told)
def web() -> None:
    """The status page and its read-only API.

    \b
    Example:
      labstore web run
    """


@web.command()
@click.option("--listen", default=LISTEN, show_default=True, metavar="ADDRESS:PORT", help="Where to listen.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name under which the page may be called.")
@site_options
def run(listen: str, allow_host: tuple[str, ...], chosen: Chosen) -> None:
    """Serve the status page, the API and metrics, in the foreground. Nothing can be changed through it.

    There is no login: it listens on this machine only. To show it elsewhere put a web server with a login before it,
    and name the name that is called with --allow-host.

    \b
    Example:
      labstore web run --listen 127.0.0.1:9310
    """
    host, port = _listen(listen)
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from labstore.web.app import create_app  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise not_installed(str(error.name)) from None
    source = chosen.source()
    become_owner_of(source().state_dir)
    click.echo(f"http://{_in_url(host)}:{port}/", err=True)
    app = create_app(source, hosts(host, allow_host))
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, access_log=False)


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare)), int(port)
    except ValueError:
        raise click.UsageError(f"--listen: {text!r} is not address:port; write {LISTEN} or [::1]:9310.") from None


def hosts(listen: str, named: tuple[str, ...]) -> tuple[str, ...]:
    """The names under which the page lets itself be called; any where it listens to others and nobody said. Of an IPv6
    address with a port the framework compares the opening bracket alone."""
    if not ipaddress.ip_address(listen).is_loopback and not named:
        return ("*",)
    return ("localhost", "127.0.0.1", "[", _in_url(listen), listen, node_name(), *named)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
