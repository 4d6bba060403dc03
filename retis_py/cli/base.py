"""What all commands are made of: prefixes of names, options given once, and help that ends with examples.

A command's docstring is its description; its ``Examples:`` block ends the help, the man page and the page in the
documentation. ``-h`` prints a summary, ``--help`` all of it.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

__all__ = ["Command", "Group", "completer", "examples", "open_standard_streams", "option_sections", "silence_stdout"]

#: columns used of a wide terminal, and of what is no terminal
_WIDEST, _DEFAULT = 100, 80
#: below this, what an option does goes under its name
_NARROW = 60
_EXAMPLES = re.compile(r"\n\s*\x08?\s*\n(?P<title>Examples?):\n", re.MULTILINE)
#: options of a collector begin with its name
_OF_COLLECTOR = re.compile(r"--(skb|ovs|nft|ct|dev|ns)-")


class _Formatter(click.HelpFormatter):
    """click's, that fits narrow terminals too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        columns = shutil.get_terminal_size((_DEFAULT, 24)).columns
        super().__init__(width=max(min(columns, _WIDEST) - 2, 20))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if self.width >= _NARROW:
            super().write_dl(list(rows), col_max, col_spacing)
            return
        for name, text in rows:
            self.write(f"{'':>{self.current_indent}}{name}\n")
            with self.indentation(), self.indentation():
                self.write_text(text)


class _Context(click.Context):
    formatter_class = _Formatter


class _Help(click.Option):
    def __init__(self, name: str, short: bool) -> None:
        super().__init__(
            [name, f"_help_{'short' if short else 'long'}"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=self._show,
            help="Print help: a summary with -h, all of it with --help.",
        )
        self._short = short

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return None if self._short else ("-h, --help", self.help or "")

    def _show(self, ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta["retis_py.summary"] = self._short
            click.echo(ctx.get_help())
            ctx.exit()


def option_sections(options: Sequence[click.Option]) -> dict[str, list[click.Option]]:
    """*options* by the heading they are listed under: those of a collector have one of their own."""
    sections: dict[str, list[click.Option]] = {"Options": []}
    for option in options:
        match = next((found for name in option.opts if (found := _OF_COLLECTOR.match(name))), None)
        sections.setdefault(f"collector '{match[1]}'" if match else "Options", []).append(option)
    return sections


def _split(text: str) -> tuple[str, list[str]]:
    """The description in a docstring, and the lines of its examples."""
    match = _EXAMPLES.search(f"\n{text}")
    if not match:
        return text, []
    tail = f"\n{text}"[match.end() :]
    return f"\n{text}"[1 : match.start()].rstrip(), [line.strip() for line in tail.splitlines() if line.strip()]


def examples(command: click.Command) -> list[str]:
    """Command lines that show what *command* is for."""
    return list(getattr(command, "examples", ()))


class _Shared(click.Command):
    """What `Command` and `Group` have in common."""

    context_class = _Context
    examples: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        text, self.examples = _split(inspect.cleandoc(kwargs.get("help") or ""))
        super().__init__(*args, **{**kwargs, "help": text, "add_help_option": False})
        self._help_options = [_Help("-h", True), _Help("--help", False)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._help_options]

    def make_parser(self, ctx: click.Context) -> Any:
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            seen = set()
            for param in order:
                once = isinstance(param, click.Option) and not param.multiple and not param.is_eager
                if once and id(param) in seen and not ctx.resilient_parsing:
                    name = max(param.opts, key=len)
                    also = " (a profile may give it, too)" if ctx.find_root().params.get("profile") else ""
                    raise click.UsageError(f"the argument '{name}' cannot be used multiple times{also}", ctx)
                seen.add(id(param))
            return values, rest, order

        parser.parse_args = parse_once
        return parser

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for title, members in option_sections(options).items():
            records = [record for option in members if (record := option.get_help_record(ctx)) is not None]
            if ctx.meta.get("retis_py.summary"):
                records = [(name, _first_sentence(text)) for name, text in records]
            with formatter.section(title):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        text = self.help or ""
        if ctx.meta.get("retis_py.summary"):
            text = text.split("\n\n")[0]
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples and not ctx.meta.get("retis_py.summary"):
            with formatter.section("Examples"):
                for line in self.examples:
                    # as it would be typed: never wrapped
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _first_sentence(text: str) -> str:
    return re.split(r"[.;:] |, e\.g\. | \[|  \[", text, maxsplit=1)[0].rstrip(".") + "."


def completer(name: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """A function of `retis_py.cli.complete`, imported when a shell asks."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from retis_py.cli import complete as functions

        found: list[Any] = getattr(functions, name)(ctx, param, incomplete)
        return found

    return complete


class Command(_Shared):
    """A command."""


class Group(_Shared, click.Group):
    """Commands under one name, of which unambiguous prefixes do, too."""

    command_class = Command

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.full_name(ctx, cmd_name)
        return None if name is None else super().get_command(ctx, name)

    def full_name(self, ctx: click.Context, text: str) -> str | None:
        """The command that *text* names or is the beginning of, if it is just one."""
        names = self.list_commands(ctx)
        matches = [text] if text in names else [name for name in names if text and name.startswith(text)]
        return matches[0] if len(matches) == 1 else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise click.UsageError(f"'{ctx.command_path}' requires a subcommand but one was not provided", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.full_name(ctx, args[0]) is None and not ctx.resilient_parsing:
            close = [name for name in self.list_commands(ctx) if name.startswith(args[0])]
            tip = f"; did you mean {' or '.join(close)}?" if close else _close(args[0], self.list_commands(ctx))
            raise click.UsageError(f"unrecognized subcommand '{args[0]}'{tip}", ctx)
        return super().resolve_command(ctx, args)


def _close(text: str, names: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(text, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def open_standard_streams() -> None:
    """Give closed standard streams back their numbers: the next file opened would be taken for one of them.

    Reading /dev/null in stdout's place makes each write to it fail with EBADF, as it should.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def silence_stdout() -> None:
    """Nobody reads any more: keep the interpreter from flushing to the closed pipe at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
