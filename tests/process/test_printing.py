"""print: look-up of section bytes makes the text that sections make; several processes keep the order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retis_py.collectors import Event
from retis_py.display import TextRenderer
from retis_py.errors import EventFileError
from retis_py.events.file import TruncatedFile, open_events
from retis_py.events.section import PLAIN, Style
from retis_py.process.printing import print_events
from tests.process.conftest import Share
from tests.support.oracle import STARTUP
from tests.support.sections import events

STYLES = [
    Style(multi_line, link_layer, utc)
    for multi_line in (True, False)
    for link_layer in (True, False)
    for utc in (True, False)
]


def lines(items: list[Any]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n" for item in items)


@pytest.fixture(scope="module")
def event_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "f"
    path.write_text(lines([STARTUP, *events(3, 3000)]))
    return path


@pytest.fixture(scope="module")
def series_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("series") / "f"
    every = events(4, 3000)
    path.write_text(lines([[STARTUP], *(every[at : at + at % 5 + 1] for at in range(0, 3000, 7))]))
    return path


@pytest.fixture(params=["alone", "together"])
def processes(request: pytest.FixtureRequest, share: Share) -> None:
    """One process, or three with much to pass on."""
    share(3 if request.param == "together" else 1, 5000)


def printed(path: Path, style: Style, stopped: Callable[[], bool] = lambda: False) -> str:
    out = path.with_name("out")
    with out.open("wb") as file:
        print_events(open_events(path, Event), style, file.fileno(), stopped)
    return out.read_text()


def plainly(path: Path, style: Style) -> str:
    """The text by sections alone."""
    reader, renderer = open_events(path, Event), TextRenderer(style)
    end = "\n\n" if style.multi_line or reader.is_sorted else "\n"
    return "".join((renderer.series(x) if reader.is_sorted else renderer.event(x)) + end for x in reader)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("style", STYLES)
def test_events_print_as_their_sections_do(event_file: Path, style: Style) -> None:
    assert printed(event_file, style) == plainly(event_file, style)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("style", STYLES)
def test_series_print_as_their_sections_do(series_file: Path, style: Style) -> None:
    assert printed(series_file, style) == plainly(series_file, style)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("bad", [1, 500, 2999])
def test_bad_line_ends_output_exactly_there(event_file: Path, tmp_path: Path, bad: int) -> None:
    good = event_file.read_text().splitlines(keepends=True)
    path = tmp_path / "f"
    path.write_text("".join([*good[:bad], '{"common":5}\n', *good[bad:]]))
    before = tmp_path / "before"
    before.write_text("".join(good[:bad]))
    with (tmp_path / "out").open("wb") as file, pytest.raises(EventFileError, match=f"line {bad + 1}: "):
        print_events(open_events(path, Event), PLAIN, file.fileno())
    assert (tmp_path / "out").read_text() == plainly(before, PLAIN)


@pytest.mark.usefixtures("processes")
def test_cut_short_file_prints_all_before(event_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(event_file.read_bytes() + b'{"common":{')
    with (
        (tmp_path / "out").open("wb") as file,
        pytest.raises(TruncatedFile, match="line 3002: truncated"),
    ):
        print_events(open_events(path, Event), PLAIN, file.fileno())
    assert (tmp_path / "out").read_text() == plainly(event_file, PLAIN)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    "line",
    [
        "",
        "{} {}",
        '{"common":{"timestamp":1}}{"common":{"timestamp":1}}\n{"common":{"timestamp":1},\n"dev":null}',
        '{"common":{"timestamp":18446744073709551616}}',
        '{"common":{"timestamp":1},"netns":{"cookie":18446744073709551616,"inum":1}}',
        '{"common":{"timestamp":1},"kernel":5}',
        '{"common":{"timestamp":1},"packet":{"len":1,"capture_len":1,"data":"AA"}}',
    ],
)
def test_what_the_reader_refuses_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "f"
    path.write_text(lines([STARTUP]) + line + "\n" + lines([STARTUP]))
    with (tmp_path / "out").open("wb") as file, pytest.raises(EventFileError, match="line 2: "):
        print_events(open_events(path, Event), PLAIN, file.fileno())
    assert (tmp_path / "out").read_text().count("collected with") == 1


@pytest.mark.usefixtures("processes")
def test_event_without_common_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    path = tmp_path / "f"
    path.write_text(lines([STARTUP, {"dev": {"name": "a", "ifindex": 1}}, STARTUP, {}]))
    logging.getLogger("retis_py").propagate = True
    text = printed(path, PLAIN)
    assert text.count("collected with") == 2
    assert "if 1" not in text
    assert "2 event(s) without a common section not printed" in caplog.text


@pytest.mark.usefixtures("processes")
def test_null_is_none(tmp_path: Path) -> None:
    path = tmp_path / "f"
    nothing = dict.fromkeys(key for key in Event.__struct_encode_fields__ if key != "common")
    common = {"timestamp": 2, "smp_id": None, "task": None}
    path.write_text(lines([STARTUP, {"common": common, **nothing}]))
    assert printed(path, PLAIN).endswith("\n\n2\n\n")


@pytest.mark.usefixtures("processes")
def test_stop_ends_in_the_middle(event_file: Path) -> None:
    text = printed(event_file, PLAIN, stopped=lambda: True)
    whole = plainly(event_file, PLAIN)
    assert text
    assert len(text) < len(whole) / 2
    assert whole.startswith(text)


@pytest.mark.usefixtures("processes")
def test_nobody_reading_ends_it(event_file: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        with pytest.raises(BrokenPipeError):
            print_events(open_events(event_file, Event), PLAIN, write)
    finally:
        os.close(write)


def test_no_file_descriptor_or_process_is_left_behind(event_file: Path, share: Share) -> None:
    share(3, 5000)
    before = sorted(os.listdir("/proc/self/fd"))
    printed(event_file, PLAIN)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
