"""pytest plugin for the host: ``--lab 6.1,7.2`` runs the tests of ``tests/kernel`` in those kernels.

Each selected kernel test becomes one test per kernel, ``test_name[7.2]``. The first test of a kernel boots
it and starts the whole selection inside, in one go; reports come back while it runs and count as if the
tests had run here, so that one pytest run, with one closing line, covers everything. A guest that dies
fails the tests it did not get to, with the end of its console; one that dies of the emulator is booted again
for them. Tests marked ``one_kernel`` run in the last of the kernels only, and not at all where `tests.native`
runs them on a kernel that can be traced.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.lab.boot import REPOSITORY, LabError, boot, share_of
from tests.lab.kernels import KERNELS, FetchError, fetch
from tests.lab.relay import REPORTS_VARIABLE
from tests.support.tracing import why_no_tracepoints

KERNEL_TESTS = REPOSITORY / "tests" / "kernel"
NATIVE_TESTS = REPOSITORY / "tests" / "native"
#: boots of one kernel, where each but the last dies of the emulator
ATTEMPTS = 3
#: seconds for one boot and the whole kernel suite, under emulation
TIMEOUT = float(os.environ.get("RETIS_PY_LAB_TIMEOUT", "3600"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lab",
        metavar="KERNELS",
        default="",
        help=f"run tests/kernel in virtual machines with these kernels (of {','.join(KERNELS)})",
    )


def pytest_configure(config: pytest.Config) -> None:
    unknown = [name for name in _kernels(config) if name not in KERNELS]
    if unknown:
        raise pytest.UsageError(f"--lab: unknown kernel {unknown[0]}: choose from {', '.join(KERNELS)}")


def _kernels(config: pytest.Config) -> list[str]:
    return [name for name in config.getoption("--lab").split(",") if name]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Replace kernel tests, after -k and -m have chosen among them; the lab comes last, kernel by kernel."""
    kernels = _kernels(config)
    inside = [item for item in items if KERNEL_TESTS in item.path.parents]
    if not kernels or not inside:
        return
    items[:] = [item for item in items if item not in inside]
    native = [item for item in items if NATIVE_TESTS in item.path.parents]
    done = {item.name for item in native} if native and why_no_tracepoints() is None else set()
    for name in kernels:
        chosen = [
            item
            for item in inside
            if not item.get_closest_marker("one_kernel") or (name == kernels[-1] and item.name not in done)
        ]
        suite = Suite(name, [item.nodeid for item in chosen])
        items += [LabItem.make(item, suite) for item in chosen]


