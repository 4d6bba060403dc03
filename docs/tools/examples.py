"""Examples in README and docs are run, and what they print is what is shown.

Every fenced block is one of `KINDS`, which its language says, or a comment in front of it.

In a fenced ``console`` block, lines that begin with ``$ `` are commands and the others what they printed. Blocks are of
two kinds:

- plain ones work on the event files of ``docs/data`` and are run anywhere; they must match to the byte;
- those after ``<!-- lab -->`` collect live traffic between two namespaces (`SETUP`), those after ``<!-- kprobes -->``
  with probes on functions. They are recorded in the lab; a test compares what is the same on every run: everything but
  numbers (`shape`).

Blocks after ``<!-- run: checkout -->`` (for the lab: ``<!-- lab: run -->``, ``<!-- kprobes: run -->``) show commands
without what they print: each line is run and must succeed; a collection that would go on is ended when its probes are
attached. What cannot be run at all says why: ``<!-- not run: REASON -->``.

``python -m docs.tools.examples`` writes the plain ones again. The others:

    python -m tests.lab.boot 6.12 -- .venv/bin/python -m docs.tools.examples lab
    python -m docs.tools.examples take .cache/lab/6.12/docs
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "KINDS",
    "Block",
    "Fence",
    "blocks",
    "command_lines",
    "execute",
    "fences",
    "pages",
    "plain_text",
    "run_line",
    "shape",
]

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs" / "data"
_FENCE = re.compile(r"^(?P<lab><!-- (?:lab|kprobes) -->\n)?```console\n(?P<body>.*?)^```$", re.M | re.S)
#: two namespaces, ``near`` with 10.0.42.1 and ``far`` with 10.0.42.2; nothing listens in ``far`` but a web server
SETUP = """
set -e
for ns in near far; do
    ip netns add $ns
    ip -n $ns link set lo up
    ip netns exec $ns sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
ip -n near link add eth0 type veth peer name eth0 netns far
ip -n near address add 10.0.42.1/24 dev eth0
ip -n far address add 10.0.42.2/24 dev eth0
ip -n near link set eth0 up
ip -n far link set eth0 up
ip netns exec near ping -q -c 1 10.0.42.2
ip netns exec far nft -f - <<END
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat
        tcp dport 8080 redirect to :443
    }
}
table inet filter {
    chain input {
        type filter hook input priority filter
        udp dport 5353 drop
    }
}
END
"""
TEAR_DOWN = "ip netns del near; ip netns del far"


class Block(NamedTuple):
    """A fenced block: where it is, and its commands with what is shown of each."""

    page: Path
    line: int
    lab: bool
    #: needs a kernel with kprobes
    kprobes: bool
    commands: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


#: what a fenced block may be
KINDS = (
    *("console", "lab", "run in the checkout", "run in the lab", "not run"),
    *("python", "sql", "yaml", "nft", "generated"),
)
_ANY = re.compile(r"^(?:<!-- (?P<marker>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
_MARKERS = {
    "run: checkout": "run in the checkout",
    "lab": "lab",
    "kprobes": "lab",
    "lab: run": "run in the lab",
    "kprobes: run": "run in the lab",
}


class Fence(NamedTuple):
    """A fenced block, whatever is in it."""

    page: Path
    line: int
    marker: str
    language: str
    body: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def kprobes(self) -> bool:
        """Needs a kernel with kprobes."""
        return self.marker.startswith("kprobes")

    @property
    def kind(self) -> str | None:
        """One of `KINDS`; None for a block of which nobody knows what to do with it."""
        if self.marker.startswith("not run: "):
            return "not run"
        if self.page.parent.name == "reference":
            return "generated"
        kind = _MARKERS.get(self.marker, self.language)
        runs = self.language == ("console" if kind in ("console", "lab") else "sh") or kind == self.language
        return kind if kind in KINDS and runs else None


def fences(page: Path) -> list[Fence]:
    """All fenced blocks of *page*."""
    text = page.read_text()
    return [
        Fence(page, text.count("\n", 0, match.start()) + 1, match["marker"] or "", match["language"], match["body"])
        for match in _ANY.finditer(text)
    ]


def command_lines(body: str) -> list[str]:
    """The commands of a block that shows them alone: comments left out, continued lines put together."""
    lines = (line.partition("   #")[0].strip() for line in body.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def pages() -> list[Path]:
    """README and all pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands(body: str) -> Iterator[tuple[str, str]]:
    """Commands as they are shown, which may go on in lines that begin with ``> ``, and what they printed."""
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        command, _, shown = part.partition("\n")
        while shown.startswith("> "):
            more, _, shown = shown.partition("\n")
            command = f"{command}\n{more}"
        yield command, shown


