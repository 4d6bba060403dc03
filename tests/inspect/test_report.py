"""The page on the system: what it says where something is missing, and that it says it everywhere."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retis_py.collectors import COLLECTORS
from retis_py.errors import KernelError
from retis_py.inspect import report
from retis_py.inspect.report import Answer, render, system_report

ROOT = Path(__file__).resolve().parents[2]
WANTED = [
    "kernel",
    "BTF",
    "kprobes",
    "kprobe-multi",
    "direct-reads",
    "lockdown",
    "tracefs",
    "capabilities",
    "bcc",
    "libbpf",
    "libpcap",
    "nft",
    "ovs",
]


class NoBtf:
    """A system of which nothing can be read."""

    kprobes = False
    tracefs = SimpleNamespace(functions=None, events=None)

    def config(self, option: str) -> None:
        return None

    def module_loaded(self, name: str) -> bool:
        return False

    @property
    def types(self) -> Any:
        raise KernelError("this kernel has no BTF")


def test_every_subject_is_there_and_every_no_says_what_to_do() -> None:
    answers = list(system_report(NoBtf()))  # type: ignore[arg-type]
    assert [answer.what for answer in answers] == WANTED
    assert all(answer.advice for answer in answers if answer.there is False)
    by_name = {answer.what: answer for answer in answers}
    assert by_name["BTF"].there is False and "CONFIG_DEBUG_INFO_BTF" in by_name["BTF"].advice
    assert by_name["kprobe-multi"].there is None  # cannot be told without BTF
    assert by_name["kprobes"].there is False


@pytest.mark.parametrize(
    ("mode", "there"),
    [("[none] integrity confidentiality", True), ("none [integrity] x", True), ("none x [confidentiality]", False)],
)
def test_lockdown_that_hides_memory_is_a_no(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, there: bool
) -> None:
    place = tmp_path / "lockdown"
    monkeypatch.setattr(report, "_LOCKDOWN", place)
    assert report._lockdown(NoBtf()).there is None  # type: ignore[arg-type]
    place.write_text(mode)
    monkeypatch.setattr(report.features, "lockdown", lambda: re.findall(r"\[(.*)\]", mode)[0])
    assert report._lockdown(NoBtf()).there is there  # type: ignore[arg-type]


def _fake(kprobes: bool, functions: Any = None, events: Any = None) -> Any:
    attach = {"BPF_TRACE_KPROBE_MULTI": 1}
    vmlinux = SimpleNamespace(enum=lambda name: attach, function=lambda name: [])
    tracefs = SimpleNamespace(functions=functions, events=events)
    return SimpleNamespace(kprobes=kprobes, tracefs=tracefs, types=SimpleNamespace(vmlinux=vmlinux))


@pytest.mark.parametrize(
    ("system", "there", "detail"),
    [
        (_fake(True, {"f"}, {"a:b", "a:c"}), True, "1 functions, 2 events"),
        (_fake(True, None, {"a:b"}), False, "1 events; functions are not listed: name those without '*'"),
        (_fake(False, None, {"a:b"}), True, "1 events; functions cannot be probed here"),
        (_fake(True, {"f"}, None), False, "1 functions; tracepoints are not listed: name those without '*'"),
    ],
)
def test_tracefs_lists_functions_or_events_or_both(system: Any, there: bool, detail: str) -> None:
    answer = report._tracefs(system)
    assert (answer.there, answer.detail) == (there, detail)


def test_kprobe_multi_says_nothing_of_speed_where_there_are_no_kprobes() -> None:
    assert report._kprobe_multi(_fake(True)).there is True
    answer = report._kprobe_multi(_fake(False))
    assert (answer.there, answer.detail, answer.advice) == (
        *(False, "functions cannot be probed here at all"),
        "see kprobes",
    )


def test_usdt_probes_are_found_in_a_program(tmp_path: Path) -> None:
    program = tmp_path / "x"
    program.write_bytes(b"\x7fELF" + bytes(100) + b"stapsdt\0" + bytes(10))
    assert report._has_usdt(program) is True
    program.write_bytes(b"\x7fELF")
    assert report._has_usdt(program) is False
    assert report._has_usdt(tmp_path / "none") is None


def test_advice_is_below_a_no_and_only_there() -> None:
    answers = [
        Answer("a", True, "fine", "never shown"),
        Answer("b", False, "gone", "do this"),
        Answer("c", None, "who knows"),
    ]
    assert render(iter(answers)).splitlines() == [
        "  a              yes  fine",
        "  b              no   gone",
        "                      -> do this",
        "  c              ?    who knows",
    ]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_page_fits(columns: int) -> None:
    text = render(system_report(NoBtf()), columns)  # type: ignore[arg-type]
    assert [line for line in text.splitlines() if len(line) > columns and " " in line.strip()] == []


def retis(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retis_py", *arguments]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 60, "cwd": ROOT, **options})


NOBODY: dict[str, Any] = {"user": pwd.getpwnam("nobody").pw_uid, "extra_groups": []} if os.geteuid() == 0 else {}


def test_report_works_without_root_and_names_what_is_missing() -> None:
    done = retis("inspect", "--system", **NOBODY)
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(re.findall(r"^  ([\w-]+) +(yes|no|\?) ", done.stdout, re.M))
    assert set(WANTED) | {kind.name for kind in COLLECTORS} == set(rows)
    assert rows["capabilities"] == "no"
    assert "missing: CAP_SYS_ADMIN" in done.stdout and "-> run retis collect with sudo" in done.stdout


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="kernel without BTF")
def test_probes_are_listed_without_root() -> None:
    done = retis("inspect", "-p", "tp:*:kfree_skb", **NOBODY)
    assert done.returncode == 0
    assert re.fullmatch(r"tp:[\w*]+:kfree_skb  struct sk_buff \*\w*(, .*)?\n", done.stdout)
    assert "tracefs cannot be read" in done.stderr
    assert re.fullmatch(r"tp:[\w*]+:kfree_skb\n", retis("inspect", "--names", "-p", "tp:*:kfree_skb", **NOBODY).stdout)


def test_collectors_alone() -> None:
    done = retis("inspect", "--collectors")
    assert done.stdout.startswith("Collectors\n  skb-tracking ")


def test_a_configuration_that_was_named_must_be_readable() -> None:
    done = retis("inspect", "--system", "--kconf", "/nonexistent")
    assert (done.returncode, done.stderr) == (1, "Error: Could not read /nonexistent: No such file or directory\n")


def test_an_error_of_the_system_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Locked(NoBtf):
        @property
        def types(self) -> Any:
            raise PermissionError(13, "Permission denied", "/sys/kernel/btf")

        def module_loaded(self, name: str) -> bool:
            raise PermissionError(13, "Permission denied", "/proc/modules")

    page = render(system_report(Locked()), 200) + render(report.collectors(Locked()), 200)  # type: ignore[arg-type]
    assert "Errno" not in page
    assert "kprobe-multi   ?    not known: /sys/kernel/btf: Permission denied" in page


@pytest.mark.skipif(not Path("/sys/kernel/btf/vmlinux").exists(), reason="kernel without BTF")
@pytest.mark.parametrize("arguments", [("-p", "tp:*:kfree_skb"), ("--system",), ("--collectors",)])
def test_a_debugfs_that_may_not_be_entered_is_no_error(arguments: tuple[str, ...]) -> None:
    """As for users on a kernel without the PMU of kprobes."""
    code = (
        "import errno, os, sys\n"
        "stat = os.stat\n"
        "def refuse(path, *rest, **options):\n"
        "    if str(path).startswith(('/sys/kernel/debug/', '/sys/kernel/security/')):\n"
        "        raise PermissionError(errno.EACCES, 'Permission denied', path)\n"
        "    if str(path).startswith('/sys/bus/event_source/devices/kprobe'):\n"
        "        raise FileNotFoundError(errno.ENOENT, 'No such file', path)\n"
        "    return stat(path, *rest, **options)\n"
        "os.stat = refuse\n"
        "from retis_py.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "inspect", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "Traceback" in done.stderr, "Errno" in done.stdout) == (0, False, False), done.stderr