class Suite:
    """The kernel tests in one kernel: boots it when the first report is asked for."""

    def __init__(self, kernel: str, nodeids: list[str]) -> None:
        self.kernel = kernel
        self.nodeids = nodeids
        self.output = io.BytesIO()
        self.error = ""
        self._machine = threading.Thread(target=self._run, daemon=True)
        #: of its own name: another boot's reports may still be in the directory while this one waits
        self._path = share_of(kernel) / f"reports-{os.getpid()}"
        self._reports: dict[str, list[dict]] = {}
        self._position = 0
        self._lock = threading.Lock()

    def reports(self, nodeid: str) -> list[dict]:
        """Serialised reports of the test *nodeid* (setup, call, teardown): waits for the last of them."""
        if self._machine.ident is None:
            self._machine.start()
        while True:
            alive = self._machine.is_alive()
            self._read()
            if not alive or self._complete(nodeid):
                return self._reports.get(nodeid, [])
            time.sleep(0.2)

    def _run(self) -> None:
        python = REPOSITORY / ".venv" / "bin" / "python"
        command = ["env", "RETIS_PY_KERNEL_TESTS=1", f"{REPORTS_VARIABLE}={self._path}", str(python)]
        command += ["-m", "pytest", "-p", "tests.lab.relay", "-p", "no:cacheprovider"]
        command += ["-o", "faulthandler_timeout=300"]
        try:
            if any("test_package.py" in nodeid for nodeid in self.nodeids):
                # here, where it takes seconds; the module of that name needs none of the tests' packages
                build = [str(python), "-m", "packages.deb", str(REPOSITORY / ".cache" / "deb")]
                subprocess.run(build, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
            kernel = fetch(self.kernel)
            for attempt in range(ATTEMPTS):
                left = self._left(attempt)
                if not left:
                    return
                try:
                    boot(kernel, [*command, *left], TIMEOUT, self.output)
                    return
                except LabError as error:
                    self.error = str(error)
                    if not _died_of_emulation(self.kernel):
                        return
                    share = share_of(self.kernel)
                    shutil.copy(share / "console.log", share.with_name(f"{self.kernel}-crash-{attempt + 1}.log"))
        except (FetchError, LabError, subprocess.CalledProcessError) as error:
            self.error = str(error)

    def _complete(self, nodeid: str) -> bool:
        reports = self._reports.get(nodeid, [])
        return bool(reports) and reports[-1]["when"] == "teardown"

    def _left(self, attempt: int) -> list[str]:
        """The tests still to be run; says so where some have been."""
        self._read()
        left = [nodeid for nodeid in self.nodeids if not self._complete(nodeid)]
        if attempt:
            said = "crashed while it patched its own code, as the emulator's sometimes do"
            print(f"\nlab: kernel {self.kernel} {said}: going on with {len(left)} tests", file=sys.stderr, flush=True)
        with self._lock:  # the directory is emptied at every boot
            self._path.unlink(missing_ok=True)
            self._position = 0
            for nodeid in left:
                self._reports.pop(nodeid, None)
            self.error = ""
        return left

    def _read(self) -> None:
        """Take in the complete lines the guest has written since the last time."""
        with self._lock:
            self._read_lines()

    def _read_lines(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            text, newline, _ = file.read().rpartition(b"\n")
        self._position += len(text + newline)
        for line in text.splitlines():
            report = json.loads(line)
            if report["$report_type"] == "CollectReport":
                self.error = f"kernel tests cannot be collected in the guest:\n{report['longrepr']}"
            else:
                self._reports.setdefault(report["nodeid"], []).append(report)


def _died_of_emulation(kernel: str) -> bool:
    """Did a breakpoint that was taken away long ago end it? The kernel changes its code (static keys, ftrace, kprobes)
    by way of a breakpoint; QEMU's other virtual CPU may go on with what it had translated before. On a real machine
    that cannot be (Intel SDM vol. 3, 9.1.3; arch/x86/kernel/alternative.c, text_poke_bp_batch())."""
    console = share_of(kernel) / "console.log"
    return console.exists() and re.search(rb"\bint3: 0000 \[#1\]", console.read_bytes()) is not None


class LabItem(pytest.Item):
    """One kernel test in one kernel: runs nothing itself, passes on what the guest reports."""

    suite: Suite
    inside: str

    @classmethod
    def make(cls, item: pytest.Item, suite: Suite) -> LabItem:
        lab_item: LabItem = cls.from_parent(item.parent, name=f"{item.name}[{suite.kernel}]")
        lab_item.suite = suite
        lab_item.inside = item.nodeid
        return lab_item

    def runtest(self) -> None:
        raise NotImplementedError("runs in the guest")

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if not isinstance(item, LabItem):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    complete = False
    for data in item.suite.reports(item.inside):
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        report.nodeid, report.location = item.nodeid, item.location
        complete = report.when == "teardown"
        item.ihook.pytest_runtest_logreport(report=report)
    if not complete:
        item.ihook.pytest_runtest_logreport(report=_not_run(item))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _not_run(item: LabItem) -> pytest.TestReport:
    printed = item.suite.output.getvalue().decode(errors="replace")[-4000:]
    reason = item.suite.error or f"kernel {item.suite.kernel} ended without a report of this test"
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"{reason}\n\noutput of the guest:\n{printed}",
        when="call",
    )
