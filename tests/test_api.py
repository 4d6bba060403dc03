"""The library: names, values and errors of upstream's Python package, which is asked where it is installed."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import retis_py
from retis_py import Event, EventFile, EventReader, SeriesReader
from tests.process.conftest import dumps
from tests.support.oracle import ROOT, STARTUP, data_file, oracle
from tests.support.sections import events as generated

#: walks over everything an event shows, and writes down what it sees
_WALK = """
import json, sys
def walk(value, depth=0):
    if type(value) in (bool, int, str, type(None)):
        return value
    if isinstance(value, (list, tuple)):
        return [walk(item) for item in value]
    if hasattr(value, "to_dict") and isinstance(value.to_dict(), str):
        return [value.to_dict(), repr(value), str(value)]
    out = {}
    for name in dir(value):
        if name.startswith("_") or name[0].isupper() or name in ("to_scapy", "match", "strict_match"):
            continue
        item = getattr(value, name)
        # two where ours is what the file says: upstream has a number, and nothing
        if name in ("op_type", "kind"):
            continue
        if name in ("to_dict", "tracking_id", "show", "sections"):
            item = item()
            out[name + "()"] = item
        else:
            out[name] = walk(item)
    # the order of keys is arbitrary upstream
    for name, text in (("repr", repr(value)), ("str", str(value))):
        out[name] = eval(text) if text.startswith("{") else text
    if hasattr(type(value), "__bytes__"):
        out["bytes"] = bytes(value).hex()
    return out
def walk_event(event):
    return {name: walk(getattr(event, name)) for name in event.sections()} | {
        "repr": eval(repr(event)), "sections": event.sections(), "str": str(event)}
"""
_UPSTREAM = _WALK + "import retis\njson.dump([walk_event(e) for e in retis.EventReader(sys.argv[1])], sys.stdout)"


def upstream(path: Path) -> list[Any]:
    oracle(path)  # skips or fails where it is not installed
    python = os.environ.get("RETIS_PY_ORACLE", str(ROOT / ".venv-oracle/bin/python"))
    done = subprocess.run(
        [python, "-c", _UPSTREAM, str(path)],
        capture_output=True,
        check=True,
        env={**os.environ, "RUST_BACKTRACE": "0", "PYTHONPATH": ""},
    )
    found: list[Any] = json.loads(done.stdout)
    return found


def ours(path: Path) -> list[Any]:
    scope: dict[str, Any] = {}
    exec(_WALK, scope)
    found: list[Any] = json.loads(json.dumps([scope["walk_event"](event) for event in EventReader(path)]))
    return found


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Events of every kind; without packets upstream panics at."""
    events = [{k: v for k, v in e.items() if k != "packet"} for e in generated(21, 400) if "common" in e]
    path = tmp_path / "events.data"
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *events]))
    return path


@pytest.fixture
def ping() -> Path:
    return data_file("test_events_packets.json")


def test_sections_show_what_upstreams_show(sample: Path) -> None:
    for mine, theirs in zip(ours(sample), upstream(sample)):
        if "nft" in mine:
            assert mine["nft"].pop("rule") is None  # an extension
        assert mine == theirs


def test_events_of_upstreams_sample_show_what_upstreams_show(ping: Path) -> None:
    mine, theirs = ours(ping), upstream(ping)
    assert len(mine) == len(theirs) == 27
    assert mine == theirs


def test_sections_are_attributes_and_items(ping: Path) -> None:
    events = EventReader(ping)
    next(events)
    event = next(events)
    assert "kernel" in event and "userspace" not in event and "foo" not in event
    assert "skb-tracking" in event and "skb_tracking" in event
    assert event["skb-tracking"] == event["skb_tracking"] == event.skb_tracking
    assert event.userspace is None
    for key in ("userspace", "foo"):
        with pytest.raises(KeyError, match=key):
            event[key]
    with pytest.raises(AttributeError, match="foo"):
        event.foo  # noqa: B018
    assert event.sections() == sorted(event.sections()) and "kernel" in event.sections()


