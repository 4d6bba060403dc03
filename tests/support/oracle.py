"""Upstream's own reader, in a process of its own: the judge of what text and files must be.

It lives in a virtual environment apart (`pip install retis==1.7.0.post1`): RETIS_PY_ORACLE names its python,
default `.venv-oracle/bin/python` in the repository. Where it is missing tests skip, in CI they fail.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["DATA", "STARTUP", "data_file", "oracle", "oracle_texts"]

ROOT = Path(__file__).resolve().parent.parent.parent
#: upstream's sample files, which are not part of this repository
DATA = ROOT.parent / "shared" / "data"

STARTUP = {
    "common": {"timestamp": 1},
    "startup": {
        "retis_version": "v1.7.0",
        "cmdline": "retis collect -o",
        "clock_monotonic_offset": {"sec": 1742309146, "nsec": 691042000},
        "machine": {"kernel_release": "6.8.0", "kernel_version": "#1 SMP", "hardware_name": "x86_64"},
    },
}

# `json.dump` to a file takes ten times as long as `json.dumps`.
# A reader panics where upstream has a bug: null stands for that. A bad line ends the file with an error.
_SCRIPT = """
import gc, json, sys, retis
gc.disable()
path, sort = sys.argv[1], sys.argv[2] == "series"
out = []
try:
    for item in (retis.SeriesReader if sort else retis.EventReader)(path):
        for event in item if sort else [item]:
            try:
                out.append([str(event), event.to_dict()])
            except BaseException:
                out.append([None, None])
except Exception as error:
    out.append(str(error))
sys.stdout.write(json.dumps(out))
"""


def data_file(name: str) -> Path:
    """One of upstream's sample files; skips the test where they are absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"upstream's sample files are not at {DATA}")
    return path


def oracle(path: Path, series: bool = False) -> list[Any]:
    """What upstream's reader makes of *path*: text and dictionary per event, at last an error if it met one."""
    python = os.environ.get("RETIS_PY_ORACLE", str(ROOT / ".venv-oracle/bin/python"))
    if not Path(python).exists():
        message = f"no python with upstream's reader at {python} (see RETIS_PY_ORACLE)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [python, "-c", _SCRIPT, str(path), "series" if series else "events"],
        capture_output=True,
        check=True,
        env={**os.environ, "RUST_BACKTRACE": "0", "PYTHONPATH": ""},
    )
    out: list[Any] = json.loads(done.stdout)
    return out


def oracle_texts(path: Path) -> list[str | None]:
    """Text per event; None where upstream panics. Fails if it cannot read the file."""
    out = oracle(path)
    assert all(isinstance(item, list) for item in out), out[-1]
    return [item[0] for item in out]
