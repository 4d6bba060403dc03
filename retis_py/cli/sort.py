"""retis sort: stored events grouped by packet."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from retis_py.cli import pager
from retis_py.cli.base import Command
from retis_py.cli.options import Input, input_file, reading, text_style
from retis_py.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from retis_py.events.section import Style

log = logging.getLogger(__name__)


@click.command("sort", cls=Command)
@click.option(
    "--max-buffer",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Events held back to find the ones they belong to; 0: all, whatever it takes.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=click.Path(),
    help="Write series of events to FILE, not text to stdout.",
)
@click.option("--print", "also_print", is_flag=True, help="Print to stdout too when writing to a file.")
@text_style
@input_file
@click.pass_context
def command(
    ctx: click.Context, source: Input, max_buffer: int, out: str | None, also_print: bool, style: Style
) -> None:
    """Print stored events sorted by packet: its way through the stack, one series of events per packet.

    INPUT is an event file (default: retis.data, or retis.data.0 and what follows it).
    With ".." appended, as in "retis.data.0..", the split files that follow it are read too.

    \b
    Examples:
      retis sort
      retis sort -o sorted.data retis.data.0..
    """
    printing = out is None or also_print
    if printing:
        pager.start(ctx)
    from retis_py.collectors import Event
    from retis_py.events.file import EventReader, open_events
    from retis_py.process.progress import quiet_stdout
    from retis_py.process.sort import SeriesPrinter, SeriesWriter, SortEvent, check_output, sort_file

    reader = open_events(source.path, Event if printing else SortEvent, source.rotate)
    if not isinstance(reader, EventReader):
        log.info("File already sorted")
        return
    stopped = stop_on_signals()
    with reading(), ExitStack() as stack:
        outputs: list[Any] = []
        if out is not None:
            check_output(out, reader)
            outputs.append(stack.enter_context(SeriesWriter(out)).write)
        if printing:
            outputs.append(stack.enter_context(SeriesPrinter(sys.stdout.buffer, style)).write)

        def emit(series: list[Any]) -> None:
            for output in outputs:
                output(series)

        progress = not printing or quiet_stdout()
        sort_file(reader, outputs[0] if len(outputs) == 1 else emit, max_buffer, stopped, progress)
