"""Writing event files: style, complete lines, rotation."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retis_py.collectors import Event
from retis_py.errors import OutputError, UsageError
from retis_py.events import writer as writer_module
from retis_py.events.core import CommonSection, Machine, SplitFile, StartupSection, Task, TimeSpec
from retis_py.events.file import EventWriter, open_events
from retis_py.events.rotate import RotatingWriter, parse_limit


def event(timestamp: int = 2, comm: str | None = None) -> Any:
    return Event(common=CommonSection(timestamp, task=None if comm is None else Task(1, 2, comm)))


def startup(split: SplitFile | None = None) -> Any:
    section = StartupSection("v1.7.0", "retis", TimeSpec(1, 2), Machine("a", "b", "c"), split)
    return Event(common=CommonSection(1), startup=section)


def test_json_is_compact_with_upstreams_escapes(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "f") as writer:
        writer.write(event(2**64 - 1, '/\u00e9\x7f\x01\b\t"\\'))
    text = r'{"common":{"timestamp":18446744073709551615,"task":{"pid":1,"tgid":2,"comm":"/é' + "\x7f"
    assert (tmp_path / "f").read_text() == text + r'\u0001\b\t\"\\"}}}' + "\n"


def test_series_is_one_line(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "f") as writer:
        writer.write([startup()])
        writer.write([event(), event()])
    assert [len(series) for series in open_events(tmp_path / "f", Event)] == [1, 2]


def test_lines_are_held_until_flushed_or_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_BUFFER", 100)
    path = tmp_path / "f"
    writer = EventWriter(path)
    writer.write(event())
    assert path.stat().st_size == 0
    writer.flush()
    size = path.stat().st_size
    assert size == writer.size > 0
    for _ in range(10):
        writer.write(event())
    assert path.stat().st_size > size
    writer.close()
    writer.close()
    assert path.stat().st_size == 11 * size


def test_open_file_is_not_closed() -> None:
    out = io.BytesIO()
    with EventWriter(out) as writer:
        writer.write(event())
    assert out.getvalue() == b'{"common":{"timestamp":2}}\n'


def test_unwritable_path_is_named() -> None:
    with pytest.raises(OutputError, match="Could not create or open '/none/f'") as caught:
        EventWriter("/none/f")
    assert caught.value.hint == "No such file or directory"


class _FullDisk(io.FileIO):
    """Takes *room* bytes, a few at a time, then reports a full disk."""

    room = 100

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = super().write(bytes(data[: min(self.room, 7)]))
        self.room -= taken
        return taken


def test_full_disk_is_reported_and_leaves_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with _FullDisk(str(path), "w") as file:
        writer = EventWriter(file)
        for _ in range(10):
            writer.write(event())
        with pytest.raises(OutputError, match=f"cannot write to {path}: No space left on device"):
            writer.flush()
    assert path.read_bytes() == b'{"common":{"timestamp":2}}\n' * 3


def test_dead_pipe_is_reported() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as file:
        writer = EventWriter(file)
        writer.write(event())
        with pytest.raises(OutputError, match="Broken pipe"):
            writer.flush()


@pytest.mark.parametrize(("text", "limit"), [("10MB", 10**7), ("2GB", 2 * 10**9), ("x10MBy", 10**7)])
def test_rotation_limit(text: str, limit: int) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10", r"Invalid limit format \(10\)"),
        ("KB", "Invalid limit format"),
        ("0MB", r"Invalid limit value \(0\)"),
    ],
)
def test_bad_rotation_limit(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_limit(text)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("retis_py")
    before = logger.propagate
    logger.propagate = True
    caplog.set_level(logging.INFO, logger="retis_py")
    yield caplog
    logger.propagate = before


def rotate(path: Path, events: int, keep: int | None = None) -> list[str]:
    writer = RotatingWriter(path, 600, startup, keep)
    assert path.exists()
    for index in range(events):
        writer.write(event(index))
    writer.close()
    writer.close()
    return sorted(os.listdir(path.parent))


def test_rotation_numbers_files_and_leaves_no_bare_name(
    tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    assert rotate(tmp_path / "r", 60) == [f"r.{index}" for index in range(5)]
    assert all(file.stat().st_size <= 600 for file in tmp_path.iterdir())
    assert "Wrote 5 event file(s)" in logged.text
    events = list(open_events(tmp_path / "r.0", Event, rotate=True))
    assert [item.startup.split_file.id for item in events if item.startup] == [0, 1, 2, 3, 4]
    assert [item.common.timestamp for item in events if not item.startup] == list(range(60))


def test_rotation_keeps_the_last_files(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    assert rotate(tmp_path / "r", 60, keep=3) == ["r.0", "r.1", "r.2"]
    assert "Wrote 5 event file(s), kept 3" in logged.text
    events = list(open_events(tmp_path / "r.0", Event, rotate=True))
    assert [item.startup.split_file.id for item in events if item.startup] == [2, 3, 4]
    assert events[-1].common.timestamp == 59


def test_line_beyond_the_limit_is_written_whole(tmp_path: Path) -> None:
    with RotatingWriter(tmp_path / "r", 300, startup) as writer:
        writer.write(event(1, "x" * 1000))
        writer.write(event(2))
    assert sorted(os.listdir(tmp_path)) == ["r.0", "r.1"]
    assert len((tmp_path / "r.0").read_bytes().splitlines()[1]) > 1000
