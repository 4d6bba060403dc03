"""retis stats: what is in an event file."""

from __future__ import annotations

import click

from retis_py.cli import pager
from retis_py.cli.base import Command
from retis_py.cli.options import Input, input_file, reading
from retis_py.cli.signals import stop_on_signals


@click.command("stats", cls=Command)
@input_file
@click.pass_context
def command(ctx: click.Context, source: Input) -> None:
    """Print statistics about stored events: how many, from when to when, by probe.

    INPUT is an event file (default: retis.data, or retis.data.0 and what follows it), sorted or not.
    With ".." appended, as in "retis.data.0..", the split files that follow it are read too.

    \b
    Examples:
      retis stats
      retis stats retis.data.0..
    """
    from retis_py.process.stats import count_file, render

    with reading():
        parts, error = count_file(source.path, source.rotate, stop_on_signals(), progress=True)
        # not before: a pager that waits for its first line and a progress bar do not share a terminal
        pager.start(ctx)
        click.echo("".join(f"{line}\n" for line in render(parts)), nl=False)
        if error is not None:
            raise error
