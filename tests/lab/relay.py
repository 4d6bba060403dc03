"""pytest plugin for the guest: hand every report to the host as it is made.

They go to the file ``$RETIS_PY_LAB_REPORTS``, one JSON object per line, in pytest's own serialised form;
`tests.lab.plugin` reads them on the other side.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

REPORTS_VARIABLE = "RETIS_PY_LAB_REPORTS"


class Relay:
    """Writes reports to *path*, each one visible to the host before the next test starts."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self.config = config
        self.file = path.open("w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send(report)

    def _send(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.file.write(json.dumps(data) + "\n")
        self.file.flush()


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get(REPORTS_VARIABLE)
    if path is None:
        raise pytest.UsageError(f"tests.lab.relay is for the guest of a lab: {REPORTS_VARIABLE} is not set")
    config.pluginmanager.register(Relay(config, Path(path)))
