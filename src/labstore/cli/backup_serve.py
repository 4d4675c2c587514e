"""`labstore backup serve`: the source's side of one job, as the forced command of a backup host's key."""

from __future__ import annotations

import os

import click

from labstore.backup.source_nodes import STATUS, status_text
from labstore.cli.backup_asked import job_of, site_of
from labstore.cli.backup_parts import agent
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, site_options, told
from labstore.model.backup_settings import path_of
from labstore.model.block_sync import Role
from labstore.reports.blocksync import NoHelper, SyncFailed


@click.command()
@click.option("--job", "name", required=True, help="The one job that is served.")
@click.argument("word", required=False, metavar="[status]")
@site_options
def serve(name: str, word: str | None, chosen: Chosen) -> None:
    """The source's side of one job: what a backup key's forced command runs.

    Of what the caller asks ssh to run, only whether it ends in the word `status` is looked at.

    \b
    Example, in /root/.ssh/authorized_keys of the source's machines:
      restrict,command="labstore backup serve --job tools" ssh-ed25519 AAAA...
    """
    site, settings = site_of(chosen)
    job, state = job_of(settings, name), site.state_dir / "backup"
    if word == STATUS or os.environ.get("SSH_ORIGINAL_COMMAND", "").endswith(f" {STATUS}"):
        click.echo(status_text(agent(site, job, state).status()))
        return
    try:
        from labstore.blocksync.serve import Jail  # noqa: PLC0415 - needs the extra `backup`
        from labstore.blocksync.serve import serve as be_called  # noqa: PLC0415 - as above
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None
    jail = Jail(
        Role.SOURCE, frozenset({path_of(job.source)}), label=str(job.name), provide=agent(site, job, state).provide
    )
    try:
        be_called(0, 1, state / "blocksync", jail)
    except SyncFailed as failure:
        click.echo(failure.report.message(), err=True)
        raise SystemExit(int(Exit.FAILED)) from None


if __name__ == "__main__":  # the child that reads a source on this machine
    with told():
        serve(prog_name="labstore backup serve")
