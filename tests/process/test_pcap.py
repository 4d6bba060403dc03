"""pcap: files other programs read, with the events inside them."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceDescription, SectionHeader

from retis_py.errors import RetisError
from retis_py.process.capture import MAX_JSON, PEN, PackedPacket
from retis_py.process.pcap import Report, export
from retis_py.process.schema import make_schema
from tests.process.conftest import Json, Share, Write, dumps
from tests.support.oracle import DATA, STARTUP, data_file, oracle_texts
from tests.support.sections import events as generated

FRAME = bytes(range(64))


def kernel_event(time: int, symbol: str = "s:t", probe_type: str = "raw_tracepoint", **sections: Any) -> Json:
    packet = {"len": 99, "capture_len": len(FRAME), "data": base64.b64encode(FRAME).decode()}
    return {
        "common": {"timestamp": time},
        "kernel": {"symbol": symbol, "probe_type": probe_type},
        "packet": packet,
        **sections,
    }


class Kept(io.BytesIO):
    """Can still be read when `export` is through with it."""

    def close(self) -> None:
        self.ended = True


class Output:
    """What an export wrote: whether the output was opened at all, and its bytes."""

    def __init__(self, path: Path, *args: Any, **options: Any) -> None:
        self.file = path.with_suffix(".pcapng")
        self.opened = 0
        self.report: Report = export(str(path), self._open, *args, **options)
        self.data = self.file.read_bytes() if self.opened else b""

    def _open(self) -> Any:
        self.opened += 1
        return self.file.open("wb")

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Type and body of each block, both of its lengths being right."""
        position = 0
        while position < len(self.data):
            kind, size = struct.unpack_from("<II", self.data, position)
            assert struct.unpack_from("<I", self.data, position + size - 4) == (size,)
            yield kind, self.data[position + 8 : position + size - 4]
            position += size

    def packets(self) -> list[Any]:
        return [block for block in FileScanner(io.BytesIO(self.data)) if isinstance(block, EnhancedPacket)]


def test_upstreams_sample_gives_upstreams_capture_from_the_first_interface_on() -> None:
    wanted = data_file("test_events_packets.pcap").read_bytes()[25568:]
    buffer = Kept()
    export(str(DATA / "test_events_packets.json"), lambda: buffer)
    assert buffer.ended
    data = buffer.getvalue()
    (schema_size,) = struct.unpack_from("<I", data, 32)
    assert data[28 + schema_size :] == wanted
    assert data[:28] == data_file("test_events_packets.pcap").read_bytes()[:28]


def test_the_schema_stands_before_the_first_interface(write: Write) -> None:
    kinds = list(Output(write(kernel_event(1))).blocks())
    assert [kind for kind, _ in kinds] == [0x0A0D0D0A, 0xBAD, 1, 6]
    body = kinds[1][1]
    assert struct.unpack_from("<I", body) == (PEN,)
    assert json.loads(body[4:].rstrip(b"\0")) == make_schema()


def test_packets_are_as_python_pcapngs_general_encoder_writes_them(write: Write) -> None:
    """The packed fast path against the library it replaces, for all lengths of padding."""
    for extra in range(8):
        section = SectionHeader(endianness="<")
        section.new_member(InterfaceDescription, link_type=1)
        data, comment, custom = FRAME[: 60 + extra % 4], "c" * (3 + extra), "j" * (5 + extra)
        general = section.new_member(
            EnhancedPacket,
            interface_id=0,
            timestamp_high=7,
            timestamp_low=9,
            packet_len=99,
            packet_data=data,
            options={"opt_comment": [comment], "custom_str_safe": [(PEN, custom)]},
        )
        stream = io.BytesIO()
        try:
            general._write(stream)
        except (TypeError, ValueError, struct.error) as error:
            pytest.skip(f"this python-pcapng cannot encode custom options: {error}")
        packed = PackedPacket.pack(0, 7 << 32 | 9, data, 99, comment.encode(), custom.encode())
        assert packed == stream.getvalue()


def test_comment_and_option_are_text_and_json_of_the_event(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    events = [event for event in generated(5, 600) if "kernel" in event and "common" in event]
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *events]))
    output = Output(path)
    texts = oracle_texts(path)[1:]
    wanted = [(event, text) for event, text in zip(events, texts) if "packet" in event]
    packets = output.packets()
    assert len(packets) == len(wanted) > 100
    for packet, (event, text) in zip(packets, wanted):
        (pen_and_json,) = packet.options.get_all("custom_str_safe")
        bare = {key: value for key, value in event.items() if key != "packet"}
        assert pen_and_json[0] == PEN
        assert json.loads(pen_and_json[1]) == bare
        if text is not None:  # upstream does not panic at it
            assert packet.options["opt_comment"] == text
        assert packet.packet_data == base64.b64decode(event["packet"]["data"])


def test_times_are_real_ones_from_each_startup_event_on(write: Write) -> None:
    later = json.loads(json.dumps(STARTUP))
    later["startup"]["clock_monotonic_offset"] = {"sec": 5, "nsec": 1}
    packets = Output(write(kernel_event(2), later, kernel_event(3))).packets()
    times = [packet.timestamp_high << 32 | packet.timestamp_low for packet in packets]
    assert times == [1742309146_691042002, 5_000000004]
    assert [packet.packet_len for packet in packets] == [99, 99]


