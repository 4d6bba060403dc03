"""What tests of post-processing share: event files from a few values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retis_py.events import source
from retis_py.process import team
from tests.support.oracle import STARTUP

Json = dict[str, Any]
Write = Callable[..., Path]
Share = Callable[[int, int], None]


def dumps(value: Any) -> str:
    """JSON as upstream writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(event, event, ...)`` gives the path of a file with these events after a startup event."""

    def write(*events: Json, name: str = "events.data", startup: Json = STARTUP) -> Path:
        path = tmp_path / name
        path.write_text("".join(dumps(event) + "\n" for event in (startup, *events)))
        return path

    return write


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Share:
    """``share(workers, block)`` has *workers* processes read files of any size, *block* bytes at a time."""

    def share(workers: int, block: int) -> None:
        monkeypatch.setattr(team, "_WORTH_IT", 0)
        monkeypatch.setattr(team, "cores", lambda: workers)
        monkeypatch.setattr(source, "BLOCK", block)

    return share
