"""retis print: arguments, errors, pager, pipes and signals, as a user meets them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from retis_py.cli import pager
from retis_py.cli.options import Input, resolve_input
from retis_py.errors import UsageError
from tests.support.oracle import STARTUP
from tests.support.sections import events

EVENT = {"common": {"timestamp": 30419169061793, "smp_id": 6}, "dev": {"name": "eth0", "ifindex": 3}}


def write(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def retis(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retis_py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "retis.data", STARTUP, EVENT)


def test_default_is_multi_line(path: Path) -> None:
    done = retis("print", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("cmdline retis collect -o\n\n30419169061793 (6)\n  if 3 (eth0)\n\n")


def test_single_line(path: Path) -> None:
    done = retis("print", "--format", "single-line", str(path))
    assert done.stdout.splitlines()[1] == "30419169061793 (6) if 3 (eth0)"


def test_utc(path: Path) -> None:
    assert "\n2025-03-18 23:12:45.860103 (6)\n" in retis("print", "--utc", str(path)).stdout


def test_link_layer(tmp_path: Path) -> None:
    packet = {"len": 14, "capture_len": 14, "data": "AAAAAAAAAAAAAAAACAA="}
    path = write(tmp_path / "f", STARTUP, {"common": {"timestamp": 1}, "packet": packet})
    addresses = "00:00:00:00:00:00 > 00:00:00:00:00:00 ethertype IPv4 (0x0800) "
    assert addresses not in retis("print", str(path)).stdout
    assert addresses in retis("print", "-e", str(path)).stdout


def test_prefix_of_the_command_is_enough(path: Path) -> None:
    assert retis("pri", str(path)).stdout == retis("print", str(path)).stdout


def test_help_has_examples() -> None:
    done = retis("print", "--help")
    assert done.returncode == 0
    for word in ("--format", "--utc", "-e", "retis print --format single-line --utc retis.data"):
        assert word in done.stdout


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    done = retis("print", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: invalid value 'none' for '[INPUT]': No such file or directory" in done.stderr


def test_no_default_file_is_a_usage_error(tmp_path: Path) -> None:
    done = retis("print", cwd=tmp_path)
    assert done.returncode == 2
    assert "neither retis.data nor retis.data.0 exists" in done.stderr


def test_bad_option_is_a_usage_error(path: Path) -> None:
    assert retis("print", "--format", "xml", str(path)).returncode == 2


def test_default_file_is_read(path: Path) -> None:
    assert "if 3 (eth0)" in retis("print", cwd=path.parent).stdout


def test_garbage_is_one_error_line(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(os.urandom(1000).replace(b"\n", b"") + b"\xff")
    done = retis("print", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {path}: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_bad_line_ends_with_an_error_after_what_is_before(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"common":5}\n')
    done = retis("print", str(path))
    assert done.returncode == 1
    assert "if 3 (eth0)" in done.stdout
    assert f"Error: {path}: line 3: invalid type: int, expected object" in done.stderr


def test_cut_short_file_is_a_warning_and_exit_status_1(path: Path) -> None:
    with path.open("a") as file:
        file.write('{"common":{"ti')
    done = retis("print", str(path))
    assert done.returncode == 1
    assert "if 3 (eth0)" in done.stdout
    assert done.stderr == f"WARN  {path}: line 3: truncated, the collection was cut short\n"


def test_closed_pipe_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, *events(5, 3000))
    command = [sys.executable, "-m", "retis_py", "print", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
def test_signal_ends_in_good_order(tmp_path: Path, number: int) -> None:
    path = tmp_path / "f"
    lines = "".join(json.dumps(event) + "\n" for event in events(6, 1000))
    path.write_text(json.dumps(STARTUP) + "\n" + lines * 40)
    command = [sys.executable, "-m", "retis_py", "print", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        out = process.stdout.read(10)  # it runs, and waits for us to read on
        process.send_signal(number)
        out += process.stdout.read()
        assert process.stderr.read() == b"Received signal, terminating...\n"
        assert process.wait(60) == 0
    assert out.endswith(b"\n\n")
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    assert whole.startswith(out)
    assert len(out) < len(whole)


def test_closing_the_terminal_does_not_matter_under_nohup(tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, *events(5, 3000))
    command = [sys.executable, "-m", "retis_py", "print", str(path)]
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    with subprocess.Popen(["nohup", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout
        out = process.stdout.read(10)  # it runs, and waits for us to read on
        process.send_signal(signal.SIGHUP)
        assert out + process.stdout.read() == whole
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", Input("a", False)),
        ("a..", Input("a", True)),
        ("retis.data.0..", Input("retis.data.0", True)),
        (None, Input("retis.data.0", True)),
    ],
)
def test_input_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: Input
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "retis.data.0"):
        (tmp_path / name).touch()
    assert resolve_input(text) == expected
    (tmp_path / "retis.data").touch()
    assert resolve_input(None) == Input("retis.data", True)
    with pytest.raises(UsageError):
        resolve_input("a....")


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "less", "command"),
    [
        ({}, True, ["less", "-FRX"]),
        ({}, False, None),
        ({"NOPAGER": ""}, True, None),
        ({"PAGER": "more -d"}, True, ["more", "-d"]),
    ],
)
def test_pager_rules(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], less: bool, command: list[str] | None
) -> None:
    monkeypatch.setattr(pager.sys, "stdout", _Terminal())
    monkeypatch.setattr("shutil.which", lambda name: name if less else None)
    for name in ("PAGER", "NOPAGER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pager.pager_command() == command


def test_no_pager_without_a_terminal() -> None:
    assert pager.pager_command() is None or sys.stdout.isatty()


def on_terminal(pager: str, *arguments: str) -> tuple[int, bytes]:
    """Exit status and output where stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PAGER": pager, "TERM": "xterm"}
    environment.pop("NOPAGER", None)
    command = [sys.executable, "-m", "retis_py", *arguments]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    out = b""
    try:
        while chunk := os.read(master, 4096):
            out += chunk
    except OSError:
        pass  # how a terminal ends
    os.close(master)
    return process.wait(60), out


def test_pager_gets_the_text(path: Path) -> None:
    """On a terminal the command becomes the pager: here one that says so."""
    status, out = on_terminal("sed s/^/paged:/", "print", str(path))
    assert status == 0 and b"paged:30419169061793 (6)\r\n" in out


@pytest.mark.parametrize("command", ["print", "sort", "stats"])
def test_pager_gets_errors_too(path: Path, command: str) -> None:
    path.write_text(path.read_text() + '{"common":5}\n')
    _, out = on_terminal("sed s/^/paged:/", command, str(path))
    (line,) = [line for line in out.splitlines() if b"Error: " in line]
    assert line.startswith(b"paged:Error: ") and out.rstrip().endswith(line)


def test_a_pager_that_is_no_command_line_is_done_without(path: Path) -> None:
    status, out = on_terminal("a 'b", "print", str(path))
    assert status == 0 and b"Traceback" not in out and b"30419169061793 (6)\r\n" in out
    assert b"Not using a pager: PAGER is no command line (no closing quotation)" in out


def test_every_option_is_a_click_parameter() -> None:
    from retis_py.cli.print import command

    assert isinstance(command, click.Command)
    names = {name for parameter in command.params for name in parameter.opts}
    assert {"--format", "--utc", "-e", "source"} <= names