def test_events_cannot_be_changed_or_made(ping: Path) -> None:
    event = next(EventReader(ping))
    for target in (event, event.common, event.startup.machine):
        with pytest.raises(AttributeError):
            target.timestamp = 1
        with pytest.raises(AttributeError):
            del target.timestamp
    with pytest.raises(TypeError):
        Event({})
    with pytest.raises(TypeError):
        Event()  # type: ignore[call-arg]


def test_packets_of_a_flow_can_be_matched(ping: Path) -> None:
    events = [event for event in EventReader(ping) if event.skb_tracking]
    first, second = events[0].skb_tracking, events[1].skb_tracking
    assert first.match(second) and first.strict_match(second)
    assert first.tracking_id() == first.timestamp << 64 | first.orig_head
    assert not first.match(events[-1].skb_tracking)


def test_a_packet_goes_to_scapy(ping: Path) -> None:
    pytest.importorskip("scapy")
    event = next(event for event in EventReader(ping) if event.packet)
    for packet in (event.packet.to_scapy(), event.packet.data.to_scapy()):
        assert packet["IP"].src == "192.168.125.10" and packet["ICMP"].type == 8
        assert bytes(packet) == bytes(event.packet.data)


def test_readers_refuse_the_other_kind_of_file(ping: Path) -> None:
    series = data_file("test_events_sorted.json")
    assert not EventFile(ping).sorted() and EventFile(series).sorted()
    with pytest.raises(RuntimeError, match="Cannot create a EventReader from a sorted file"):
        EventFile(series).events()
    with pytest.raises(RuntimeError, match="Cannot create a SeriesReader from an unsorted file"):
        EventFile(ping).series()
    with pytest.raises(RuntimeError, match="Cannot use rotation on event series"):
        EventFile.with_rotation(series)
    with pytest.raises(RuntimeError, match=r"Could not open /nonexistent: No such file or directory \(os error 2\)"):
        EventReader("/nonexistent")


def test_a_series_can_be_iterated_again_and_again() -> None:
    sizes = []
    for series in SeriesReader(data_file("test_events_sorted.json")):
        assert [str(event) for event in series] == [str(event) for event in series]
        assert len(series) == len(list(series))
        first = next(iter(series))
        assert repr(series) == f"PyEventSeries(ts = {first.common.timestamp}, n_events = {len(series)})"
        sizes.append(len(series))
    assert sizes == [1, 1, 2, 1]


def test_rotation_goes_on_with_the_next_file(tmp_path: Path) -> None:
    for index in range(3):
        startup = copy.deepcopy(STARTUP)
        startup["startup"]["split_file"] = {"id": index, "policy": {"kind": "size", "limit": 1}}
        (tmp_path / f"x.{index}").write_text(dumps(startup) + "\n")
    first = tmp_path / "x.1"
    assert len(list(EventReader(first))) == 1
    assert [event.startup.split_file.id for event in EventReader.with_rotation(first)] == [1, 2]
    assert len(list(EventFile.with_rotation(first).events())) == 2


def test_events_can_be_pickled_and_copied(ping: Path) -> None:
    event = list(EventReader(ping))[3]
    for twin in (pickle.loads(pickle.dumps(event)), copy.copy(event), copy.deepcopy(event)):
        assert twin.to_dict() == event.to_dict()
    assert copy.deepcopy(event.ovs).to_dict() == event.ovs.to_dict()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, retis_py; print(*({'bcc','scapy','msgspec','click','retis_py.api'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    code = "import sys, retis_py; retis_py.EventReader; print(*({'bcc', 'scapy', 'click'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
    assert set(retis_py.__all__) <= set(dir(retis_py))
    with pytest.raises(AttributeError):
        retis_py.foo  # noqa: B018
