"""sort: which events are one series, in which order series come, and what a file of them holds."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retis_py.collectors import Event
from retis_py.collectors.ovs import OvsDetraceSection
from retis_py.errors import RetisError
from retis_py.events.core import SkbId
from retis_py.events.file import EventReader
from retis_py.events.section import Style
from retis_py.process import sorter as sorter_module
from retis_py.process.series import Packet, Recent, Tracker
from retis_py.process.sort import (
    SeriesPrinter,
    SeriesWriter,
    SortEvent,
    check_output,
    sort_events,
    sort_file,
    timestamp_of,
)
from tests.process.conftest import Json, Write, dumps
from tests.support.oracle import STARTUP, data_file, oracle
from tests.support.sections import events as generated


def seen(time: int, skb: int, head: int = 7, first: int | None = None, **sections: Any) -> Json:
    """An event at *time* of the packet first seen at *first* in buffer *head*."""
    tracking = {"orig_head": head, "timestamp": time if first is None else first, "skb": skb}
    extra = {key.replace("_", "-"): value for key, value in sections.items()}
    return {"common": {"timestamp": time}, "skb-tracking": tracking, **extra}


def user(time: int, **ovs: Any) -> Json:
    """An event of ovs-vswitchd."""
    return {
        "common": {"timestamp": time},
        "userspace": {"probe_type": "usdt", "symbol": "p:n", "ip": 1, "path": "/x", "pid": 1, "tid": 1},
        "ovs": ovs,
    }


UPCALL = {"event_type": "upcall", "cmd": 1, "port": 2, "cpu": 3}
ENQUEUE = {
    "event_type": "upcall_enqueue",
    "ret": 0,
    "cmd": 1,
    "port": 2,
    "upcall_ts": 100,
    "upcall_cpu": 3,
    "queue_id": 9,
}
RECEIVED = {
    "event_type": "recv_upcall",
    "type": 1,
    "pkt_size": 98,
    "key_size": 3,
    "queue_id": 9,
    "batch_ts": 1,
    "batch_idx": 0,
}
OPERATION = {"event_type": "flow_operation", "op_type": "exec", "queue_id": 9, "batch_ts": 1, "batch_idx": 0}
ACTION = {"event_type": "action_execute", "action": "output", "port": 3, "recirc_id": 0, "queue_id": 9}
LOOKUP = {
    "event_type": "flow_lookup",
    "flow": 5,
    "sf_acts": 6,
    "ufid": [1, 2, 3, 4],
    "n_mask_hit": 1,
    "n_cache_hit": 0,
    "dpflow": "",
    "ofpflows": [],
}


def times(path: Path, event_type: Any = Event, max_buffer: int = 1000) -> list[list[int]]:
    """The timestamps of the series of a file."""
    reader = EventReader(path, event_type)
    return [[timestamp_of(event) for event in series] for series in sort_events([reader], max_buffer)]


def indices(path: Path) -> dict[int, tuple[int, int] | None]:
    """Timestamp -> packet (skb of its first event) and index."""
    out = {}
    for series in sort_events([EventReader(path, Event)]):
        for event in series:
            tracking = event.tracking
            out[event.common.timestamp] = None if tracking is None else (tracking.skb.skb, tracking.idx)
    return out


@pytest.mark.parametrize(
    ("max_buffer", "sizes"),
    [(1000, [1, 4, 3, 4, 4, 5, 6]), (0, [1, 4, 3, 4, 4, 5, 6]), (5, [1, 4, 3, 4, 4, 5, 5, 1])],
)
@pytest.mark.parametrize("event_type", [Event, SortEvent])
def test_upstreams_sample_gives_the_series_of_the_specification(
    max_buffer: int, sizes: list[int], event_type: Any, tmp_path: Path
) -> None:
    path = tmp_path / "events.data"
    # as a file of today: sections of older ones are converted, so they are always decoded
    lines = data_file("test_events_packets.json").read_text().splitlines(True)
    path.write_text("".join([dumps(STARTUP) + "\n", *lines[1:]]))
    assert [len(series) for series in sort_events([EventReader(path, event_type)], max_buffer)] == sizes


def test_sorting_upstreams_sample_gives_upstreams_sorted_sample() -> None:
    wanted = [
        [event.get("tracking") for event in json.loads(line)]
        for line in data_file("test_events_sorted.json").read_text().splitlines()
    ]
    got = [
        [None if event.tracking is None else json.loads(json.dumps(_plain(event.tracking))) for event in series]
        for series in sort_events([EventReader(data_file("test_events.json"), Event)])
    ]
    assert got == wanted


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def test_events_of_a_clone_belong_to_the_packet_it_was_cloned_from(write: Write) -> None:
    path = write(seen(100, skb=1), seen(110, skb=2, first=100), seen(105, skb=5, head=8))
    assert indices(path) == {1: None, 100: (1, 0), 110: (1, 1), 105: (5, 0)}


def test_an_upcall_is_followed_through_user_space_and_back(write: Write) -> None:
    path = write(
        seen(100, skb=1, ovs=UPCALL),
        seen(110, skb=1, first=100, ovs=ENQUEUE),
        user(120, **RECEIVED),
        user(130, **OPERATION),
        seen(140, skb=2, head=8, ovs=ACTION),
        seen(150, skb=2, head=8, first=140),
    )
    assert indices(path) == {
        1: None,
        100: (1, 0),
        110: (1, 1),
        120: (1, 2),
        130: (1, 3),
        140: (1, 4),
        150: (1, 5),
    }


def test_an_upcall_is_over_with_its_return(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    done = {"event_type": "upcall_return", "upcall_ts": 100, "upcall_cpu": 3, "ret": 0}
    path = write(
        seen(100, skb=1, ovs=UPCALL),
        seen(105, skb=1, first=100, ovs=done),
        seen(110, skb=1, first=100, ovs=ENQUEUE),
    )
    assert indices(path)[110] is None
    assert "Enqueue without an associated upcall event." in caplog.text


@pytest.mark.parametrize("ovs", [RECEIVED, OPERATION, ACTION])
def test_an_unknown_queue_costs_one_warning_and_not_the_command(
    ovs: Json, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(user(120, **ovs), user(121, **ovs), seen(130, skb=1))
    with caplog.at_level(logging.WARNING):
        assert indices(path) == {1: None, 120: None, 121: None, 130: (1, 0)}
    (record,) = caplog.records
    assert "Queue Id lookup failed for OVS userspace event: 9" in record.getMessage()


def test_series_come_oldest_packet_first_and_single_events_in_between(write: Write) -> None:
    lonely = {"common": {"timestamp": 150}}
    path = write(seen(200, skb=1), seen(100, skb=2, head=8), lonely, seen(210, skb=1, first=200))
    assert times(path) == [[1], [100], [150], [200, 210]]
    assert times(path, SortEvent) == [[1], [100], [150], [200, 210]]


def test_a_single_event_comes_before_a_packet_of_the_same_time(write: Write) -> None:
    path = write(seen(100, skb=1), {"common": {"timestamp": 100}, "skb-drop": {"drop_reason": "X"}})
    (_, first, second) = list(sort_events([EventReader(path, Event)]))
    assert first[0].tracking is None and second[0].tracking is not None


def test_series_cut_short_by_the_buffer_go_on_counting(write: Write) -> None:
    path = write(*(seen(100 + i, skb=1, first=100) for i in range(5)))
    series = list(sort_events([EventReader(path, Event)], 2))
    got = [[event.tracking.idx for event in events if event.tracking] for events in series]
    # the startup event leaves when the first of the packet comes, then two events are one too many
    assert got == [[], [0, 1], [2, 3], [4]]


def test_the_startup_event_stays_first_even_where_a_packet_is_older(write: Write) -> None:
    assert times(write(seen(100, skb=1, first=0))) == [[1], [100]]


@pytest.mark.parametrize("event_type", [Event, SortEvent])
def test_a_flow_look_up_learns_of_its_flow_even_later(write: Write, event_type: Any) -> None:
    detrace = {"ufid": [1, 2, 3, 4], "flow": 5, "sf_acts": 6, "dpflow": "in_port(1)", "ofpflows": ["a", "b"]}
    path = write(
        seen(100, skb=1, ovs=LOOKUP),
        seen(101, skb=2, head=8, ovs={**LOOKUP, "flow": 4}),
        {"common": {"timestamp": 102}, "ovs-detrace": detrace},
    )
    series = list(sort_events([EventReader(path, event_type)]))
    known, unknown, last = series[1][0].ovs, series[2][0].ovs, series[3][0]
    assert (known.dpflow, known.ofpflows) == ("in_port(1)", ("a", "b"))
    assert (unknown.dpflow, unknown.ofpflows) == ("", ())
    assert last.ovs_detrace is not None


def test_tracking_of_another_packet_is_an_error(write: Write) -> None:
    other = {"skb": {"orig_head": 1, "timestamp": 2, "skb": 3}, "idx": 0}
    with pytest.raises(RetisError, match="another packet"):
        times(write({**seen(100, skb=1), "tracking": other}))


@pytest.mark.parametrize("event_type", [Event, SortEvent])
def test_tracking_of_another_packet_names_the_line_and_what_was_before_comes_out(
    write: Write, tmp_path: Path, event_type: Any
) -> None:
    other = {"skb": {"orig_head": 1, "timestamp": 2, "skb": 3}, "idx": 0}
    path = write(seen(100, skb=1), seen(110, skb=1, first=100), {**seen(100, skb=1), "tracking": other}, seen(120, 2))
    with pytest.raises(RetisError, match=f"^{path}: line 4: event has tracking information of another packet$"):
        _sort_to(path, tmp_path / "out", event_type)
    assert [len(json.loads(line)) for line in (tmp_path / "out").read_text().splitlines()] == [1, 2]


def test_large_events_leave_the_buffer_early(write: Write) -> None:
    def large(number: int) -> Json:
        return seen(100 + number, 1, kernel={"symbol": "x" * 100, "probe_type": "kprobe"})

    path = write(*(large(number) for number in range(300)))
    series: list[list[Any]] = []
    after = []
    sorter = sorter_module.Sorter()
    for event in EventReader(path, Event):
        series += sorter.add([event], [60_000 if event.kernel else 100])
        after.append(len(series))
    # 16,384,000 bytes at most, in which 279 fit; the startup event leaves with the first
    assert after == [0] * 280 + list(range(2, 23))
    assert len([*series, *sorter.flush()]) == 301
    huge = sorter_module.Sorter()
    assert len(list(huge.add(EventReader(path, Event), [100, *[4 << 20] * 300]))) == 301
    everything = sorter_module.Sorter(0)
    assert list(everything.add(EventReader(path, Event), [1 << 20] * 301)) == []


def test_flows_told_of_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def detrace(flow: int) -> Any:
        return OvsDetraceSection(ufid=(1, 2, 3, 4), flow=flow, sf_acts=6, dpflow=str(flow), ofpflows=())

    monkeypatch.setattr(sorter_module, "_FLOWS", 3)
    flows = sorter_module._Flows(True)
    for flow in (1, 2, 3, 1, 4):
        flows.add(detrace(flow), 100)
    assert [detrace.flow for detrace, _ in flows._known.values()] == [3, 1, 4]
    monkeypatch.setattr(sorter_module, "_FLOW_BYTES", 250)
    flows = sorter_module._Flows(True)
    for flow in (1, 2, 2, 2, 3):
        flows.add(detrace(flow), 100)
    assert [detrace.flow for detrace, _ in flows._known.values()] == [2, 3]


def test_events_without_a_common_section_are_left_out_of_text_as_print_does(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = {"skb-drop": {"drop_reason": "X"}}
    part = {key: value for key, value in seen(100, 1).items() if key != "common"}
    path = write(bare, seen(100, skb=1), part, seen(110, skb=1, first=100))
    out = io.BytesIO()
    with caplog.at_level(logging.WARNING), SeriesPrinter(out, Style()) as printer:
        sort_file(EventReader(path, Event), printer.write)
    _sort_to(path, tmp_path / "sorted", SortEvent)
    printed = subprocess.run(
        [sys.executable, "-m", "retis_py", "print", str(tmp_path / "sorted")], capture_output=True
    )
    assert out.getvalue() == printed.stdout
    assert b"without common" not in printed.stdout
    (record,) = caplog.records
    assert f"WARN  {record.getMessage()}\n" == printed.stderr.decode()
    assert "2 event(s) without a common section not printed" in record.getMessage()


def test_memory_is_bounded_by_forgetting_packets_not_seen_for_long() -> None:
    packet = Packet(1, SkbId(1, 2, 3), 0)
    recent: Recent[int] = Recent(10)
    for key in range(1000):
        recent.add(key, packet)
        assert recent.total() <= 20
    assert recent[0] is None and recent[999] is packet
    for key in range(1000, 1100):  # what is used in between stays
        recent.add(key, packet)
        assert recent[999] is packet
    recent.discard(999)
    assert recent[999] is None


def test_a_packet_that_was_forgotten_begins_anew(write: Write) -> None:
    tracker = Tracker(2)
    events = list(EventReader(write(*(seen(i, skb=1, first=i % 5) for i in range(10))), Event))
    for event in events:
        tracker.track(event)
    assert [event.tracking.idx for event in events[1:]] == [0] * 10


def _sort_to(path: Path, out: Path, event_type: Any, max_buffer: int = 1000) -> None:
    with SeriesWriter(str(out)) as writer:
        sort_file(EventReader(path, event_type), writer.write, max_buffer)


def test_sections_left_undecoded_come_out_as_decoded_ones_do(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *_consistent(generated(3, 2000))]))
    _sort_to(path, tmp_path / "fast", SortEvent)
    _sort_to(path, tmp_path / "slow", Event)
    assert (tmp_path / "fast").read_bytes() == (tmp_path / "slow").read_bytes()


def test_sections_left_undecoded_go_through_unchecked(write: Write, tmp_path: Path) -> None:
    """As docs/limits.md says; text is made of checked events only."""
    bad = {**seen(100, skb=1), "packet": {"len": 1, "capture_len": 1, "data": "!"}}
    path, out = write(bad), tmp_path / "out"
    _sort_to(path, out, SortEvent)
    assert json.loads(out.read_text().splitlines()[1])[0]["packet"] == bad["packet"]
    for reads, line in ((path, 2), (out, 2)):
        done = subprocess.run([sys.executable, "-m", "retis_py", "print", str(reads)], capture_output=True, text=True)
        assert (done.returncode, f"line {line}: invalid value: expected raw packet" in done.stderr) == (1, True)
    with pytest.raises(RetisError, match="line 2: invalid value"):
        _sort_to(path, out, Event)


def _consistent(events: list[Json]) -> list[Json]:
    """Without tracking sections that contradict the rest: these are errors."""
    return [{key: value for key, value in event.items() if key != "tracking"} for event in events]


def test_upstream_reads_what_we_sort_and_finds_every_event(tmp_path: Path) -> None:
    path, out = tmp_path / "events.data", tmp_path / "sorted"
    # without packets: upstream panics at the text of some of them
    events = [{**event, "packet": None} for event in _consistent(generated(4, 1500)) if "common" in event]
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *events]))
    _sort_to(path, out, SortEvent)
    judged = oracle(out, series=True)
    assert all(isinstance(item, list) for item in judged), judged[-1]

    def plain(event: Json) -> str:
        return json.dumps(
            {key: value for key, value in event.items() if key not in ("tracking", "ovs")}, sort_keys=True
        )

    before = sorted(plain(event) for _, event in oracle(path))
    assert sorted(plain(event) for _, event in judged) == before


def test_a_bad_line_ends_the_file_after_everything_before_it(write: Write, tmp_path: Path) -> None:
    path = write(seen(100, skb=1), seen(110, skb=1, first=100))
    path.write_text(path.read_text() + '{"common":5}\n')
    with pytest.raises(RetisError, match="line 4"):
        _sort_to(path, tmp_path / "out", SortEvent)
    lines = (tmp_path / "out").read_text().splitlines()
    assert [len(json.loads(line)) for line in lines] == [1, 2]


def test_output_into_the_input_is_refused_by_whatever_name(write: Write, tmp_path: Path) -> None:
    reader = EventReader(write(), Event)
    (tmp_path / "link").symlink_to(tmp_path / "events.data")
    os.link(tmp_path / "events.data", tmp_path / "hard")
    for name in ("events.data", "link", "./x/../events.data", "hard"):
        with pytest.raises(RetisError, match="in-place"):
            check_output(str(tmp_path / name), reader)
    check_output(str(tmp_path / "other"), reader)


def test_old_formats_cannot_be_stored() -> None:
    with pytest.raises(RetisError, match="input event format is too old"):
        check_output("/nonexistent/x", EventReader(data_file("test_events_packets.json"), Event))
