"""stats: counts, times, and what is not counted."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from retis_py.process import stats
from retis_py.process.stats import count_file, render
from tests.process.conftest import Json, Share, Write, dumps
from tests.support.oracle import STARTUP, data_file


def lines(path: Path, **options: Any) -> list[str]:
    parts, error = count_file(str(path), **options)
    assert error is None
    return list(render(parts))


def event(time: int, symbol: str = "f", probe_type: str = "kprobe") -> Json:
    return {"common": {"timestamp": time}, "kernel": {"symbol": symbol, "probe_type": probe_type}}


def startup(split: int | None = None, second: int = 0) -> Json:
    made: Json = json.loads(json.dumps(STARTUP))
    made["startup"]["clock_monotonic_offset"] = {"sec": second, "nsec": 0}
    if split is not None:
        made["startup"]["split_file"] = {"id": split, "policy": {"kind": "size", "limit": 1}}
    return made


def test_upstreams_sample_gives_the_block_of_the_specification() -> None:
    assert "\n".join(lines(data_file("test_events_packets.json"))) == (
        "Retis version: v1.6.0\n"
        "Retis cmdline: unknown\n"
        "Number of events: 26\n"
        "First event at: 2025-03-18 23:12:45.860103\n"
        "Last event at: 2025-03-18 23:12:46.869715\n"
        "Probes:\n"
        "  raw_tracepoint/net:net_dev_start_xmit: 8\n"
        "  raw_tracepoint/net:netif_receive_skb: 8\n"
        "  raw_tracepoint/openvswitch:ovs_do_execute_action: 4\n"
        "  raw_tracepoint/openvswitch:ovs_dp_upcall: 2\n"
        "  kretprobe/ovs_dp_upcall: 2\n"
        "  raw_tracepoint/skb:kfree_skb: 2"
    )


def test_first_is_first_in_the_file_and_last_is_the_latest(write: Write) -> None:
    path = write(event(3_000_000_000), event(9_000_001_999), event(1), startup=startup())
    assert lines(path)[3:5] == [
        "First event at: 1970-01-01 00:00:03.000000",
        "Last event at: 1970-01-01 00:00:09.000001",
    ]


def test_series_are_counted_but_not_the_startup_event_alone(tmp_path: Path) -> None:
    path = tmp_path / "sorted"
    path.write_text("".join(dumps(series) + "\n" for series in [[STARTUP], [event(1), event(2)], [event(3)]]))
    assert lines(path)[2:4] == ["Number of series: 2", "Number of events: 3"]


def test_each_split_file_has_a_block(write: Write) -> None:
    first = write(event(1), name="x.0", startup=startup(0))
    write(event(2), event(3), name="x.1", startup=startup(1))
    got = lines(first, rotate=True)
    assert got[:5] == [
        "Retis version: v1.7.0",
        "Retis cmdline: retis collect -o",
        "",
        "Split index: 0",
        "Number of events: 1",
    ]
    second = got.index("Split index: 1")
    assert got[second - 1 : second + 2] == ["", "Split index: 1", "Number of events: 2"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sorted_set_of_split_files_is_one_block(tmp_path: Path, share: Share, workers: int) -> None:
    """Their events are mixed: those after a startup event are not those of its file."""
    share(workers, 300)
    path = tmp_path / "sorted"
    series = [[startup(0)], [event(1_000), event(9_000)], [startup(1, second=7)], [event(4_000)], [event(5_000)]]
    path.write_text("".join(dumps(item) + "\n" for item in series))
    assert lines(path) == [
        "Retis version: v1.7.0",
        "Retis cmdline: retis collect -o",
        "",
        "Split index: 0",
        "Number of series: 3",
        "Number of events: 4",
        "First event at: 1970-01-01 00:00:00.000001",
        "Last event at: 1970-01-01 00:00:00.000009",
        "Probes:",
        "  kprobe/f: 4",
    ]


@pytest.mark.parametrize("limits", [(3, 1000), (1000, 3 * len("kprobe/f"))])
def test_probes_too_many_to_tell_apart_are_counted_together(
    write: Write, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]
) -> None:
    monkeypatch.setattr(stats, "_PROBES", limits[0])
    monkeypatch.setattr(stats, "_NAMES", limits[1])
    path = write(*(event(number, f"f{number % 10}") for number in range(40)))
    assert lines(path)[2] == "Number of events: 40"
    assert lines(path)[5:] == [
        *("Probes:", "  kprobe/f0: 4", "  kprobe/f1: 4", "  kprobe/f2: 4"),
        "  others, too many to tell apart: 28",
    ]


def test_startup_events_without_end_are_counted_with_the_last(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stats, "_PARTS", 2)
    path = write(event(1), startup(1), event(2), startup(2), event(3), startup(3), event(4))
    with caplog.at_level(logging.WARNING):
        counts = [line for line in lines(path) if line.startswith("Number of events")]
    assert counts == ["Number of events: 1", "Number of events: 3"]
    assert "2 startup event(s) too many" in caplog.text


def test_events_without_probe_or_time_are_not_counted(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    user = {
        "common": {"timestamp": 5},
        "userspace": {"probe_type": "usdt", "symbol": "a:b", "ip": 1, "path": "", "pid": 1, "tid": 1},
    }
    timeless = {"kernel": event(1)["kernel"]}
    path = write(event(4), {"common": {"timestamp": 1}}, user, timeless, {"common": {"timestamp": 1}})
    with caplog.at_level(logging.WARNING):
        got = lines(path)
    assert got[2] == "Number of events: 2"
    assert got[-2:] == ["  kprobe/f: 1", "  usdt/a:b: 1"]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "Error gathering stats from event: Invalid event: no common section",
        "Error gathering stats from event: Invalid event: no kernel or userspace section (2 events)",
    ]


def test_an_empty_collection_has_no_times(write: Write) -> None:
    assert lines(write()) == [
        "Retis version: v1.7.0",
        "Retis cmdline: retis collect -o",
        "Number of events: 0",
    ]


def test_control_characters_do_not_reach_the_terminal(write: Write) -> None:
    assert lines(write(event(1, "a\x1b[2Jb")))[-1] == "  kprobe/a\\x1b[2Jb: 1"


def test_a_date_no_calendar_has_is_printed_all_the_same(write: Write) -> None:
    assert lines(write(event((1 << 64) - 1), startup=startup(second=1 << 60)))[3].startswith(
        "First event at: "
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_processes_counts_the_same(tmp_path: Path, share: Share, workers: int) -> None:
    share(workers, 997)
    path = tmp_path / "x.0"
    long = {**event(3, "long"), "kernel": {**event(3, "long")["kernel"], "stack_trace": ["x" * 300] * 20}}
    events = [event(i, f"f{i % 7}") for i in range(500)]
    path.write_text("".join(dumps(e) + "\n" for e in [startup(0), *events, long, *events]))
    (tmp_path / "x.1").write_text("".join(dumps(e) + "\n" for e in [startup(1), event(7)]))
    got = lines(path, rotate=True)
    assert [line for line in got if line.startswith("Number")] == [
        "Number of events: 1001",
        "Number of events: 1",
    ]
    assert "  kprobe/f0: 144" in got and "  kprobe/f6: 142" in got and "  kprobe/long: 1" in got


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("bad", ["{", "", '{"a":1}{"a":1}', '{"common":{"timestamp":-1}}', "[]"])
def test_a_bad_line_is_named_and_what_came_before_it_counted(
    tmp_path: Path, share: Share, workers: int, bad: str
) -> None:
    share(workers, 500)
    path = tmp_path / "events.data"
    path.write_text(
        "\n".join([dumps(STARTUP), *(dumps(event(i)) for i in range(30)), bad, dumps(event(1)), ""])
    )
    parts, error = count_file(str(path))
    assert parts[0].events == 30
    assert "line 32" in str(error)
