"""retis schema: the JSON schema of events."""

from __future__ import annotations

import click

from retis_py.cli.base import Command


@click.command("schema", cls=Command)
def command() -> None:
    """Print the JSON schema of events.

    \b
    Examples:
      retis schema > schema.json
      retis schema | jq '.properties | keys'
    """
    from retis_py.process.schema import pretty

    click.echo(pretty(), nl=False)
