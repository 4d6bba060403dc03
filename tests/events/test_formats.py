"""Versions of the file format and their conversions, dates, imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retis_py.collectors import Event
from retis_py.errors import EventFileError
from retis_py.events.compat import upgrade
from retis_py.events.file import open_events
from retis_py.events.version import format_level, parse_version
from retis_py.events.visible import visible
from retis_py.version import file_version
from tests.support.oracle import oracle


@pytest.mark.parametrize(
    "text",
    [
        "1.5.0",
        "1.5.0+1.4.0",
        "1.5.0-",
        "1.5.0-31584d349ace",
        "1.5.0-31584d349ace-dirty",
        "1.5.0+1.4.0-31584d349ace-dirty",
    ],
)
def test_version_without_what_follows(text: str) -> None:
    assert parse_version(text) == parse_version(f"v{text}") == (1, 5, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Invalid Retis version string \(\)"),
        ("v-x", r"Invalid Retis version string \(v-x\)"),
        ("unspec", "unexpected character 'u' while parsing major version number"),
        ("1.7", "unexpected end of input while parsing minor version number"),
        ("1.5.", "unexpected end of input while parsing patch version number"),
        ("1.5.x", "unexpected character 'x' while parsing patch version number"),
        ("1.5.0?foo", r"unexpected character '\?' after patch version number"),
        ("01.5.0", "invalid leading zero in major version number"),
    ],
)
def test_bad_version(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse_version(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [("1.5.9", 0), ("v1.6.0", 1), ("v1.7.0+ours", 2), ("2.0.0", 2), (file_version(), 2)],
)
def test_level(text: str, level: int) -> None:
    assert format_level(text) == level


CT_TUPLE = {
    "ip": {"src": "1.1.1.1", "dst": "2.2.2.2", "version": "v4"},
    "proto": {"tcp": {"sport": 1, "dport": 2}},
}
CT = {"state": "new", "zone_id": 0, "zone_dir": "Default", "orig": CT_TUPLE, "reply": CT_TUPLE}
OLD_STARTUP = {"common": {"timestamp": 1}, "startup": {"clock_monotonic_offset": {"sec": 1, "nsec": 2}}}
OLD_1_5: dict[str, Any] = {
    "common": {"timestamp": 2},
    "skb": {
        "eth": {"src": "x"},
        "dev": {"name": "eth0", "ifindex": 3},
        "ns": {"netns": 4},
        "packet": {"len": 14, "capture_len": 14, "packet": "AAAAAAAAAAAAAAAACAA="},
    },
    "ct": {**CT, "tcp_state": "SYN_SENT"},
}
OLD_1_6: dict[str, Any] = {"common": {"timestamp": 2}, "ct": {**CT, "tcp_state": "X", "ct_status": 5}}


def old_file(path: Path, version: str, *events: Any) -> Path:
    startup = json.loads(json.dumps(OLD_STARTUP))
    startup["startup"]["retis_version"] = version
    path.write_text("".join(json.dumps(event) + "\n" for event in [startup, *events]))
    return path


def test_1_5_events_are_converted(tmp_path: Path) -> None:
    startup, event = open_events(old_file(tmp_path / "f", "v1.5.1", OLD_1_5), Event)
    assert startup.startup.cmdline == startup.startup.machine.kernel_release == "unknown"
    assert (event.dev.name, event.netns.inum, event.packet.capture_len) == ("eth0", 4, 14)
    assert (event.ct.ct_status, event.ct.proto_state) == (0, "SYN_SENT")
    assert event.skb.meta is None


def test_1_6_events_are_converted(tmp_path: Path) -> None:
    _, event = open_events(old_file(tmp_path / "f", "1.6.0", OLD_1_6), Event)
    assert (event.ct.ct_status, event.ct.proto_state) == (5, "X")


@pytest.mark.parametrize(("version", "event"), [("1.5.0", OLD_1_5), ("1.6.4", OLD_1_6)])
def test_upstream_converts_the_same_way(tmp_path: Path, version: str, event: Any) -> None:
    import msgspec

    path = old_file(tmp_path / "f", version, event)
    ours = [json.loads(msgspec.json.encode(item)) for item in open_events(path, Event)]
    assert ours == [item[1] for item in oracle(path)]


def test_old_series_are_converted(tmp_path: Path) -> None:
    path = old_file(tmp_path / "f", "1.5.0", OLD_1_5)
    path.write_text("".join(f"[{line}]\n" for line in path.read_text().splitlines()))
    (_, series) = open_events(path, Event)
    assert series[0].netns.inum == 4


@pytest.mark.parametrize(
    ("version", "event"),
    [
        ("1.5.0", {"common": {"timestamp": 1}, "skb": None}),
        ("1.6.0", {"common": {"timestamp": 1}, "ct": None}),
        ("1.5.0", {"common": {"timestamp": 1}, "ct": {**CT, "parent": CT}}),
        ("1.6.0", {"startup": {**OLD_STARTUP["startup"], "retis_version": "1.6.0", "machine": None}}),
    ],
)
def test_what_upstream_refuses_for_no_reason_is_read(tmp_path: Path, version: str, event: Any) -> None:
    assert len(list(open_events(old_file(tmp_path / "f", version, event), Event))) == 2


@pytest.mark.parametrize(
    ("version", "event", "message"),
    [
        ("1.5.0", {"skb": 5}, r"Could not reach target \(skb\)"),
        ("1.5.0", {"skb": {"dev": {"a": 1}}, "dev": 5}, ""),
        ("1.6.0", 5, r"Unknown event format \(not a map nor an array\)"),
        ("1.6.0", {"ct": {}}, "Event was fixed up but parsing still failed: missing field `state`"),
        ("1.6.0", {"ct": {"tcp_state": "a", "proto_state": "b"}}, "Destination field .* already exists"),
    ],
)
def test_what_cannot_be_converted_is_named(
    tmp_path: Path, version: str, event: Any, message: str
) -> None:
    with pytest.raises(EventFileError, match=f"line 2: .*{message}"):
        list(open_events(old_file(tmp_path / "f", version, event), Event))


def test_events_of_today_are_left_alone() -> None:
    event: dict[str, Any] = {"skb": {"packet": 5}}
    upgrade(event, 2)
    assert event == {"skb": {"packet": 5}}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain \u65e5\u672c\u00e9", None),
        ("\u00a0", None),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("\t\r\n\x7f", "\\t\\r\\n\\x7f"),
        ("\x9b", "\\u009b"),
        ("\u2028\u202e", "\\u2028\\u202e"),
    ],
)
def test_control_characters_are_made_visible(text: str, seen: str | None) -> None:
    assert visible(text) == (text if seen is None else seen)


def test_events_package_imports_no_other_package() -> None:
    script = "import pkgutil, sys, importlib, retis_py.events as e\n"
    script += "for m in pkgutil.walk_packages(e.__path__, 'retis_py.events.'): importlib.import_module(m.name)\n"
    script += "print(*sorted({n.split('.')[1] for n in sys.modules if n.startswith('retis_py.')}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"errors", "events", "log", "version"}
