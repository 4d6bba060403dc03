"""Text and files against upstream's own reader: the definition of being right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retis_py.collectors import Event
from retis_py.display import TextRenderer
from retis_py.events.file import EventWriter, open_events
from tests.support.oracle import STARTUP, data_file, oracle
from tests.support.sections import events

#: enough for every section, value and protocol: `test_generator_covers_everything` says so
COUNT = 20_000


def dumps(event: Any) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "events.data"
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *events(7, COUNT)]))
    return path


@pytest.fixture(scope="module")
def judged(generated: Path) -> list[Any]:
    """What upstream's reader makes of the generated events."""
    out = oracle(generated)
    assert len(out) == COUNT + 1, out[-1]
    return out


def printed(path: Path, *options: str) -> bytes:
    command = [sys.executable, "-m", "retis_py", "print", *options, str(path)]
    return subprocess.run(command, capture_output=True, check=True).stdout


def without_panics(path: Path, judged: list[Any], tmp_path: Path) -> tuple[Path, list[str]]:
    """*path* without the events upstream cannot print, and its text of the others."""
    kept = tmp_path / "kept.data"
    lines = path.read_text().splitlines(keepends=True)
    kept.write_text("".join(line for line, item in zip(lines, judged) if item[0] is not None))
    return kept, [item[0] for item in judged if item[0] is not None]


def test_print_is_upstreams_text_to_the_byte(generated: Path, judged: list[Any], tmp_path: Path) -> None:
    kept, texts = without_panics(generated, judged, tmp_path)
    assert len(texts) > 0.98 * COUNT
    assert printed(kept) == "".join(f"{text}\n\n" for text in texts).encode()


def test_upstream_understands_what_we_write(generated: Path, judged: list[Any], tmp_path: Path) -> None:
    ours = tmp_path / "ours.data"
    with EventWriter(ours) as writer:
        for event in open_events(generated, Event):
            writer.write(event)
    assert ours.read_bytes() == generated.read_bytes()
    written = [json.loads(line) for line in ours.read_text().splitlines()]
    assert [item[1] for item in judged] == [item or None for item in map(_seen, written, judged)]


def _seen(event: Any, item: Any) -> Any:
    """What upstream's dictionary of *event* must be: nothing where it panicked."""
    return None if item[1] is None else event


def test_where_upstream_panics_we_print_a_marker(generated: Path, judged: list[Any]) -> None:
    renderer = TextRenderer()
    texts = [renderer.event(event) for event in open_events(generated, Event)]
    panics = [text for text, item in zip(texts, judged) if item[0] is None]
    assert panics
    assert all("... (truncated or incomplete packet)" in text for text in panics)


def test_generator_covers_everything(judged: list[Any]) -> None:
    texts = "\n".join(item[0] for item in judged if item[0] is not None)
    words = (
        "[k] [kr] [tp] [invalid] [u] drop skb gso ns if upcall upcall_enqueue upcall_ret upcall_recv flow_put"
        " flow_exec miss hit openflow: tunnel_set dec_ttl nat(src= nat(dst= unspec oport recirc table goto accept"
        " RELATED_REPLY UNTRACKED orig-zone reply-zone labels parent cmdline ARP IPv4 vxlan geneve who-has is-at"
        " MACsec ESP AH ICMPv6 SCTP INIT_ACK SACK DATA SHUTDOWN_COMPLETE UNKNOWN: opts exts sack wscale tfo"
    )
    missing = [word for word in words.split() if word not in texts and word not in ("ARP", "IPv4")]
    assert not missing


@pytest.mark.parametrize("name", ["test_events.json", "test_events_packets.json"])
def test_upstreams_event_files(name: str) -> None:
    path = data_file(name)
    texts = [item[0] for item in oracle(path)]
    assert printed(path) == "".join(f"{text}\n\n" for text in texts).encode()


def test_upstreams_series_file() -> None:
    path = data_file("test_events_sorted.json")
    texts = [item[0] for item in oracle(path, series=True)]
    series = [len(events) for events in open_events(path, Event)]
    out, at = [], 0
    for length in series:
        first, *others = texts[at : at + length]
        at += length
        lines = [first]
        for text in others:
            head, *rest = text.split("\n")
            lines += [f"  \u21b3 {head}", *(f"    {line}" for line in rest)]
        out.append("\n".join(lines) + "\n\n")
    assert at == len(texts)
    assert printed(path) == "".join(out).encode()


def test_upstreams_invalid_file_prints_up_to_the_bad_line() -> None:
    path = data_file("test_events_packets_invalid_ct.json")
    *texts, error = oracle(path)
    assert isinstance(error, str)
    command = [sys.executable, "-m", "retis_py", "print", str(path)]
    done = subprocess.run(command, capture_output=True, env={**os.environ})
    assert done.returncode == 1
    assert done.stdout == "".join(f"{item[0]}\n\n" for item in texts).encode()
    reason = "Event was fixed up but parsing still failed: missing field `ct_status`"
    assert f"Error: {path}: line {len(texts) + 1}: {reason}" in done.stderr.decode()
    assert reason in error


_PACKET = '{"common":{"timestamp":2},"packet":{"len":1,"capture_len":1,"data":"%s"}}'
_ACTION = '{"common":{"timestamp":2},"ovs":{"event_type":"action_execute","action":"output","port":%s,"recirc_id":0}}'


@pytest.mark.parametrize(
    ("line", "ours", "theirs"),
    [
        ('{"common":{"timestamp":2},"common":{"timestamp":3}}', True, False),
        ('{"common":{"timestamp":2,"timestamp":3}}', True, False),
        ('{"common":{"timestamp":2},"unknown":1,"unknown":2}', True, True),
        (_PACKET % "AA==", True, True),
        (_PACKET % "AB==", True, False),
        (_PACKET % "AA", False, False),
        (_ACTION % "1", True, True),
        (_ACTION % '"x"', False, True),
    ],
)
def test_where_reading_differs_is_as_the_design_says(tmp_path: Path, line: str, ours: bool, theirs: bool) -> None:
    path = tmp_path / "events.data"
    path.write_text(f"{dumps(STARTUP)}\n{line}\n")
    command = [sys.executable, "-m", "retis_py", "print", str(path)]
    assert (subprocess.run(command, capture_output=True).returncode == 0) == ours
    assert (len(oracle(path)) == 2 and isinstance(oracle(path)[-1], list)) == theirs
