"""retis python: a shell, or a script, with the events at hand."""

from __future__ import annotations

import os
import runpy
import select
import sys
import traceback
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from retis_py.cli.base import Command, completer
from retis_py.cli.options import resolve_input
from retis_py.errors import RetisError


def _find_script(name: str) -> str:
    """The script *name*: a path, or the name of one in the user's or the system's directory."""
    if os.path.exists(name):
        return name
    home = os.environ.get("HOME")
    places = [Path(home, ".config/retis/python")] if home else []
    for place in (*places, Path("/usr/share/retis/python")):
        path = (place / name).with_suffix(".py")
        if os.path.isfile(path):
            return str(path)
    raise RetisError(f"Python script named {name} not found")


def _execute(script: str, names: dict[str, Any]) -> None:
    if os.path.isfile(script) or os.path.isdir(script):
        runpy.run_path(script, init_globals=names, run_name="__main__")
        return
    # a pipe: runpy reads a file twice, to see what it is
    with open(script, "rb") as file:
        source = file.read()
    module = types.ModuleType("__main__")
    module.__dict__.update(names, __file__=script)
    sys.modules["__main__"] = module
    exec(compile(source, script, "exec"), module.__dict__)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that has no reader any more."""
    poll = select.poll()
    poll.register(1, 0)  # POLLERR always tells
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _run(script: str, args: tuple[str, ...], names: dict[str, Any]) -> None:
    sys.argv = [script, *args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    try:
        _execute(script, names)
    except Exception as problem:
        if isinstance(problem, BrokenPipeError) and _nobody_reads():
            raise  # as of any other command
        # the script's, whatever it is: shown as python does, without our frames
        kind, error, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename != script:
            trace = trace.tb_next
        traceback.print_exception(kind, error, trace)
        raise click.exceptions.Exit(1) from None


def _shell(names: dict[str, Any]) -> None:
    import code

    sys.argv = []
    try:
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    except ImportError:
        pass
    with suppress(ImportError):
        exec("from scapy.all import *", names)
    # scapy has names of its own
    names.update(sys=sys, reader=names["reader"])
    code.interact(local=names)


@click.command("python", cls=Command)
@click.option(
    "-i",
    "--input",
    "source",
    metavar="INPUT",
    shell_complete=completer("files"),
    help="Event file to read (default: as of retis print).",
)
@click.argument("script", required=False, shell_complete=completer("files"))
@click.argument("args", nargs=-1)
def command(source: str | None, script: str | None, args: tuple[str, ...]) -> None:
    """Run a Python shell or script with the events loaded.

    The global "reader" is the event file: reader.events() and reader.series() iterate over what is in it,
    event.packet.to_scapy() gives a packet to scapy. Options of the script come after "--".

    SCRIPT is a path, or the name of a script in ~/.config/retis/python or /usr/share/retis/python.

    \b
    Examples:
      retis python
      retis python -i retis.data drops.py
      retis python -- drops.py --since 5
    """
    file = resolve_input(source)
    path = None if script is None else _find_script(script)
    from retis_py.api import EventFile

    rotate = file.rotate and not EventFile(file.path).sorted()
    reader = EventFile.with_rotation(file.path) if rotate else EventFile(file.path)
    names: dict[str, Any] = {"reader": reader, "sys": sys}
    if path is None:
        _shell(names)
    else:
        _run(path, args, names)
