"""The command line against upstream's: a table of its commands, options and defaults, walked here.

``REFERENCE`` is what a user of upstream may type; what we lack of it is in ``GAPS``.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from retis_py.cli import COMMANDS, cli
from retis_py.cli.base import _OF_COLLECTOR
from retis_py.collectors import COLLECTORS
from tests.support.oracle import STARTUP
from tests.support.sections import events

FLAG = "flag"
VALUE = "value"
OPTIONAL = "optional value"
LIST = "repeatable"


class Option(NamedTuple):
    names: str
    kind: str = VALUE
    default: Any = None
    choices: tuple[str, ...] = ()


TEXT = (
    Option("--format", default="multi-line", choices=("single-line", "multi-line")),
    Option("--utc", FLAG),
    Option("-e", FLAG),
)
#: command ("" is retis itself) -> its options; in the order of upstream's help
REFERENCE: dict[str, tuple[Option, ...]] = {
    "": (
        Option("--log-level", default="info", choices=("error", "warn", "info", "debug", "trace")),
        Option("-p --profile", LIST),
        Option("-P --extra-profiles-dir"),
        Option("-V --version", FLAG),
    ),
    "collect": (
        Option("-c --collectors", LIST, default=("auto",)),
        Option("-p --probe", LIST),
        Option("-f --filter-packet"),
        Option("-m --filter-meta"),
        Option("-o --out", OPTIONAL),
        Option("--out-rotate"),
        Option("--print", FLAG),
        Option("--stack", FLAG),
        Option("--probe-stack", FLAG),
        Option("--cmd"),
        Option("--stop-after"),
        Option("--allow-system-changes", FLAG),
        Option("--kconf"),
        *TEXT,
        Option("--skb-sections", LIST),
        Option("--ovs-track", FLAG),
        Option("--ovs-enrich-flows", FLAG),
        Option("--ovs-enrich-rate", default=20),
        Option("--nft-verdicts", LIST, default=("drop", "accept")),
    ),
    "print": TEXT,
    "sort": (Option("--max-buffer", default=1000), Option("-o --out"), Option("--print", FLAG), *TEXT),
    "python": (Option("-i --input"),),
    "pcap": (Option("-o --out"), Option("-p --probe")),
    "inspect": (Option("-p --probe", OPTIONAL), Option("--kconf")),
    "profile": (),
    "profile list": (),
    "sh-complete": (
        Option("--shell", choices=("bash", "elvish", "fish", "powershell", "zsh")),
        Option("--register"),
    ),
    "schema": (),
    "stats": (),
}
INPUT = ("print", "sort", "pcap", "stats")
#: options upstream has and we have not
GAPS: dict[str, set[str]] = {}


def command(path: str) -> click.Command:
    found: click.Command = cli
    for name in path.split():
        assert isinstance(found, click.Group)
        child = found.get_command(click.Context(found), name)
        assert child is not None, f"there is no command {path}"
        found = child
    return found


def options(path: str) -> dict[str, click.Option]:
    return {name: p for p in command(path).params if isinstance(p, click.Option) for name in p.opts}


def kind(option: click.Option) -> str:
    if option.is_flag:
        return FLAG
    if option.multiple:
        return LIST
    return OPTIONAL if option._flag_needs_value else VALUE


@pytest.mark.parametrize("path", REFERENCE)
def test_command_has_the_options_of_upstream(path: str) -> None:
    ours, missing, different = options(path), [], []
    for option in REFERENCE[path]:
        names = option.names.split()
        if not all(name in ours for name in names):
            if names[-1] not in GAPS.get(path, ()):
                missing.append(option.names)
            continue
        found = ours[names[-1]]
        choices = tuple(getattr(found.type, "choices", ()))
        default = found.to_info_dict().get("default") or None
        got = (kind(found), default, choices)
        if got != (option.kind, option.default, option.choices) or len({id(ours[name]) for name in names}) != 1:
            different.append((option, got))
    assert (missing, different) == ([], [])


def test_there_is_no_gap_in_the_list_of_commands() -> None:
    upstream = [path for path in REFERENCE if path and " " not in path]
    assert [name for name in COMMANDS if name in upstream] == upstream


@pytest.mark.parametrize("path", INPUT)
def test_input_is_an_argument_that_may_be_left_out(path: str) -> None:
    (argument,) = [param for param in command(path).params if isinstance(param, click.Argument)]
    usage = command(path).collect_usage_pieces(click.Context(command(path)))
    assert (usage[-1], argument.required) == ("[INPUT]", False)


def test_headings_of_options_are_the_collectors() -> None:
    match = re.search(r"\((.*)\)", _OF_COLLECTOR.pattern)
    assert match and {f"skb-{name}" for name in ("tracking", "drop")} | set(match[1].split("|")) == {
        kind.name for kind in COLLECTORS
    }


def retis(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    arguments = (sys.executable, "-m", "retis_py", *arguments)
    return subprocess.run(arguments, **{"capture_output": True, "text": True, "timeout": 60, **options})


@pytest.fixture(scope="module")
def collect_help() -> Iterator[str]:
    yield retis("collect", "--help").stdout


def test_options_of_a_collector_are_under_its_heading(collect_help: str) -> None:
    general, _, rest = collect_help.partition("\ncollector 'skb':\n")
    assert "--skb-sections" in rest and "--skb-sections" not in general and "--stack" in general


def test_help_starts_with_the_usage_and_ends_with_examples(collect_help: str) -> None:
    assert collect_help.startswith("Usage: retis collect [OPTIONS]\n\n  ")
    examples = collect_help.partition("\nExamples:\n")[2].splitlines()
    assert len(examples) >= 2 and all(line.startswith("  retis ") for line in examples)


@pytest.mark.parametrize("path", [path for path in REFERENCE if path])
def test_every_help_ends_with_an_example(path: str) -> None:
    if path == "profile":
        path = "profile list"
    lines = retis(*path.split(), "--help").stdout.rstrip().rpartition("Examples:\n")[2].splitlines()
    assert 2 <= len(lines) <= 4 and all("retis" in line for line in lines)


def test_short_help_is_shorter() -> None:
    def names(shown: str) -> list[str]:
        return re.findall(r"^  (?:-\w, )?--[\w-]+", shown.partition("\nExamples:")[0], re.M)

    short, long = retis("collect", "-h").stdout, retis("collect", "--help").stdout
    assert len(short.splitlines()) < len(long.splitlines()) * 0.8
    assert names(short) == names(long)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_fits_the_terminal(columns: int) -> None:
    for path in ("", "collect", "sort"):
        shown = retis(*path.split(), "--help", env={**os.environ, "COLUMNS": str(columns)}).stdout
        text, _, _examples = shown.partition("\nExamples:\n")
        too_long = [line for line in text.splitlines() if len(line) > columns and " [" not in line]
        assert not too_long


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "'retis' requires a subcommand but one was not provided"),
        (["profile"], "'retis profile' requires a subcommand but one was not provided"),
        (["inspect"], "nothing to inspect"),
        (["s"], "unrecognized subcommand 's'; did you mean sort or sh-complete or schema or stats?"),
        (["colect"], "unrecognized subcommand 'colect'; did you mean collect?"),
        (["help"], "unrecognized subcommand 'help'"),
        (["--log-level", "info", "--log-level", "info", "schema"], "the argument '--log-level' cannot be used mult"),
        (["sort", "--utc", "--utc"], "the argument '--utc' cannot be used multiple times"),
        (["collect", "-f", "tcp", "-f", "udp"], "the argument '--filter-packet' cannot be used multiple times"),
        (["collect", "--stack", "--stack"], "the argument '--stack' cannot be used multiple times"),
        (["--log-level", "loud", "schema"], "invalid value for '--log-level'"),
        (["sh-complete"], "missing option '--shell'"),
        (["schema", "more"], "got unexpected extra argument (more)"),
    ],
)
def test_usage_errors_are_exit_status_2_and_tell_the_usage(arguments: list[str], message: str) -> None:
    done = retis(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"error: {message}")
    assert any(line.startswith("Usage: retis") for line in rest) and rest[-1] == "For more information, try '--help'."


@pytest.mark.parametrize("arguments", [["pri", "--help"], ["prof", "li", "--help"], ["sh-c", "-h"], ["insp", "-h"]])
def test_beginning_of_a_command_is_enough(arguments: list[str]) -> None:
    assert retis(*arguments).returncode == 0


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_has_a_name(option: str) -> None:
    assert re.fullmatch(r'retis \d+\.\d+\.\d+ \("[a-z ]+"\)\n', retis(option).stdout)


@pytest.mark.parametrize("options", [["--format=single-line"], ["--format", "single-line"]])
def test_options_take_their_value_either_way(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "retis.data").write_text('{"common":{"timestamp":1},"startup":{"retis_version":"1.7.0"}}\n')
    assert retis("print", *options, cwd=tmp_path).returncode in (0, 1)


# log lines

VERBOSE = r"\d\d:\d\d:\d\d\.\d{6} (ERROR|WARN |INFO |DEBUG|TRACE) "


def test_log_lines_are_plain_up_to_info_and_dated_from_debug_on() -> None:
    def lines(level: str) -> list[str]:
        arguments = ("-p", "dropmon", "--log-level", level, "collect", "-c", "none")
        return retis(*arguments).stderr.splitlines()

    assert lines("info")[0] == "Applying profile dropmon"
    assert not any("Applying" in line for line in lines("warn"))
    assert any(re.fullmatch(VERBOSE + "Applying profile dropmon", line) for line in lines("debug"))


def on_terminal(arguments: list[str], **environment: str) -> str:
    """What a command shows on a terminal."""
    reader, writer = pty.openpty()
    given = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PAGER")}
    command = [sys.executable, "-m", "retis_py", *arguments]
    process = subprocess.Popen(command, stdout=writer, stderr=writer, env={**given, "TERM": "xterm", **environment})
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 65536):
            shown += chunk
    except OSError:  # EIO: the other end is closed
        pass
    os.close(reader)
    process.wait(60)
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def broken(tmp_path: Path) -> list[str]:
    """Arguments of a command that warns."""
    (tmp_path / "bad.yaml").write_text("{")
    return ["-P", str(tmp_path), "profile", "list"]


def test_level_is_coloured_on_a_terminal_only(broken: list[str]) -> None:
    assert "\x1b[33mWARN \x1b[0m Skipping" in on_terminal(broken)
    assert "\x1b" not in on_terminal(broken, NO_COLOR="1")
    assert "\x1b" not in on_terminal(broken, TERM="dumb")
    assert "\x1b" in on_terminal(broken, NO_COLOR="")
    assert "\x1b" not in retis(*broken, env={**os.environ, "TERM": "xterm"}).stderr


def test_event_text_is_the_same_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("".join(json.dumps(event) + "\n" for event in (STARTUP, *events(5, 50))))
    piped = retis("print", str(path)).stdout
    assert on_terminal(["print", str(path)], NOPAGER="1") == piped
    assert on_terminal(["print", str(path)], PAGER="cat") == piped


def test_help_is_there_at_once() -> None:
    def once() -> float:
        start = time.perf_counter()
        assert retis("--help").returncode == 0
        return time.perf_counter() - start

    # 0.07 s on an idle machine
    assert min(once() for _ in range(5)) < 0.25


def test_help_and_the_package_import_nothing_heavy() -> None:
    code = (
        "import sys\nimport retis_py, retis_py.cli\n"
        "from click.testing import CliRunner\nCliRunner().invoke(retis_py.cli.cli, ['--help'])\n"
        "print(*sorted({'bcc', 'scapy', 'rich', 'msgspec', 'yaml', 'pyarrow', 'lark', 'pcapng'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
