"""What tests of post-processing share: event files from a few values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import STARTUP

Json = dict[str, Any]
Write = Callable[..., Path]


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
