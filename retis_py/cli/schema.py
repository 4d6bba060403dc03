"""retis schema: the JSON schema of events."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of events.

    \b
    Example:
      retis schema > schema.json
    """
    from retis_py.process.schema import pretty

    click.echo(pretty(), nl=False)
