"""Progress: on a terminal, for who waits, and nowhere else; gone at the end."""

from __future__ import annotations

import base64
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from retis_py.events.source import EventSource
from retis_py.process import progress
from tests.process.conftest import Json, dumps
from tests.support.oracle import STARTUP

#: the command, with bars for files of any size, and blocks small enough to have some
_HURRY = """
import sys
from retis_py.events import source
from retis_py.process import progress, team
progress.DELAY = {delay}
progress._INTERVAL = 0
source.BLOCK = 5000
team._WORTH_IT = {small}
from retis_py.cli import main
main()
"""
_ERASE = b"\x1b[2K"
_HIDE, _SHOW = b"\x1b[?25l", b"\x1b[?25h"
_ALONE, _TOGETHER = 1 << 40, 0


def event(number: int) -> Json:
    """One that no command has anything to say about."""
    return {
        "common": {"timestamp": number},
        "kernel": {"symbol": f"f{number % 7}", "probe_type": "kprobe"},
        "skb-tracking": {"orig_head": number % 40, "timestamp": 1, "skb": 1},
        "packet": {"len": 60, "capture_len": 60, "data": base64.b64encode(bytes(60)).decode()},
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("progress") / "f"
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *map(event, range(300))]))
    return path


def on_a_terminal(
    *arguments: str, stdout: str | None = os.devnull, delay: float = 0, small: int = _ALONE, term: str = "xterm"
) -> tuple[int, bytes]:
    """Exit status of the command and all its terminal got. *stdout* is a file, None the terminal."""
    pid, terminal = pty.fork()
    if not pid:
        if stdout is not None:
            os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
        script = _HURRY.format(delay=delay, small=small)
        environment = {**os.environ, "TERM": term, "NOPAGER": "1"}
        os.execve(sys.executable, [sys.executable, "-c", script, *arguments], environment)
    out = b""
    try:
        while chunk := os.read(terminal, 65536):
            out += chunk
    except OSError:
        pass  # how a terminal ends
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


COMMANDS = [["print"], ["pcap"], ["stats"], ["sort"], ["sort", "-o", os.devnull]]


@pytest.mark.parametrize("small", [_ALONE, _TOGETHER], ids=["alone", "together"])
@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_terminal_shows_a_bar_and_keeps_nothing(command: list[str], small: int, path: Path) -> None:
    status, out = on_a_terminal(*command, str(path), small=small)
    assert status == 0, out
    assert b"%" in out and b"kB" in out
    assert out.count(_HIDE) == out.count(_SHOW) >= 1
    # what comes after the last erasing: log lines
    rest = out.rpartition(_ERASE)[2]
    assert b"%" not in rest
    assert rest.rstrip() in (b"",) or b"event(s)" in rest


def test_bar_moves_to_the_end(path: Path) -> None:
    out = on_a_terminal("stats", str(path))[1]
    assert b"100%" in out and len({part for part in out.split(b"\r") if b"%" in part}) > 5


def test_output_is_that_without_a_bar(path: Path, tmp_path: Path) -> None:
    shown, plain = tmp_path / "shown", tmp_path / "plain"
    for small in (_ALONE, _TOGETHER):
        assert b"%" in on_a_terminal("print", str(path), stdout=str(shown), small=small)[1]
        with plain.open("wb") as file:
            subprocess.run([sys.executable, "-m", "retis_py", "print", str(path)], stdout=file, check=True)
        assert shown.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("command", [["print"], ["sort"], ["sort", "--print", "-o", os.devnull]], ids="-".join)
def test_no_bar_in_the_middle_of_text(command: list[str], path: Path) -> None:
    assert _HIDE not in on_a_terminal(*command, str(path), stdout=None)[1]


def test_stats_on_the_terminal_come_after_the_bar(path: Path) -> None:
    out = on_a_terminal("stats", str(path), stdout=None)[1]
    bar, _, rest = out.rpartition(_ERASE)
    assert b"%" in bar
    assert b"%" not in rest and b"Number of events: " in rest


@pytest.mark.parametrize("term", ["dumb", ""])
def test_no_bar_on_terminals_without_a_cursor(term: str, path: Path) -> None:
    assert _HIDE not in on_a_terminal("stats", str(path), term=term)[1]


def test_no_bar_for_files_read_at_once(path: Path) -> None:
    assert on_a_terminal("stats", str(path), delay=progress.DELAY)[1] == b""


def test_nothing_on_what_is_no_terminal(path: Path) -> None:
    script = _HURRY.format(delay=0, small=_ALONE)
    done = subprocess.run([sys.executable, "-c", script, "stats", str(path)], capture_output=True, check=True)
    assert done.stderr == b""


def test_no_bar_across_the_prompt_when_in_the_background(path: Path) -> None:
    """A terminal that is not the one of our session, or that has another in the foreground, is left alone."""
    master, slave = pty.openpty()
    script = _HURRY.format(delay=0, small=_ALONE)
    command = [sys.executable, "-c", script, "stats", str(path)]
    environment = {**os.environ, "TERM": "xterm"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=slave, env=environment, check=True)
    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 1)
    os.close(master)
    os.close(slave)


def test_a_log_line_takes_the_place_of_the_bar(tmp_path: Path) -> None:
    lines = [dumps(STARTUP), *(dumps({"common": {"timestamp": n}}) for n in range(500))]
    lost = {"event_type": "recv_upcall", "type": 1, "pkt_size": 1, "key_size": 1, "queue_id": 7, "batch_ts": 1}
    lines.insert(300, dumps({"common": {"timestamp": 1}, "ovs": {**lost, "batch_idx": 0}}))
    path = tmp_path / "f"
    path.write_text("\n".join(lines) + "\n")
    out = on_a_terminal("sort", "-o", os.devnull, str(path))[1]
    bar, _, rest = out.partition(b"\x1b[33mWARN")
    assert rest and bar.rstrip(b"\r\n").endswith((_ERASE, _SHOW)) and b"%" in rest


def test_split_files_count_together(tmp_path: Path) -> None:
    split = {"id": 0, "policy": {"kind": "size", "limit": 1}}
    first = dumps({**STARTUP, "startup": {**STARTUP["startup"], "split_file": split}}) + "\n"
    for number in range(3):
        (tmp_path / f"f.{number}").write_text(first)
    source = EventSource(tmp_path / "f.0", rotate=True)
    assert source.size() == 3 * len(first)
    seen = [source.done for _ in source.blocks()]
    assert seen == [len(first), 2 * len(first), 3 * len(first)]


def test_pipes_may_lead_to_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read, write = os.pipe()
    with (tmp_path / "f").open("wb") as file, open(os.devnull, "wb") as null:
        modes = {name: os.fstat(fd) for name, fd in (("pipe", write), ("file", file.fileno()), ("null", null.fileno()))}
    os.close(read)
    os.close(write)
    monkeypatch.setattr(progress.os, "isatty", lambda fd: False)
    for name, quiet in (("pipe", False), ("file", True), ("null", True)):
        monkeypatch.setattr(progress.os, "fstat", lambda fd, name=name: modes[name])
        assert progress.quiet_stdout() is quiet
