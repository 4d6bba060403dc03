"""What becomes of tests whose virtual machine dies: `tests.lab.plugin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab import plugin
from tests.lab.boot import LabError

# as a 6.12 kernel said it under QEMU, and how one dies of itself
OF_THE_EMULATOR = "[ 1283.822307] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n"
OF_ITSELF = "[  101.100000] BUG: kernel NULL pointer dereference, address: 0000000000000010\n"

Machine = Callable[..., list[list[str]]]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """machine(console, finished...): one that runs so many tests at each boot, reports the next as begun, and dies with
    that on its console; answers with the tests each boot was given."""

    def make(console: str, *finished: int) -> list[list[str]]:
        boots: list[list[str]] = []

        def boot(_kernel: Any, command: list[str], _timeout: float, _output: Any) -> None:
            tests = [word for word in command if "::" in word]
            count = finished[len(boots)]
            boots.append(tests)
            for old in tmp_path.iterdir():
                old.unlink()
            path = next(word.partition("=")[2] for word in command if word.startswith(plugin.REPORTS_VARIABLE))
            reports = [
                {"$report_type": "TestReport", "nodeid": test, "when": when, "boot": len(boots)}
                for number, test in enumerate(tests[: count + 1])
                for when in (("setup", "call", "teardown") if number < count else ("setup",))
            ]
            Path(path).write_text("".join(json.dumps(report) + "\n" for report in reports))
            if count < len(tests):
                (tmp_path / "console.log").write_text(console)
                raise LabError("the guest died")

        monkeypatch.setattr(plugin, "boot", boot)
        monkeypatch.setattr(plugin, "fetch", lambda kernel: kernel)
        monkeypatch.setattr(plugin, "share_of", lambda kernel: tmp_path)
        return boots

    return make


TESTS = [f"tests/kernel/test_x.py::test_{number}" for number in range(5)]


def _whens(suite: plugin.Suite) -> list[list[tuple[str, int]]]:
    return [[(report["when"], report["boot"]) for report in suite.reports(test)] for test in TESTS]


def _all(boot: int) -> list[tuple[str, int]]:
    return [("setup", boot), ("call", boot), ("teardown", boot)]


def test_tests_that_a_crash_of_the_emulator_left_run_in_another_boot(machine: Machine) -> None:
    boots = machine(OF_THE_EMULATOR, 2, 3)
    assert _whens(plugin.Suite("7.2", TESTS)) == [_all(1), _all(1), _all(2), _all(2), _all(2)]
    assert boots == [TESTS, TESTS[2:]]


def test_tests_that_a_crash_of_the_kernel_left_have_failed(machine: Machine) -> None:
    boots = machine(OF_ITSELF, 2)
    suite = plugin.Suite("7.2", TESTS)
    assert _whens(suite) == [_all(1), _all(1), [("setup", 1)], [], []]
    assert suite.error == "the guest died"
    assert boots == [TESTS]


def test_kernel_is_not_booted_for_ever(machine: Machine) -> None:
    boots = machine(OF_THE_EMULATOR, 0, 1, 0)
    suite = plugin.Suite("7.2", TESTS)
    assert _whens(suite)[:2] == [_all(2), [("setup", 3)]]
    assert suite.error == "the guest died"
    assert len(boots) == plugin.ATTEMPTS
