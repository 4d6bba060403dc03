"""retis export: events as tables for other tools."""

from __future__ import annotations

import logging

import click

from retis_py.cli.base import Command
from retis_py.cli.options import Input, input_file, reading

log = logging.getLogger(__name__)


@click.command("export", cls=Command)
@click.option("--parquet", metavar="FILE", type=click.Path(), required=True, help="Write a Parquet file.")
@input_file
def command(source: Input, parquet: str) -> None:
    """Write stored events as a table: one row per event, one column per section.

    Columns do not depend on what a file holds, so that tables of several collections can be queried together. Needs
    pyarrow: pip install 'retis_py[arrow]'.

    INPUT is an event file (default: retis.data, or retis.data.0 and what follows it), sorted or not.
    With ".." appended, as in "retis.data.0..", the split files that follow it are read too.

    \b
    Examples:
      retis export --parquet retis.parquet
      retis export --parquet all.parquet retis.data.0..
    """
    from retis_py.process.table import write_parquet

    with reading():
        count = write_parquet(source.path, parquet, source.rotate)
        log.info("%d event(s) were written", count)
