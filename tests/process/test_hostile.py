"""Files that are not what they seem: commands end with an error that names the place, never with another."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retis_py.collectors import Event
from retis_py.errors import RetisError
from retis_py.events.file import EventReader
from retis_py.process.pcap import export
from retis_py.process.sort import SeriesPrinter, SeriesWriter, SortEvent, sort_file
from retis_py.process.stats import count_file, render
from tests.process.conftest import dumps
from tests.support.oracle import STARTUP
from tests.support.sections import events as generated

LINES = [dumps(event).encode() for event in generated(31, 300)]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _pcap(path: Path) -> None:
    report = export(str(path), io.BytesIO)
    if report.error is not None:
        raise report.error


def _pcap_of_a_probe(path: Path) -> None:
    report = export(str(path), io.BytesIO, ("kprobe", "x"))
    if report.error is not None:
        raise report.error


def _stats(path: Path) -> None:
    parts, error = count_file(str(path))
    "".join(render(parts)).encode()
    if error is not None:
        raise error


def _sort_out(path: Path) -> None:
    with SeriesWriter(str(path.with_suffix(".out"))) as writer:
        sort_file(EventReader(path, SortEvent), writer.write, 5)
    for line in path.with_suffix(".out").read_bytes().splitlines():
        json.loads(line)


def _sort_print(path: Path) -> None:
    from retis_py.events.section import Style

    with SeriesPrinter(io.BytesIO(), Style(utc=True, link_layer=True)) as printer:
        sort_file(EventReader(path, Event), printer.write, 5)


COMMANDS: list[Callable[[Path], None]] = [_pcap, _pcap_of_a_probe, _stats, _sort_out, _sort_print]


def run_all(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.data"
        path.write_bytes(content)
        for command in COMMANDS:
            try:
                command(path)
            except RetisError as error:
                assert str(error)


@QUICK
@given(st.data())
def test_bytes_changed_anywhere(data: Any) -> None:
    lines = data.draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=4))
    content = bytearray(b"\n".join([dumps(STARTUP).encode(), *lines, b""]))
    start = len(dumps(STARTUP)) if data.draw(st.booleans()) else 0
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    run_all(bytes(content))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(st.data())
def test_values_of_any_type_in_any_place(data: Any) -> None:
    event = json.loads(data.draw(st.sampled_from(LINES)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = event
        key = data.draw(st.sampled_from(sorted(place)))
        while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        place[key] = data.draw(_VALUES)
    run_all(b"\n".join([dumps(STARTUP).encode(), dumps(event).encode(), b""]))


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"common":{"timestamp":' + b"9" * 5000 + b"}}",
        b'{"common":{"timestamp":1},"packet":{"len":1,"capture_len":1,"data":"' + b"A" * 400_000 + b'"}}',
        b'{"common":{"timestamp":1},"kernel":{"symbol":"' + b"x" * 70_000 + b'","probe_type":"kprobe"},"packet":null}',
        b'{"common":{"timestamp":1e400}}',
        b'{"common":{"timestamp":1},"startup":null,"ovs":null,"skb-tracking":null,"kernel":null}',
        b'{"common":null,"kernel":null,"startup":null}',
        b"\xff",
        b'{"common":{"timestamp":1},"nft":"\xff"}',
        b"",
        b"  ",
        b"null",
        b"{}{}",
    ],
)
def test_odd_lines(line: bytes) -> None:
    run_all(dumps(STARTUP).encode() + b"\n" + line + b"\n" + LINES[0] + b"\n")


def test_a_line_that_does_not_end_is_refused_before_memory_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    with path.open("wb") as file:
        file.write(dumps(STARTUP).encode() + b'\n{"a":"')
        file.truncate(40 << 20)  # zeros
    for command in COMMANDS:
        with pytest.raises(RetisError, match="line 2"):
            command(path)


_TIME = b'{"common":{"timestamp":%d},"kernel":{"symbol":"a","probe_type":"b"}}'
_HEAD = b'{"common":{"timestamp":1},"skb-tracking":{"orig_head":%d,"timestamp":2,"skb":3}}'


@pytest.mark.parametrize(
    ("command", "line"),
    [(_stats, _TIME), (_sort_out, _TIME), (_sort_out, _HEAD), (_sort_print, _TIME), (_sort_print, _HEAD)],
)
def test_numbers_beyond_64_bits_are_refused(tmp_path: Path, line: bytes, command: Callable[[Path], None]) -> None:
    path = tmp_path / "events.data"
    path.write_bytes(dumps(STARTUP).encode() + b"\n" + line % ((1 << 64) - 1) + b"\n")
    command(path)
    path.write_bytes(path.read_bytes() + line % (1 << 64) + b"\n")
    with pytest.raises(RetisError, match="line 3"):
        command(path)
