"""Arguments and options that commands share, declared once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import click

from retis_py.cli.base import completer, silence_stdout
from retis_py.errors import UsageError

__all__ = ["Input", "input_file", "reading", "resolve_input", "text_style"]

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_FILE = "retis.data"


class Input(NamedTuple):
    """The event file a command reads; with *rotate*, the split files after it too."""

    path: str
    rotate: bool


def resolve_input(text: str | None) -> Input:
    """The file that INPUT means: ``PATH`` alone, or ``PATH..`` and the split files that follow it.

    Without one it is ``retis.data`` if that is a file, else ``retis.data.0``, and split files follow. Raises
    UsageError if there is no such file.
    """
    if text is None:
        path = DEFAULT_FILE if os.path.isfile(DEFAULT_FILE) else f"{DEFAULT_FILE}.0"
        if not os.path.exists(path):
            raise UsageError(
                f"no event file given, and neither {DEFAULT_FILE} nor {path} exists",
                hint="name a file, or collect events with: retis collect -o",
            )
        return Input(path, True)
    path, rotate = (text[:-2], True) if text.endswith("..") else (text, False)
    try:
        os.stat(path)
    except OSError as error:
        raise UsageError(
            f"invalid value '{text}' for '[INPUT]': {os.strerror(error.errno or 0)}"
        ) from None
    return Input(path, rotate)


def _input_callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Input | None:
    # a line that is being completed names no file yet
    return None if ctx.resilient_parsing else resolve_input(value)


def input_file(function: Function) -> Function:
    """The INPUT argument; the command gets an `Input` as *source*."""
    return click.argument(
        "source", metavar="[INPUT]", required=False, callback=_input_callback, shell_complete=completer("files")
    )(function)


def text_style(function: Function) -> Function:
    """``--format``, ``--utc``, ``-e`` and ``--nft-rules``; the command gets a `Style` as *style*."""

    def collect(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        from retis_py.events.section import Style

        fields = {"layout": "multi_line", "utc": "utc", "link_layer": "link_layer", "nft_rules": "nft_rules"}
        changed = value == "multi-line" if param.name == "layout" else value
        style = ctx.params.get("style") or Style()
        ctx.params["style"] = style._replace(**{fields[param.name or ""]: changed})
        return value

    common: dict[str, Any] = {"expose_value": False, "callback": collect}
    for option in (
        click.option(
            "--nft-rules",
            "nft_rules",
            is_flag=True,
            help="Print the text of nftables rules too.",
            **common,
        ),
        click.option(
            "-e",
            "link_layer",
            is_flag=True,
            help="Print the link-layer part of packets too.",
            **common,
        ),
        click.option("--utc", "utc", is_flag=True, help="Print UTC dates, not monotonic times.", **common),
        click.option(
            "--format",
            "layout",
            type=click.Choice(["single-line", "multi-line"]),
            default="multi-line",
            show_default=True,
            help="How an event is laid out.",
            **common,
        ),
    ):
        function = option(function)
    return function


@contextmanager
def reading() -> Iterator[None]:
    """How reading may end: quietly when nobody reads the output, with a warning when a file is cut short."""
    from retis_py.events.file import TruncatedFile

    try:
        yield
    except BrokenPipeError:
        silence_stdout()
    except TruncatedFile as error:
        log.warning("%s", error)
        raise click.exceptions.Exit(1) from None
