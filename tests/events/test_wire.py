"""Raw events: decoding what a kernel recorded, and refusing what none would send."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retis_py.collectors.parts import PARTS
from retis_py.display import to_text
from retis_py.errors import MalformedEvent
from retis_py.events.raw import Raw, pad, u8, u16, u32, u64
from retis_py.events.wire import HEADER, HeaderRaw
from tests.support.recorded import decoder, load

RECORDINGS = ["ping_xmit", "ping_receive", "ping_drop"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_event_decodes_to_its_json_and_text(name: str) -> None:
    recorded = load(name)
    event = decoder(recorded).decode(recorded.raw)
    assert json.loads(msgspec.json.encode(event)) == json.loads(recorded.json)
    assert to_text(event) == recorded.text


def test_packet_bytes_are_those_of_the_ping() -> None:
    recorded = load("ping_drop")
    event = decoder(recorded).decode(recorded.raw)
    # 14 bytes of Ethernet, 20 of IPv4, then an ICMP echo reply with ping's counting pattern
    assert event.packet.data[12:14] == b"\x08\x00"
    assert event.packet.data[34:36] == b"\0\0"
    assert event.packet.data[-8:] == bytes(range(0x30, 0x38))
    assert event.kernel.symbol == "skb:kfree_skb"
    assert event.skb_drop.drop_reason == "NO_SOCKET"


@pytest.mark.parametrize("cut", range(1, 251))
def test_truncated_event_is_refused(cut: int) -> None:
    recorded = load("ping_drop")
    exact = recorded.raw[: len(recorded.raw) - 2]  # perf padded it
    with pytest.raises(MalformedEvent, match=r"got \d+ bytes, need \d+"):
        decoder(recorded).decode(exact[:-cut])


def test_perf_padding_is_not_packet_data() -> None:
    recorded = load("ping_drop")
    plain = decoder(recorded).decode(recorded.raw)
    assert decoder(recorded).decode(recorded.raw[:-2]) == plain
    assert len(plain.packet.data) == plain.packet.capture_len


def test_surplus_bytes_beyond_padding_are_refused() -> None:
    recorded = load("ping_drop")
    with pytest.raises(MalformedEvent):
        decoder(recorded).decode(recorded.raw + bytes(8))


def test_unknown_section_is_refused() -> None:
    recorded = load("ping_drop")
    raw = bytearray(recorded.raw)
    raw[8:12] = (1 << len(PARTS)).to_bytes(4, "little")
    with pytest.raises(MalformedEvent, match="unknown sections"):
        decoder(recorded).decode(bytes(raw))


def test_unknown_probe_is_refused() -> None:
    recorded = load("ping_drop")
    raw = bytearray(recorded.raw)
    raw[12:14] = b"\xff\xff"
    with pytest.raises(MalformedEvent, match="unknown probe 65535"):
        decoder(recorded).decode(bytes(raw))


@given(st.binary(max_size=400))
def test_any_bytes_are_an_event_or_refused(raw: bytes) -> None:
    recorded = load("ping_drop")
    try:
        event = decoder(recorded).decode(raw)
    except MalformedEvent:
        return
    assert event.common is not None


@given(st.binary(min_size=HEADER.size, max_size=400), st.integers(0, (1 << len(PARTS)) - 1))
def test_any_content_of_known_sections_is_an_event_or_refused(raw: bytes, sections: int) -> None:
    recorded = load("ping_drop")
    sections &= ~1  # stack ids need a session
    raw = raw[:8] + sections.to_bytes(4, "little") + b"\0\0" + raw[14:]
    try:
        event = decoder(recorded).decode(raw)
    except MalformedEvent:
        return
    msgspec.json.encode(event)
    to_text(event)


def test_process_and_thread_are_the_halves_of_pid_tgid() -> None:
    recorded = load("ping_xmit")
    raw = bytearray(recorded.raw)
    offset = HeaderRaw.pid_tgid.offset
    raw[offset : offset + 8] = (0x11 << 32 | 0x22).to_bytes(8, "little")
    task = decoder(recorded).decode(bytes(raw)).common.task
    assert (task.pid, task.tgid) == (0x11, 0x22)


def test_hidden_padding_in_a_layout_is_refused() -> None:
    class HoleRaw(Raw):
        _fields_ = [("small", u8), ("large", u64)]

    with pytest.raises(TypeError, match="hidden padding"):
        HoleRaw.code()


def test_layout_whose_size_is_not_a_multiple_of_eight_is_refused() -> None:
    class ShortRaw(Raw):
        _fields_ = [("number", u32)]

    with pytest.raises(TypeError, match="multiple of 8"):
        ShortRaw.code()


def test_layout_prints_as_c_with_its_size() -> None:
    class SomeThingRaw(Raw):
        _fields_ = [("number", u16), ("_pad", pad * 6)]

    assert SomeThingRaw.c_text().splitlines() == [
        "struct some_thing_raw {",
        "\tu16 number;",
        "\tu8 _pad[6];",
        "};",
        '_Static_assert(sizeof(struct some_thing_raw) == 8, "some_thing_raw");',
    ]