def blocks(page: Path) -> list[Block]:
    """The ``console`` blocks of *page*."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            bool(match["lab"]),
            "kprobes" in (match["lab"] or ""),
            tuple(_commands(match["body"])),
        )
        for match in _FENCE.finditer(text)
    ]


def _environment(environment: dict[str, str] | None = None) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "RETIS", "PAGER"))}
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "COLUMNS": "80",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONIOENCODING": "utf-8",
        **(environment or {}),
    }
    return {**plain, **settings}


def execute(command: str, directory: Path, environment: dict[str, str] | None = None) -> str:
    """What *command* prints, stderr with stdout, on 80 columns; ``sudo`` is left out."""
    done = subprocess.run(
        ["bash", "-c", re.sub(r"^> |\bsudo ", "", command, flags=re.M)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=_environment(environment),
        timeout=300,
    )
    return done.stdout.decode()


def run_line(command: str, directory: Path) -> tuple[int, str]:
    """Exit status and output of *command*, run in *directory*, also its home, on copies of the files of `DATA`.

    A collection is interrupted, as by Ctrl-C, once its probes are attached.
    """
    for file in DATA.iterdir():
        shutil.copy(file, directory)
    running = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command.replace("sudo ", "")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=_environment({"HOME": str(directory)}),
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    output = ""
    for line in running.stdout:
        output += line
        if "probe(s) loaded" in line and "--cmd" not in command:
            os.killpg(running.pid, signal.SIGINT)
    return running.wait(), output


def plain_text(text: str) -> str:
    """*text* as it is shown: blank lines at the end say nothing."""
    return text.rstrip("\n") + "\n" if text.strip() else ""


def shape(text: str) -> str:
    """*text* without what differs from run to run: numbers, addresses, task names, how many blanks."""
    text = re.sub(r"\[[^\]\s]+\] \d+(/\d+)? \[", "[TASK] [", text)
    text = re.sub(r"\b0x[0-9a-f]+(/\d+)?\b|\b(?=\d*[a-f])[0-9a-f]{12,}\b|\bffff[0-9a-f]+", "X", text)
    return re.sub(r" +", " ", re.sub(r"\d+", "N", text))


def _fill(page: Path, lab: bool, directory: Path) -> None:
    """Write what the commands of *page* print into it."""
    text = page.read_text()

    def run(match: re.Match[str]) -> str:
        kprobes = Path("/sys/bus/event_source/devices/kprobe").exists()
        if bool(match["lab"]) != lab or ("kprobes" in (match["lab"] or "") and not kprobes):
            return match[0]
        body = ""
        for command, _ in _commands(match["body"]):
            print(f"{page.name}: {command}", flush=True)
            body += f"$ {command}\n{plain_text(execute(command, directory))}"
        return f"{match['lab'] or ''}```console\n{body}```"

    filled = _FENCE.sub(run, text)
    if filled != text:
        page.write_text(filled)


def _take(share: Path) -> None:
    """Bring what was recorded in the lab to where it belongs."""
    for made in share.iterdir():
        if made.suffix == ".md":
            (ROOT / made.name.replace("__", "/")).write_text(made.read_text())
        elif made.suffix == ".data":
            (DATA / made.name).write_bytes(made.read_bytes())


def main() -> None:
    """Bring the examples up to date."""
    words = sys.argv[1:]
    if words[:1] == ["take"]:
        _take(Path(words[1]))
    if words[:1] != ["lab"]:
        for page in pages():
            _fill(page, False, DATA)
        return
    # the guest cannot write to the tree: pages and recordings are left in its share
    work = Path(os.environ["RETIS_PY_LAB_SHARE"]) / "docs"
    work.mkdir()
    subprocess.run(["bash", "-c", SETUP], check=True, stdout=subprocess.DEVNULL)
    for page in pages():
        if any(block.lab for block in blocks(page)):
            copy = work / page.relative_to(ROOT).as_posix().replace("/", "__")
            copy.write_text(page.read_text())
            _fill(copy, True, work)


if __name__ == "__main__":
    main()
