"""Completion, asked for as shells do, and in the shells themselves."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / ".config/retis/profiles"
    place.mkdir(parents=True)
    (place / "mine.yaml").write_text("version: 1.0\nname: mine\n")
    (place / "broken.yaml").write_text("{")
    return tmp_path


def offered(line: str, home: Path, breaks: str = "") -> list[str]:
    """What is offered at the end of *line*; nothing may be said besides."""
    done = subprocess.run(
        [sys.executable, "-m", "retis_py"],
        env={
            **os.environ,
            "HOME": str(home),
            "_RETIS_COMPLETE": "bash_complete",
            "COMP_LINE": line,
            "COMP_WORDBREAKS": breaks,
        },
        capture_output=True,
        text=True,
        cwd=home,
    )
    assert done.stderr == ""
    return [text.partition(",")[2] for text in done.stdout.splitlines() if text]


def test_commands_and_their_options(home: Path) -> None:
    assert offered("retis sta", home) == ["stats"]
    assert "--max-buffer" in offered("retis sort --", home)
    assert offered("retis print --format s", home) == ["single-line"]
    assert offered("retis profile ", home) == ["list"]


@pytest.mark.parametrize("option", ["-P", "--extra-profiles-dir"])
def test_directories_for_profiles(home: Path, option: str) -> None:
    (home / "file").write_text("")
    for shell, line, wanted in (
        ("bash", {"COMP_LINE": f"retis {option} "}, "dir,"),
        ("fish", {"COMP_LINE": f"retis {option} "}, "dir,"),
        ("zsh", {"COMP_WORDS": f"retis {option} ", "COMP_CWORD": "2"}, "dir"),
        ("elvish", {"COMP_WORDS": f"retis\n{option}\n"}, ""),
    ):
        environment = {**os.environ, "HOME": str(home), "_RETIS_COMPLETE": f"{shell}_complete", **line}
        done = subprocess.run(
            [sys.executable, "-m", "retis_py"], env=environment, capture_output=True, text=True, cwd=home
        )
        assert (done.returncode, done.stderr) == (0, "")
        if wanted:
            assert done.stdout.splitlines()[0] == wanted
        else:
            assert done.stdout.split() == []  # hidden ones are not listed
    (home / "place").mkdir()
    environment = {**os.environ, "_RETIS_COMPLETE": "elvish_complete", "COMP_WORDS": f"retis\n{option}\n"}
    done = subprocess.run([sys.executable, "-m", "retis_py"], env=environment, capture_output=True, text=True, cwd=home)
    assert done.stdout.split() == ["place/"]


def test_collectors_in_a_list_once_each(home: Path) -> None:
    assert {"auto", "skb", "skb-drop", "dev", "ns"} <= set(offered("retis collect -c ", home))
    assert offered("retis collect -c skb,skb-d", home) == ["skb,skb-drop"]
    assert "skb,skb" not in offered("retis collect -c skb,", home)
    assert offered("retis collect --skb-sections eth,g", home) == ["eth,gso"]


def test_profiles_of_the_user_and_ours(home: Path) -> None:
    assert offered("retis -p mi", home) == ["mine"]
    assert {"mine", "generic", "dropmon"} <= set(offered("retis --profile ", home))
    assert offered("retis -p mine,drop", home) == ["mine,dropmon"]


def test_probes_of_this_kernel(home: Path) -> None:
    assert {"kprobe:", "kretprobe:", "tp:"} <= set(offered("retis collect -p ", home))
    assert "tp:skb:kfree_skb" in offered("retis collect -p tp:skb:k", home)
    assert "skb:kfree_skb" in offered("retis inspect -p skb:", home)
    symbols = Path("/proc/kallsyms").read_text()
    if " ip_rcv\n" in symbols:
        assert "ip_rcv" in offered("retis collect --probe ip_r", home)
        assert "k:ip_rcv" in offered("retis collect --stack --probe k:ip_rc", home)
        assert offered("retis collect -p k:", home) == [], "tens of thousands"


def test_bash_gets_what_comes_after_the_colon_where_it_breaks_words_there(home: Path) -> None:
    assert offered("retis collect -p tp:skb:kf", home, breaks=" \t:=") == ["kfree_skb"]


def test_probes_of_the_event_file(home: Path) -> None:
    kernel = [{"symbol": "skb:kfree_skb", "probe_type": "raw_tracepoint"}, {"symbol": "ip_rcv", "probe_type": "kprobe"}]
    lines = [json.dumps({"common": {"timestamp": 1}, "kernel": section}, separators=(",", ":")) for section in kernel]
    (home / "retis.data").write_text("\n".join(lines))
    assert offered("retis pcap --probe ", home) == ["kprobe:ip_rcv", "tp:skb:kfree_skb"]


class Terminal:
    """A shell at a terminal, typed at and read from."""

    def __init__(self, command: list[str], home: Path) -> None:
        environment = {"PATH": PATH, "HOME": str(home), "TERM": "dumb", "PS1": "$ ", "LANG": "C.UTF-8"}
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.chdir(home)
            os.execvpe(command[0], command, environment)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, pattern: str, patience: float = 20) -> str:
        end = time.monotonic() + patience
        while not re.search(pattern, self.shown):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.shown!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.shown += os.read(self.fd, 65536).decode(errors="replace")
        return self.shown

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, 9)
        os.waitpid(self.child, 0)
        os.close(self.fd)


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(retis sh-complete --shell bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source <(retis sh-complete --shell zsh)"),
}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, home: Path) -> Iterator[Terminal]:
    command, setup = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    terminal = Terminal(command, home)
    try:
        terminal.type(f"{setup}; echo rea''dy\n")
        terminal.wait_for("ready")
        terminal.shown = ""
        yield terminal
    finally:
        terminal.close()


def test_a_tab_completes_in_the_shell(shell: Terminal) -> None:
    shell.type("echo A; retis insp\t")
    shell.wait_for("retis inspect ")
    shell.type("--prob\t")
    shell.wait_for("--probe ")
    shell.type("tp:skb:kfree_s\t")
    shell.wait_for(r"tp:skb:kfree_skb\b")
    shell.type("\x15echo B; retis -p mi\t")
    shell.wait_for("retis -p mine ")
    shell.type("collect -c skb,dev,skb-d\t")
    shell.wait_for("skb,dev,skb-drop")
    assert "rror" not in shell.shown and "raceback" not in shell.shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(home: Path) -> None:
    lines = ["retis sta", "retis collect -p tp:skb:kfree_s", "retis collect -c skb,skb-d", "retis -p mi"]
    asked = "; ".join(f"echo '> {line}'; complete -C '{line}'" for line in lines)
    script = f"retis sh-complete --shell fish | source; {asked}"
    environment = {"PATH": PATH, "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, text=True, env=environment, cwd=home
    )
    got = [[line.split("\t")[0] for line in part.splitlines()[1:]] for part in done.stdout.split("> ")[1:]]
    assert got == [["stats"], ["tp:skb:kfree_skb"], ["skb,skb-drop"], ["mine"]], done.stderr
