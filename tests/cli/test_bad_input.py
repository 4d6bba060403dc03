"""Circumstances that are nobody's fault: closed streams, full disks, odd locales, no rights, a home that is closed."""

from __future__ import annotations

import base64
import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import STARTUP

ROOT = Path(__file__).resolve().parents[2]
NOBODY: dict[str, Any] = {"user": pwd.getpwnam("nobody").pw_uid, "extra_groups": []} if os.geteuid() == 0 else {}
#: every command that works on a file or on nothing
READERS = ("print", "sort", "stats", "pcap")
OTHERS = (("collect", "--help"), ("schema",), ("profile", "list"), ("inspect", "--system"))
MORE = (("--version",), ("sh-complete", "--shell", "bash"), ("inspect", "--collectors"))


@pytest.fixture(scope="module")
def open_place() -> Iterator[Path]:
    """A directory that everybody may read: pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


@pytest.fixture(scope="module")
def path(open_place: Path) -> Path:
    kernel = {"symbol": "skb:kfree_skb", "probe_type": "raw_tracepoint"}
    packet = {"len": 60, "capture_len": 60, "data": base64.b64encode(bytes(60)).decode()}
    made = [
        {
            "common": {"timestamp": time, "task": {"pid": 1, "tgid": 1, "comm": "h\u00e9"}},
            "kernel": kernel,
            "skb-tracking": {"orig_head": time % 3, "timestamp": 10, "skb": 6},
            "packet": packet,
        }
        for time in range(10, 60)
    ]
    (open_place / "retis.data").write_text("".join(json.dumps(event) + "\n" for event in (STARTUP, *made)))
    return open_place / "retis.data"


def retis(*arguments: object, redirect: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it through a shell that redirects, e.g. ``>&-``."""
    command = ["sh", "-c", f'exec "$0" "$@" {redirect}', sys.executable, "-m", "retis_py", *map(str, arguments)]
    return subprocess.run(
        command,
        **{"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60, "cwd": ROOT, **options},
    )


def commands(path: Path) -> list[tuple[object, ...]]:
    return [*((command, path) for command in READERS), *OTHERS]


@pytest.mark.parametrize("number", range(len(READERS) + len(OTHERS)))
@pytest.mark.parametrize(
    ("redirect", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
def test_a_stdout_that_cannot_be_written_is_one_error_line(path: Path, number: int, redirect: str, reason: str) -> None:
    done = retis(*commands(path)[number], redirect=redirect)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: cannot write to stdout: {reason}"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirect", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_get_into_files(path: Path, tmp_path: Path, redirect: str) -> None:
    """The first file opened would otherwise have the number of a standard stream, and get what is meant for it."""
    for command, name in (("sort", "sorted"), ("pcap", "pcap")):
        retis(command, "-o", tmp_path / name, path, redirect=redirect)
        retis(command, "-o", tmp_path / f"{name}.expected", path)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"{name}.expected").read_bytes() != b""


@pytest.mark.parametrize("number", range(len(READERS) + len(OTHERS)))
def test_a_reader_that_left_is_no_error(path: Path, number: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = retis(*commands(path)[number], capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr == "" or "event(s) were" in done.stderr


@pytest.mark.parametrize(
    "locale",
    [{"LC_ALL": "C"}, {"LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)
def test_output_is_utf8_whatever_the_locale(path: Path, locale: dict[str, str]) -> None:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONIO"))}
    for command in ("print", "sort", "stats"):
        expected = retis(command, path, text=False, env={**plain, "LC_ALL": "C.UTF-8"})
        got = retis(command, path, text=False, env={**plain, **locale})
        assert (got.returncode, got.stdout, got.stderr) == (0, expected.stdout, b"")


def test_every_command_but_collect_works_without_rights(path: Path, tmp_path: Path) -> None:
    for arguments in (*commands(path), *MORE):
        done = retis(*arguments, text=False, **NOBODY)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stdout
    script = path.parent / "script.py"
    script.write_text("print(len(list(reader.events())))\n")
    assert retis("python", "-i", path, script, **NOBODY).returncode == 0


def test_collect_says_what_is_missing_where_rights_are_not_enough() -> None:
    done = retis("collect", **NOBODY)
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("Error: Retis does not have CAP_") and hint.startswith("Hint: run as root")


@pytest.mark.parametrize("closed", ["", ".config/retis/profiles"])
def test_a_home_that_cannot_be_read_is_done_without(path: Path, open_place: Path, closed: str) -> None:
    home = open_place / f"home{len(closed)}"
    (home / ".config/retis/profiles").mkdir(parents=True)
    (home / closed).chmod(0)
    options: dict[str, Any] = {"env": {**os.environ, "HOME": str(home)}, **NOBODY}
    try:
        listed = retis("profile", "list", **options)
        assert listed.returncode == 0 and "  generic " in listed.stdout and "Traceback" not in listed.stderr
        applied = retis("-p", "dropmon", "pcap", "-o", "/dev/null", path, **options)
        assert "Applying profile dropmon" in applied.stderr and "Traceback" not in applied.stderr
        missing = retis("python", "-i", path, "nosuch", **options)
        assert missing.stderr == "Error: Python script named nosuch not found\n"
    finally:
        (home / closed).chmod(0o755)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: "),
        ("version: 1.0\nname: p\ncollect:\n  - args: {nosuch: x}\n", "line 4: retis collect has no option --nosuch"),
        ("version: 1.0\nname: p\ncollect:\n  - args: {stack: x}\n", "line 4: --stack takes no value"),
        ("version: 1.0\nname: p\ncollect:\n  - arg:\n", "line 4: unknown field 'arg' of an entry of collect"),
        ("", "holds 0 profiles, need one"),
    ],
)
def test_a_broken_profile_is_one_error_line_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(text)
    done = retis("-p", profile, "collect")
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    first = done.stderr.splitlines()[0]
    assert str(profile) in first and message in first


@pytest.mark.parametrize("by_name", [False, True])
def test_a_profile_that_may_not_be_read_is_told_so(open_place: Path, by_name: bool) -> None:
    profile = open_place / "closed.yaml"
    profile.write_text("version: 1.0\nname: q\n")
    profile.chmod(0)
    options = ("-P", open_place, "-p", "closed") if by_name else ("-p", profile)
    done = retis(*options, "collect", **NOBODY)
    assert (done.returncode, done.stderr) == (1, f"Error: Could not import profile: {profile}: Permission denied\n")


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("collect", "stop_after: t", "error: {0}: line 4: invalid value for '--stop-after': 't' is not a valid"),
        ("pcap", "probe: k:x/foo", "error: 'foo' is an invalid probe option.\nHint: the value is that of {0}: line 4"),
    ],
)
def test_a_bad_value_of_a_profile_names_file_and_line(
    path: Path, tmp_path: Path, command: str, args: str, message: str
) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(f"version: 1.0\nname: p\n{command}:\n  - args: {{{args}}}\n")
    done = retis("-p", profile, command, *([path] if command == "pcap" else []))
    assert done.returncode == 2 and message.format(profile) in done.stderr


def test_the_users_own_bad_value_is_not_said_to_be_the_profiles(path: Path, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("version: 1.0\nname: p\npcap:\n  - args: {out: /dev/null}\n")
    done = retis("-p", profile, "pcap", "--probe", "k:x/foo", path)
    assert "'foo' is an invalid probe option" in done.stderr and "p.yaml" not in done.stderr


ESCAPE = "\x1b]0;gone\x07"


def test_no_error_or_log_line_carries_a_terminal_escape(tmp_path: Path) -> None:
    """Whatever it quotes: files, names and values are written by others."""
    broken = json.loads(json.dumps(STARTUP))
    broken["startup"]["retis_version"] = f"v1.{ESCAPE}"
    (tmp_path / "version").write_text(json.dumps(broken) + "\n")
    name = tmp_path / f"name{ESCAPE}"
    name.write_text("{}\n")
    quoted = ESCAPE.replace("\x1b", "\\e").replace("\x07", "\\a")
    (tmp_path / "p.yaml").write_text(
        f'version: 9.0\nname: "{quoted}"\n---\nversion: 1.0\nname: p\n"{quoted}": x\n'
    )
    for arguments in (
        ("print", tmp_path / "version"),
        ("print", name),
        ("pcap", "--probe", f"x/{ESCAPE}", name),
        ("-p", tmp_path / "p.yaml", "collect"),
        ("-P", tmp_path, "profile", "list"),
        ("-p", ESCAPE, "collect"),
        ("--log-level", "debug", "print", name),
        (ESCAPE,),
        ("print", f"--{ESCAPE}"),
    ):
        done = retis(*arguments)
        assert "\x1b" not in done.stderr and "\x07" not in done.stderr, arguments
        assert "\\x1b" in done.stderr, (arguments, done.stderr)


def test_an_unknown_profile_is_an_error_that_knows_the_others() -> None:
    done = retis("-p", "generci", "collect")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: Profile with name generci not found\nHint: did you mean generic?\n",
    )


def test_an_option_given_by_the_profile_and_by_the_user_is_told_so(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("version: 1.0\nname: p\ncollect:\n  - args: {cmd: x}\n")
    done = retis("-p", profile, "collect", "--cmd", "y")
    assert done.returncode == 2
    assert "the argument '--cmd' cannot be used multiple times (a profile may give it, too)" in done.stderr
