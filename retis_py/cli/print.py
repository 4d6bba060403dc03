"""retis print: stored events as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from retis_py.cli import pager
from retis_py.cli.base import Command
from retis_py.cli.options import Input, input_file, reading, text_style
from retis_py.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from retis_py.events.section import Style


@click.command("print", cls=Command)
@input_file
@text_style
@click.pass_context
def command(ctx: click.Context, source: Input, style: Style) -> None:
    """Print stored events to stdout.

    INPUT is an event file (default: retis.data, or retis.data.0 and what follows it), sorted or not.
    With ".." appended, as in "retis.data.0..", the split files that follow it are read too.

    \b
    Examples:
      retis print
      retis print --format single-line --utc retis.data
      retis print -e retis.data.0..
    """
    pager.start(ctx)
    from retis_py.collectors import Event
    from retis_py.events.file import open_events
    from retis_py.process.printing import print_events
    from retis_py.process.progress import quiet_stdout

    stopped = stop_on_signals()
    with reading():
        print_events(open_events(source.path, Event, source.rotate), style, 1, stopped, quiet_stdout())
