"""Inputs that once broke something, or would have: tests/data/corpus, see `tests.support.fuzz`.

A file has a ``#`` line saying what broke, one with what becomes of the input (a JSON string, which begins or is
contained in what is said of it; a list of them where Pythons differ), then the input: an event line (``hex:`` where
it is no text), or the hex digits of a raw event or a frame. A raw event's sections may be named, on a third line:
their ids move.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retis_py.events.wire import HeaderRaw
from tests.support.fuzz import check_frame, check_line, check_raw
from tests.support.recorded import with_sections

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"


def load(kind: str) -> list[object]:
    return [pytest.param(path, id=path.stem) for path in sorted((CORPUS / kind).glob("*.txt"))]


def parts(path: Path) -> tuple[Any, str]:
    """What must be said of the input, one of some if it is a list, and the input."""
    why, says, data = path.read_text().split("\n", 2)
    assert why.startswith("# ") and says.startswith("# says: "), path
    return json.loads(says[len("# says: ") :]), data.removesuffix("\n")


@pytest.mark.parametrize("path", load("line"))
def test_event_line(path: Path, tmp_path: Path) -> None:
    expected, data = parts(path)
    line = bytes.fromhex(data[4:]) if data.startswith("hex:") else data.encode()
    said = check_line(line, tmp_path).replace(str(tmp_path / "events.data"), "FILE")
    if expected:
        assert any(words in said for words in ([expected] if isinstance(expected, str) else expected))
    else:  # left out
        assert said.count("collected with") == 2


@pytest.mark.parametrize("path", load("raw"))
def test_raw_event(path: Path) -> None:
    expected, data = parts(path)
    raw = bytes.fromhex("".join(line for line in data.splitlines() if not line.startswith("#")))
    if data.startswith("# sections: "):
        raw = with_sections(raw, data.splitlines()[0].split()[2:])
        expected = expected.replace("SECTIONS", f"{HeaderRaw.from_buffer_copy(raw).sections:#x}")
    assert check_raw(raw).startswith(expected)


@pytest.mark.parametrize("path", load("frame"))
def test_frame(path: Path) -> None:
    expected, data = parts(path)
    assert check_frame(bytes.fromhex(data)) == expected
