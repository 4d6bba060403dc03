"""Man pages from the text of ``--help``:  python -m packages.man DIRECTORY"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from retis_py.cli import COMMANDS, cli
from retis_py.cli.base import examples, option_sections
from retis_py.version import __version__

__all__ = ["page", "pages", "write"]

_FILES = """.TP
.I retis.data
The event file written by \\fBretis collect \\-o\\fR and read by the others when none is named.
.TP
.I ~/.config/retis/profiles, /etc/retis/profiles
Profiles of the user and of the system.
"""
_ENVIRONMENT = """.TP
.B PAGER
The pager of print, sort and stats, on a terminal; \\fBless \\-FRX\\fR if not set.
.TP
.B NOPAGER
If set, no pager is used.
.TP
.B NO_COLOR
If set and not empty, log lines are not coloured.
"""
_STATUS = """.TP
.B 0
Success, also when whoever read the output went away.
.TP
.B 1
Something failed; one line on standard error says what.
.TP
.B 2
The command line cannot be.
"""


def _escape(text: str) -> str:
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    )
    return "\n".join("\\&" + line if line.startswith((".", "\\(aq")) else line for line in text.split("\n"))


def _paragraphs(text: str) -> str:
    parts = [" ".join(part.replace("\b", "").split()) for part in text.split("\n\n")]
    return "\n.PP\n".join(_escape(part) for part in parts if part)


def _options(ctx: click.Context, command: click.Command) -> str:
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    out = ""
    for title, members in option_sections(options).items():
        records = [record for option in members if (record := option.get_help_record(ctx)) is not None]
        out += f".SH {_escape(title.upper() if title == 'Options' else title)}\n"
        for name, text in records:
            out += f".TP\n.B {_escape(name)}\n{_escape(text)}\n"
    return out


def page(command: click.Command, name: str, children: list[str], date: str) -> str:
    """The man page of *command*, called *name* (``retis sort``)."""
    ctx = command.context_class(command, info_name=name)
    title = name.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(ctx))
    summary = (command.help or "").split("\n")[0].rstrip(".").partition(". ")[0]
    out = f'.TH "{title.upper()}" "1" "{date}" "retis_py {__version__}" "User Commands"\n'
    out += f".SH NAME\n{_escape(title)} \\- {_escape(summary)}\n"
    out += f".SH SYNOPSIS\n.B {_escape(name)}\n{_escape(usage)}\n"
    out += f".SH DESCRIPTION\n{_paragraphs(command.help or '')}\n"
    out += _options(ctx, command)
    if isinstance(command, click.Group):
        out += ".SH COMMANDS\n"
        for child in children:
            about = COMMANDS.get(child) or (command.commands[child].get_short_help_str(100) if command.commands else "")
            out += f".TP\n.B {_escape(child)}\n{_escape(about)}\n"
    if examples(command):
        out += ".SH EXAMPLES\n.nf\n" + "".join(f"{_escape(line)}\n" for line in examples(command)) + ".fi\n"
    out += f".SH EXIT STATUS\n{_STATUS}.SH ENVIRONMENT\n{_ENVIRONMENT}.SH FILES\n{_FILES}"
    others = [other for other in ("retis", *(f"retis-{child}" for child in COMMANDS)) if other != title]
    return out + ".SH SEE ALSO\n" + ",\n".join(f".BR {_escape(other)} (1)" for other in others) + "\n"


def pages() -> dict[str, str]:
    """File name -> man page, for every command there is."""
    date = time.strftime("%Y-%m-%d", time.gmtime(_newest_change()))
    top = click.Context(cli, info_name="retis")
    out = {"retis.1": page(cli, "retis", list(COMMANDS), date)}
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        children = list(command.commands) if isinstance(command, click.Group) else []
        out[f"retis-{name}.1"] = page(command, f"retis {name}", children, date)
        for child in children:
            assert isinstance(command, click.Group)
            out[f"retis-{name}-{child}.1"] = page(command.commands[child], f"retis {name} {child}", [], date)
    return out


def _newest_change() -> float:
    """When the text last changed: the same pages for the same sources."""
    return max(path.stat().st_mtime for path in Path(__file__).resolve().parent.parent.glob("retis_py/cli/*.py"))


def write(directory: Path) -> list[Path]:
    """Write all pages into *directory*; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    out = []
    for name, text in pages().items():
        (directory / name).write_text(text)
        out.append(directory / name)
    return out


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else "build/man")):
        print(written)
