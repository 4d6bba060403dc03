"""The pager: as upstream, this process becomes it and a child does the work.

So the pager is what the shell waits for, and closing it ends the work through a closed pipe.
"""

from __future__ import annotations

import logging
import os
import sys

import click

from retis_py import log as log_setup

__all__ = ["pager_command", "start"]

log = logging.getLogger(__name__)

#: quit if it is one screen, keep colours, leave the screen as it is
DEFAULT = "less -FRX"


def pager_command() -> list[str] | None:
    """The pager to use; None if none is wanted or there is none."""
    if "NOPAGER" in os.environ or not sys.stdout.isatty():
        return None
    import shlex
    import shutil

    try:
        command = shlex.split(os.environ.get("PAGER") or "")
    except ValueError as error:
        log.warning("Not using a pager: PAGER is no command line (%s)", str(error).lower())
        return None
    if not command:
        command = shlex.split(DEFAULT)
    return command if shutil.which(command[0]) else None


def start(ctx: click.Context) -> None:
    """Send what the command *ctx* prints, log lines and errors included, through the pager, if one is to be used.

    Returns in the child only, where there is a pager.
    """
    command = pager_command()
    if command is None:
        return
    read, write = os.pipe()
    sys.stdout.flush()
    if os.fork():
        os.dup2(read, 0)
        os.close(read)
        os.close(write)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"Error: cannot run the pager {command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(1)
    os.dup2(write, 1)
    if sys.stderr.isatty():
        # an error that goes past the pager to its terminal is drawn over, or over the text
        os.dup2(write, 2)
    os.close(read)
    os.close(write)
    level = ctx.find_root().params.get("log_level") or "info"
    log_setup.setup(level, sys.stdout, colour=log_setup.colour_allowed())
