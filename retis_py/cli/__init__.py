"""The ``retis`` command: one thin module per sub-command, loaded when it is used.

Start-up time is a feature (``retis --help`` stays under 0.25 s): this module imports click and nothing of ours
that is heavy; the one-line helps below spare importing the commands to list them.
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

import click

from retis_py import log
from retis_py.errors import RetisError
from retis_py.version import RELEASE_NAME, __version__

__all__ = ["COMMANDS", "cli", "main"]

#: sub-command -> one line of help, in the order of ``retis --help``; its module is ``retis_py.cli.<name>``
#: with ``-`` as ``_``
COMMANDS = {
    "collect": "Collect network events",
    "print": "Print stored events to stdout",
    "sort": "Print stored events sorted by packet",
    "python": "Run a Python shell or script with the events loaded",
    "pcap": "Generate a PCAP-NG file from stored events",
    "profile": "Manage profiles",
    "schema": "Print the JSON schema of events",
    "sh-complete": "Generate a shell completion script",
    "stats": "Print statistics about stored events",
}

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group that imports a sub-command when it is used and accepts unambiguous prefixes (``retis coll``)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            matches = [name for name in COMMANDS if name.startswith(cmd_name)]
            if len(matches) != 1:
                return None
            cmd_name = matches[0]
        module = importlib.import_module(f"retis_py.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        profiles = ctx.params.get("profile") or ()
        if command is not None and profiles:
            from retis_py.profiles import expand

            # the group's own function, which sets the log up, runs after this
            log.setup(ctx.params.get("log_level") or "info")
            rest = rest + expand(profiles, command.name or "", ctx.params.get("extra_profiles_dir"))
        ctx.obj = {"argv": [ctx.info_name or "retis", *_main_args(sys.argv[1:], args), *args[:1], *rest]}
        return name, command, rest


def _main_args(argv: list[str], rest: list[str]) -> list[str]:
    """The part of *argv* before the sub-command."""
    return argv[: len(argv) - len(rest)] if rest and argv[-len(rest) :] == rest else []


@click.group(cls=LazyGroup, context_settings=CONTEXT)
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
    help="Comma-separated profiles to apply: names, or paths to profile files. Repeatable.",
)
@click.option("-P", "--extra-profiles-dir", metavar="DIR", help="Look for profiles in DIR first.")
@click.version_option(__version__, "-V", "--version", message=f'retis %(version)s ("{RELEASE_NAME}")')
@click.pass_context
def cli(ctx: click.Context, log_level: str, profile: tuple[str, ...], extra_profiles_dir: str | None) -> None:
    """Trace packets in the Linux network stack: where did my packet go, and why was it dropped?"""
    log.setup(log_level)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``retis``: every expected error ends here, as one line and an exit status."""
    debug = "debug" in (argv or sys.argv) or "trace" in (argv or sys.argv)
    try:
        status = cli.main(args=argv, prog_name="retis", standalone_mode=False)
    except click.exceptions.Exit as end:
        status = end.exit_code
    except click.UsageError as error:
        click.echo(f"error: {_sentence(error.format_message())}", err=True)
        if error.ctx is not None:
            click.echo(f"\n{error.ctx.get_usage()}", err=True)
        click.echo("\nFor more information, try '--help'.", err=True)
        status = 2
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        status = 1
    except click.Abort:
        status = 1
    except RetisError as error:
        if debug and "--log-level" in (argv or sys.argv):
            import traceback

            traceback.print_exc()
        word = "error" if error.exit_code == 2 else "Error"
        click.echo(f"{word}: {error}", err=True)
        if error.hint:
            click.echo(f"Hint: {error.hint}", err=True)
        status = error.exit_code
    # the interpreter's end looks for cycles among all there is, 15 ms for what the process takes with it anyway
    gc.freeze()
    sys.exit(status if isinstance(status, int) else 0)


def _sentence(text: str) -> str:
    """click's messages begin upper case and end with a full stop; ours do neither."""
    text = text[:-1] if text.endswith(".") else text
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
