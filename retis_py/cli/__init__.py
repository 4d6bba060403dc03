"""The ``retis`` command: one thin module per sub-command, loaded when it is used.

Start-up time is a feature (``retis --help`` stays under 0.25 s): this module imports click and nothing of ours
that is heavy; the one-line helps below spare importing the commands to list them.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from retis_py import log
from retis_py.cli.base import Group, completer, open_standard_streams, silence_stdout
from retis_py.errors import FilterError, ProbeError, RetisError, UsageError
from retis_py.events.visible import visible_lines
from retis_py.version import RELEASE_NAME, __version__

if TYPE_CHECKING:
    from retis_py.profiles import Argument

__all__ = ["COMMANDS", "cli", "main"]

#: errors about the value of an option, which a profile may have given
_OF_VALUES = (FilterError, ProbeError, UsageError)
#: sub-command -> one line of help, in the order of ``retis --help``; its module is ``retis_py.cli.<name>``
#: with ``-`` as ``_``
COMMANDS = {
    "collect": "Collect network events",
    "print": "Print stored events to stdout",
    "sort": "Print stored events sorted by packet",
    "python": "Run a Python shell or script with the events loaded",
    "pcap": "Generate a PCAP-NG file from stored events",
    "export": "Write stored events as a Parquet table",
    "inspect": "Show what can be traced on this system",
    "profile": "Manage profiles",
    "sh-complete": "Generate a shell completion script",
    "schema": "Print the JSON schema of events",
    "stats": "Print statistics about stored events",
}


class LazyGroup(Group):
    """A group that imports a sub-command when it is used."""

    #: what profiles gave on the command line at hand
    given: list[Argument]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given = []

    def origin(self, message: str, options: Collection[str] | None = None) -> str | None:
        """File and line of the profile's value that an error's *message*, about one of *options*, is about."""
        quoted = re.findall(r"'([^']{2,})'", message)
        for argument in self.given:
            value = argument.value or ""
            if options is not None:
                if argument.option in options and value in message:
                    return argument.where
            elif len(value) > 1 and (value in message or any(text in value for text in quoted)):
                return argument.where
        return None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.full_name(ctx, cmd_name)
        if name is None:
            return None
        command: click.Command = importlib.import_module(f"retis_py.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        profiles = ctx.params.get("profile") or ()
        if command is not None and profiles and not ctx.resilient_parsing:
            from retis_py.profiles import arguments

            # the group's own function, which sets the log up, runs after this
            log.setup(ctx.params.get("log_level") or "info")
            extra = ctx.params.get("extra_profiles_dir")
            self.given = arguments(profiles, command.name or "", extra, options=_takes_value(command))
            rest = rest + [word for argument in self.given for word in argument.words()]
        ctx.obj = {"argv": [ctx.info_name or "retis", *_main_args(sys.argv[1:], args), *args[:1], *rest]}
        return name, command, rest


def _takes_value(command: click.Command) -> dict[str, bool | None]:
    """Options of *command*, and whether each takes a value; None: it may."""
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {
        name: None if getattr(option, "_flag_needs_value", False) else not option.is_flag
        for option in options
        for name in option.opts
    }


def _main_args(argv: list[str], rest: list[str]) -> list[str]:
    """The part of *argv* before the sub-command."""
    return argv[: len(argv) - len(rest)] if rest and argv[-len(rest) :] == rest else []


@click.group(cls=LazyGroup)
@click.option(
    "--log-level",
    type=click.Choice(list(log.LEVELS)),
    default="info",
    show_default=True,
    help="Level of log messages (stderr).",
)
@click.option(
    "-p",
    "--profile",
    multiple=True,
    metavar="LIST",
    shell_complete=completer("profiles"),
    help="Comma-separated profiles to apply: names, or paths to profile files. Repeatable.",
)
@click.option(
    "-P",
    "--extra-profiles-dir",
    metavar="DIR",
    shell_complete=completer("places"),
    help="Look for profiles in DIR first.",
)
@click.version_option(__version__, "-V", "--version", message=f'retis %(version)s ("{RELEASE_NAME}")')
@click.pass_context
def cli(ctx: click.Context, log_level: str, profile: tuple[str, ...], extra_profiles_dir: str | None) -> None:
    """Trace packets in the Linux network stack: where did my packet go, and why was it dropped?

    \b
    Examples:
      retis collect -c skb,skb-drop -f 'tcp port 443'
      retis -p generic collect -o -f 'host 10.0.0.1'; retis sort
      retis COMMAND --help
    """
    log.setup(log_level)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``retis``: every expected error ends here, as one line and an exit status."""
    open_standard_streams()
    status = None

    def leave() -> None:
        # what follows is taking all modules apart, which takes 5 ms; a stream that fails is left to the interpreter
        with suppress(OSError, ValueError):
            if status is not None and sys.stdout is not None:
                sys.stdout.flush()
                os._exit(status)

    if argv is None:
        atexit.register(leave)  # first in, last out
    status = _guarded(lambda: _run(argv))
    if sys.stdout is not None and not sys.stdout.closed:  # a script may do that
        # what is left in the buffer may be what cannot be written
        status = max(status, _guarded(sys.stdout.flush))
    sys.exit(status)


def _run(argv: list[str] | None) -> int:
    debug = "debug" in (argv or sys.argv) or "trace" in (argv or sys.argv)
    if "_RETIS_COMPLETE" in os.environ:
        from retis_py.cli import complete

        complete.register()
        logging.disable()  # the terminal belongs to the shell
    try:
        status = cli.main(args=argv, prog_name="retis", standalone_mode=False)
    except click.exceptions.Exit as end:
        status = end.exit_code
    except click.UsageError as error:
        message = _sentence(error.format_message())
        param = error.param if isinstance(error, click.BadParameter) else None
        where = None if param is None else cli.origin(message, param.opts)
        _say(f"error: {where}: {message}" if where else f"error: {message}")
        if error.ctx is not None:
            _say(f"\n{error.ctx.get_usage()}")
        _say("\nFor more information, try '--help'.")
        status = 2
    except click.ClickException as error:
        _say(f"Error: {error.format_message()}")
        status = 1
    except click.Abort:
        status = 130
    except SystemExit:
        # click's way to end when nobody reads; the class is not one of those it offers
        if "PacifyFlushWrapper" in type(sys.stdout).__name__:
            raise BrokenPipeError from None
        raise
    except RetisError as error:
        if debug and "--log-level" in (argv or sys.argv):
            import traceback

            _say(traceback.format_exc().rstrip())
        word = "error" if error.exit_code == 2 else "Error"
        _say(f"{word}: {error}")
        where = cli.origin(f"{error} {error.hint}") if isinstance(error, _OF_VALUES) else None
        if where and not str(error).startswith(where):
            _say(f"Hint: the value is that of {where}")
        if error.hint:
            _say(f"Hint: {error.hint}")
        status = error.exit_code
    return status if isinstance(status, int) else 0


def _guarded(action: Callable[[], int | None]) -> int:
    """What *action* returns; a stdout that nobody reads ends it quietly, one that cannot be written with an error."""
    try:
        return action() or 0
    except BrokenPipeError:
        silence_stdout()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT):
            raise
        silence_stdout()
        _say(f"Error: cannot write to stdout: {os.strerror(error.errno)}")
        return 1


def _say(text: str) -> None:
    """An error, or what belongs to it: whatever it quotes, nothing of it commands the terminal."""
    click.echo(visible_lines(text), err=True)


def _sentence(text: str) -> str:
    """click's messages begin upper case and end with a full stop; ours do neither."""
    text = text[:-1] if text.endswith(".") else text
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
