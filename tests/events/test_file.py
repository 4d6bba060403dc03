"""Reading event files: types, versions, split files, and what is refused, by name and line."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retis_py.collectors import Event
from retis_py.errors import EventFileError
from retis_py.events import source
from retis_py.events.file import EventReader, SeriesReader, TruncatedFile, open_events
from tests.support.oracle import STARTUP, data_file

HEAD = json.dumps(STARTUP)
EVENT = '{"common":{"timestamp":2}}'


def write(path: Path, *lines: str | bytes, end: bytes = b"\n") -> Path:
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + end
    )
    return path


def version(text: str) -> str:
    return json.dumps({"common": {"timestamp": 1}, "startup": {"retis_version": text}})


def read(path: Path) -> list[Any]:
    return list(open_events(path, Event))


def test_event_file_gives_events(tmp_path: Path) -> None:
    reader = open_events(write(tmp_path / "f", HEAD, EVENT), Event)
    assert isinstance(reader, EventReader)
    assert not reader.is_sorted
    assert reader.version == "v1.7.0"
    assert [event.common.timestamp for event in reader] == [1, 2]
    assert len(list(reader)) == 2  # from the start again


def test_series_file_gives_lists(tmp_path: Path) -> None:
    reader = open_events(write(tmp_path / "f", f"[{HEAD}]", f"[{EVENT},{EVENT}]"), Event)
    assert isinstance(reader, SeriesReader)
    assert [len(series) for series in reader] == [1, 2]


@pytest.mark.parametrize(
    ("name", "count"),
    [("test_events.json", 5), ("test_events_packets.json", 27), ("test_events_sorted.json", 4)],
)
def test_upstreams_files_have_so_many_lines(name: str, count: int) -> None:
    assert len(read(data_file(name))) == count


def test_reader_refuses_the_other_type_of_file(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match="Cannot create a EventReader from a sorted file"):
        EventReader(write(tmp_path / "s", f"[{HEAD}]"), Event)
    with pytest.raises(EventFileError, match="Cannot create a SeriesReader from an unsorted file"):
        SeriesReader(write(tmp_path / "e", HEAD), Event)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"", "File is empty"),
        (b"garbage\n", 'Failed to parse event file: Error("expected value", line: 1, column: 1)'),
        (b"5\n", "File contains invalid json data"),
        (b'"a"\n', "File contains invalid json data"),
        (b"[]\n", "Invalid or missing events"),
        (b"{}\n", "Cannot find version in startup event"),
        (b"[5]\n", "Cannot find version in startup event"),
        (b'{"startup":{"retis_version":5}}\n', "Cannot find version in startup event"),
        (b'{"startup":null}\n', "Cannot find version in startup event"),
        (version("0.1.0").encode(), "Unsupported Retis version (0.1.0)"),
        (version("unspec").encode(), "unexpected character 'u' while parsing major version number"),
        (b'{"startup":"\xff"}\n', "line 1: stream did not contain valid UTF-8"),
    ],
)
def test_first_line_says_why_a_file_is_none(tmp_path: Path, first: bytes, message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(first)
    with pytest.raises(EventFileError, match=re.escape(f"{path}: {message}")):
        open_events(path, Event)


def test_missing_file_is_named() -> None:
    with pytest.raises(
        EventFileError, match=r"Could not open /none: No such file or directory \(os error 2\)"
    ):
        open_events("/none", Event)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"common":{"timestamp":"5"}}', "invalid type: str, expected int"),
        ('{"common":{"timestamp":5.0}}', "invalid type: float, expected int"),
        ('{"common":{"timestamp":-5}}', "invalid value: expected int >= 0"),
        (
            '{"common":{"timestamp":18446744073709551616}}',
            "invalid value: integer, expected u64 - at `$.common.timestamp`",
        ),
        ('{"common":{"timestamp":1,"smp_id":4294967296}}', "invalid value: expected int <= 4294967295"),
        ('{"kernel":{"probe_type":"kprobe"}}', "missing field `symbol`"),
        ('{"ct":{"state":"no"}}', "unknown variant `no`"),
        ('{"ovs":{"event_type":"no"}}', "unknown variant `no`"),
        ('{"packet":{"len":1,"capture_len":1,"data":"AA"}}', "expected raw packet as base64 string"),
        ("", "EOF while parsing a value"),
        ('{"common"', "EOF while parsing an object"),
        ("{} {}", "trailing characters"),
        ("[]", "invalid type: array, expected object"),
        ("5", "invalid type: int, expected object"),
        ("garbage", "invalid character"),
        (b'{"x":"\xff"}', "stream did not contain valid UTF-8"),
        ('{"x":' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_line_is_named_after_all_before_it(tmp_path: Path, line: str | bytes, message: str) -> None:
    path = write(tmp_path / "f", HEAD, EVENT, line, EVENT)
    seen = []
    with pytest.raises(EventFileError) as caught:
        for event in open_events(path, Event):
            seen.append(event)
    assert len(seen) == 2
    assert str(caught.value).startswith(f"{path}: line 3: ")
    assert message in str(caught.value)
    assert not isinstance(caught.value, TruncatedFile)


def test_line_number_is_right_far_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK", 100)
    path = write(tmp_path / "f", HEAD, *[EVENT] * 500, "x", EVENT)
    with pytest.raises(EventFileError, match="line 502: "):
        read(path)


@pytest.mark.parametrize("tail", [b'{"common":{"times', b'{"common":{"x":"\xc3'])
def test_cut_short_file_gives_everything_before(tmp_path: Path, tail: bytes) -> None:
    path = write(tmp_path / "f", HEAD, EVENT, tail, end=b"")
    seen = []
    with pytest.raises(TruncatedFile, match=f"^{path}: line 3: truncated"):
        for event in open_events(path, Event):
            seen.append(event)
    assert len(seen) == 2


def test_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "f", HEAD, EVENT, end=b""))) == 2


def test_unknown_sections_fields_and_null_are_ignored(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f",
        HEAD,
        '{"new":{"a":[1e3]},"common":{"timestamp":3,"b":1,"smp_id":null},"dev":null}',
    )
    event = read(path)[1]
    assert event.common.timestamp == 3
    assert event.dev is None


@pytest.mark.parametrize(
    "proto", [{}, {"udp": {"sport": 1, "dport": 2}, "tcp": {"sport": 1, "dport": 2}}]
)
def test_ct_needs_one_protocol_per_direction(tmp_path: Path, proto: dict[str, Any]) -> None:
    ip = {"src": "1.1.1.1", "dst": "2.2.2.2", "version": "v4"}
    good = {"ip": ip, "proto": {"udp": {"sport": 1, "dport": 2}}}
    ct = {"state": "new", "zone_id": 0, "zone_dir": "None", "orig": good, "ct_status": 1}
    assert read(write(tmp_path / "f", HEAD, json.dumps({"ct": {**ct, "reply": good}})))
    bad = json.dumps({"ct": {**ct, "reply": {"ip": ip, "proto": proto}}})
    with pytest.raises(EventFileError, match="expected map with a single key"):
        read(write(tmp_path / "f", HEAD, bad))


@pytest.mark.parametrize("line", ["x" * 5000, '{"a":"' + "x" * 5000 + '"}'])
def test_endless_line_is_refused_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(source, "BLOCK", 128)
    monkeypatch.setattr(source, "MAX_LINE", 4096)
    for lines in ([HEAD, EVENT, line], [HEAD, EVENT, line, EVENT]):
        path = write(tmp_path / "f", *lines)
        with pytest.raises(EventFileError, match=f"^{path}: line 3: longer than"):
            read(path)
    with pytest.raises(EventFileError, match="line 1: longer than"):
        read(write(tmp_path / "f", line))


def test_pipe_is_refused(tmp_path: Path) -> None:
    end, write_end = os.pipe()
    try:
        with pytest.raises(EventFileError, match="cannot be read from a pipe"):
            open_events(f"/dev/fd/{end}", Event)
    finally:
        os.close(end)
        os.close(write_end)


def split(index: int) -> str:
    startup = dict(
        STARTUP["startup"], split_file={"id": index, "policy": {"kind": "size", "limit": 1000}}
    )
    return json.dumps({"common": {"timestamp": 1}, "startup": startup})


def test_split_files_are_read_until_one_is_missing(tmp_path: Path) -> None:
    for index in (0, 1, 2, 4):
        write(tmp_path / f"r.{index}", split(index), EVENT, end=b"" if index == 1 else b"\n")
    assert len(list(open_events(tmp_path / "r.0", Event, rotate=True))) == 6
    assert len(list(open_events(tmp_path / "r.1", Event, rotate=True))) == 4
    assert len(list(open_events(tmp_path / "r.0", Event))) == 2


def test_split_file_without_number_is_read_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "r.data", split(0), EVENT)
    logging.getLogger("retis_py").propagate = True
    assert len(list(open_events(path, Event, rotate=True))) == 2
    assert f"{path} has an invalid extension (should be a number)" in caplog.text


def test_error_in_a_later_split_file_names_it(tmp_path: Path) -> None:
    write(tmp_path / "r.0", split(0), EVENT)
    write(tmp_path / "r.1", split(1), "x")
    with pytest.raises(EventFileError, match=r"r\.1: line 2: "):
        list(open_events(tmp_path / "r.0", Event, rotate=True))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_gives_events_or_one_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f"
    for head in (b"", HEAD.encode() + b"\n", b"[" + HEAD.encode() + b"]\n"):
        path.write_bytes(head + data)
        try:
            read(path)
        except EventFileError as error:
            assert str(path) in str(error)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Event.__struct_encode_fields__, "timestamp", "symbol", "data"]), inner
        )
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(_JSON)
def test_any_json_gives_events_or_one_error(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "f", HEAD, json.dumps(value))
    for old in ("v1.7.0", "v1.6.0", "v1.5.0"):
        write(
            path,
            json.dumps({"startup": dict(STARTUP["startup"], retis_version=old, machine=None)}),
            json.dumps(value),
        )
        try:
            read(path)
        except EventFileError as error:
            assert str(path) in str(error)
