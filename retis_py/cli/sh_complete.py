"""retis sh-complete: completion scripts for shells."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from retis_py.cli.base import Command
from retis_py.errors import OutputError, RetisError

#: shells upstream knows, and what a script is called in a directory of such
_FILES = {
    "bash": "retis.bash",
    "elvish": "retis.elv",
    "fish": "retis.fish",
    "powershell": "_retis.ps1",
    "zsh": "_retis",
}


def script(shell: str) -> str:
    """The completion script for *shell*. Raises RetisError for one that click has none for."""
    from retis_py.cli import cli, complete

    complete.register()
    kind = get_completion_class(shell)
    if kind is None:
        known = [name for name in _FILES if get_completion_class(name) is not None]
        raise RetisError(f"completion for {shell} is not available", f"there are scripts for {', '.join(known)}")
    # not source() of the class itself: for bash that runs bash to see its version, here and now
    return ShellComplete.source(kind(cli, {}, "retis", "_RETIS_COMPLETE"))


@click.command("sh-complete", cls=Command)
@click.option("--shell", type=click.Choice(list(_FILES)), required=True, help="Shell to complete for.")
@click.option(
    "--register",
    metavar="PATH",
    type=click.Path(),
    help="Write to PATH, a file or a directory, not to stdout.",
)
def command(shell: str, register: str | None) -> None:
    """Generate a shell completion script.

    \b
    Examples:
      source <(retis sh-complete --shell bash)
      retis sh-complete --shell fish --register ~/.config/fish/completions
    """
    text = script(shell)
    if register is None:
        click.echo(text)
        return
    path = Path(register)
    if path.is_dir():
        path /= _FILES[shell]
    try:
        path.write_text(f"{text}\n")
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {os.strerror(error.errno or 0)}") from None