def test_several_processes_write_the_same_as_one(tmp_path: Path, share: Share) -> None:
    """Probes and clocks appear in the middle, so that what processes assume is wrong."""
    later = json.loads(json.dumps(STARTUP))
    later["startup"]["clock_monotonic_offset"] = {"sec": 9, "nsec": 0}
    events = [kernel_event(i, f"f{i // 40 if i % 3 else 0}", "kprobe") for i in range(1500)]
    events.insert(400, later)
    path = tmp_path / "events.data"
    path.write_text("".join(dumps(event) + "\n" for event in [STARTUP, *events]))
    one = Output(path)
    for workers in (2, 3):
        share(workers, 4000)
        many = Output(path)
        assert many.report == one.report
        assert many.data == one.data
    assert one.report.matched == 1500


@pytest.mark.parametrize("workers", [1, 2])
def test_blocks_without_any_packet_are_no_error(write: Write, share: Share, workers: int) -> None:
    """As with --probe in a large file: most of what workers send is empty."""
    share(workers, 1000)
    path = write(*(kernel_event(n, "rare" if n == 50 else "common") for n in range(100)))
    output = Output(path, ("raw_tracepoint", "rare"))
    assert output.report == Report(1, 0, None)


def test_an_error_in_the_middle_is_raised_after_what_came_before_it(tmp_path: Path, share: Share) -> None:
    path = tmp_path / "events.data"
    lines = [dumps(event) for event in [STARTUP, *(kernel_event(i) for i in range(200))]]
    lines[150] = '{"common":'
    path.write_text("\n".join(lines) + "\n")
    for workers in (1, 2):
        share(workers, 1000)
        output = Output(path)
        assert output.report.matched == 149
        assert len(output.packets()) == 149
        assert "line 151" in str(output.report.error)


def test_only_packets_of_the_probe_asked_for(write: Write) -> None:
    path = write(
        kernel_event(1, "a", "kprobe"),
        kernel_event(2, "a", "kretprobe"),
        {**kernel_event(3, "a", "kprobe"), "packet": None},
    )
    output = Output(path, ("kprobe", "a"))
    assert output.report == Report(2, 1, None)
    assert len(output.packets()) == 1


def test_without_a_packet_nothing_is_opened(write: Write) -> None:
    bare = {"common": {"timestamp": 1}, "kernel": {"symbol": "a", "probe_type": "kprobe"}}
    user = {"common": {"timestamp": 1}, "packet": kernel_event(1)["packet"]}
    output = Output(write(bare, user))
    assert (output.opened, output.report) == (0, Report(1, 1, None))


def test_a_packet_without_time_is_an_error(write: Write) -> None:
    event = kernel_event(1)
    del event["common"]
    assert str(Output(write(event)).report.error) == "No common section in event"


def test_a_sorted_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sorted"
    path.write_text(dumps([STARTUP]) + "\n")
    with pytest.raises(RetisError, match="Cannot read event from sorted file"):
        Output(path)


def test_what_is_too_long_for_an_option_is_cut_at_a_character(write: Write) -> None:
    stack = [f"f\u00e9{i}+0x1" for i in range(9000)]
    kernel = {"symbol": "a", "probe_type": "kprobe", "stack_trace": stack}
    long = {**kernel_event(1), "kernel": kernel, "skb-drop": {"drop_reason": "X"}}
    (packet,) = Output(write(long)).packets()
    comment = packet.options["opt_comment"]
    assert len(comment.encode()) <= 0xFFFF
    assert comment.endswith("... (too long for PCAP-NG)")
    ((_, text),) = packet.options.get_all("custom_str_safe")
    assert len(text.encode()) <= MAX_JSON
    assert json.loads(text)["skb-drop"] == {"drop_reason": "X"}


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_tshark_sees_times_interfaces_and_comments() -> None:
    path = data_file("test_events_packets.json")
    buffer = Kept()
    export(str(path), lambda: buffer)
    fields = ("frame.time_epoch", "frame.interface_name", "frame.comment", "frame.len")
    command = [_tool("tshark"), "-r", "-", "-T", "json", *(arg for field in fields for arg in ("-e", field))]
    done = subprocess.run(
        [*command, "-Y", "frame.comment"],
        input=buffer.getvalue(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    layers = [packet["_source"]["layers"] for packet in json.loads(done.stdout)]
    texts = [text for text in oracle_texts(path)[1:] if text is not None]
    assert [layer["frame.comment"][0] for layer in layers] == texts
    assert layers[0]["frame.interface_name"] == ["raw_tracepoint/net:net_dev_start_xmit"]
    assert layers[0]["frame.time_epoch"][0].rstrip("0") == "1742339565.860103793"
    assert {layer["frame.len"][0] for layer in layers} == {"98"}


def test_tcpdump_reads_it_from_a_pipe() -> None:
    buffer = Kept()
    export(str(data_file("test_events_packets.json")), lambda: buffer, ("raw_tracepoint", "skb:kfree_skb"))
    done = subprocess.run(
        [_tool("tcpdump"), "-nnr", "-", "-tt"],
        input=buffer.getvalue(),
        capture_output=True,
        check=True,
        env={**os.environ, "TZ": "UTC"},
        timeout=60,
    )
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 2
    assert all("192.168.125.11 > 192.168.125.10: ICMP echo reply, id 29004" in line for line in lines)
