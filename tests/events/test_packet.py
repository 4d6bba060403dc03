"""Packet text: vectors verified with upstream's reader, link-layer forms, and bytes from a fuzzer."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retis_py.events.packet import packet_text
from tests.support.frames import frames

#: frame, text without -e
VECTORS = [
    (
        "////////psIRcVlFCAYAAQgABgQAAabCEXFZRQoAKgEAAAAAAAAKACoC",
        "request who-has 10.0.42.2 tell 10.0.42.1",
    ),
    (
        "+ly9jswBpsIRcVlFCAYAAQgABgQAAvpcvY7MAQoAKgKmwhFxWUUKACoB",
        "reply 10.0.42.2 is-at fa:5c:bd:8e:cc:01",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAAA8AAcAAEAGAAAKACoBCgAqAgTSAFAAAABkAAAAyKACAfQAAAAAAgQFtAQCCAoAAAAK"
        "AAAACwEDAwc=",
        "10.0.42.1.1234 > 10.0.42.2.80 tos 0x0 ttl 64 id 7 off 0 len 60 proto TCP (6) flags [S] s"
        "eq 100 win 500 [mss 1460,sackOK,TS val 10 ecr 11,nop,wscale 7]",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAAA8AAcAAEAGAAAKACoBCgAqAgTSAFAAAABkAAAAyKAQAfQAAAAAAQEFEgAAAAEAAAAC"
        "AAAAAwAAAP8=",
        "10.0.42.1.1234 > 10.0.42.2.80 tos 0x0 ttl 64 id 7 off 0 len 60 proto TCP (6) flags [.] s"
        "eq 100 ack 200 win 500 [nop,nop,sack 2 {1:2}{3:255}]",
    ),
    (
        "+ly9jswBpsIRcVlFCABFuAAfAAdAAEARAAAKACoBCgAqAgABAAIACwAAYWJj",
        "10.0.42.1.1 > 10.0.42.2.2 tos 0x2e ttl 64 id 7 off 0 [DF] len 31 proto UDP (17) len 3",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAAAfAAcguUARAAAKACoBCgAqAgABAAIACwAAYWJj",
        "10.0.42.1.1 > 10.0.42.2.2 tos 0x0 ttl 64 id 7 off 1480 [rsvd] len 31 proto UDP (17) len 3",
    ),
    (
        "+ly9jswBpsIRcVlFCABIAAAoAAcAAEABAAAKACoBCgAqAgEHBwQAAAAAAAAAAAgAAAAAAQAB",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 40 opts [Ipv4OptionNumber(1),Ipv4Opt"
        "ionNumber(7),Ipv4OptionNumber(0)] proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAABOAAcAAEARAAAKACoBCgAqAtkDErUAOgAACAAAAAAAKgD6XL2OzAGmwhFxWUUIAEUA"
        "ABwABwAAQAEAAAoAKwEKACsCCAAAAAABAAE=",
        "10.0.42.1.55555 > 10.0.42.2.4789 tos 0x0 ttl 64 id 7 off 0 len 78 proto UDP (17) len 50 "
        "vxlan [I] vni 0x2a 10.0.43.1 > 10.0.43.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1)"
        " type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAABWAAcAAEARAAAKACoBCgAqAgAFF8EAQgAAAoBlWAAAAQABAAEBBhQiPPpcvY7MAabC"
        "EXFZRQgARQAAHAAHAABAAQAACgArAQoAKwIIAAAAAAEAAQ==",
        "10.0.42.1.5 > 10.0.42.2.6081 tos 0x0 ttl 64 id 7 off 0 len 86 proto UDP (17) len 58 gene"
        "ve [O] vni 0x1 [class 0x100 type 0x1 len 4 (proto 2 v6 nh 20 tp 34 hlen 60)] 10.0.43.1 >"
        " 10.0.43.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFht1gASNFAAwAQBERAAAAAAAAAAAAAAAAAAEREQAAAAAAAAAAAAAAAAACOgAFAgAAAQCPAAAA",
        "1111::1 > 1111::2 ttl 64 label 0x12345 len 12 exts [Hopopt] proto ICMPv6 (58) type 143 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFht1gASNFABwsQBERAAAAAAAAAAAAAAAAAAEREQAAAAAAAAAAAAAAAAACBgAAARI0VngE0gBQ"
        "AAAAZAAAAMhQAgH0AAAAAA==",
        "1111::1 > 1111::2 ttl 64 label 0x12345 len 28 exts [Ipv6Frag] proto TCP (6) flags [S] se"
        "q 100 win 500",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAAA4AAcAAECEAAAKACoBCgAqAoVME8QAAKvNAAAAAAADABUAAAABAAIAAwAAAARoZWxs"
        "bwAAAA==",
        "10.0.42.1.34124 > 10.0.42.2.5060 tos 0x0 ttl 64 id 7 off 0 len 56 proto SCTP (132) vtag "
        "0xabcd [DATA (BE) TSN 1 SID 2 SSEQ 3 PPID 0x4]",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAAAkAAcAAEAyAAAKACoBCgAqAgAACrwAAAAPeHh4eHh4eHg=",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 36 proto ESP (50) spi 0x00000abc seq 0xf",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAABDAAcAAEAzAAAKACoBCgAqAgYEAAAAAAq8AAAAB6q7zN3u/wARIjNEVQTSAFAAAABk"
        "AAAAyFACAfQAAAAAYWJj",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 67 proto AH (51) spi 0x00000abc seq "
        "0x7 icv 0xaabbccddeeff001122334455 proto TCP (6) flags [S] seq 100:103 win 500",
    ),
    (
        "+ly9jswBpsIRcVlFiOUtAAAAAAUAESIzRFVmd3h4eHh4eHh4eHh4eHh4eHg=",
        "802.1AE MACsec frame",
    ),
    (
        "+ly9jswBpsIRcVlFiOUhKAAAAAUAESIzRFVmdwgARQAAHAAHAABAAQAACgAqAQoAKgIIAAAAAAEAAQ==",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "ukoiHKOOzikYufsvCABFAACGORIAAEAR2VIKACoBCgAqAkL5F8EAcmiGAABlWAAAAQAO2mLRzBfW99tozRgIAEUA"
        "AFRH90AAQAGIrwoAKwEKACsCCAA5rgUFAAE5cv5nAAAAAL+eAwAAAAAAEBESExQVFhcYGRobHB0eHyAhIiMkJSYn"
        "KCkqKywtLi8wMTIzNDU2Nw==",
        "10.0.42.1.17145 > 10.0.42.2.6081 tos 0x0 ttl 64 id 14610 off 0 len 134 proto UDP (17) le"
        "n 106 geneve [] vni 0x1 10.0.43.1 > 10.0.43.2 tos 0x0 ttl 64 id 18423 off 0 [DF] len 84 "
        "proto ICMP (1) type 8 code 0",
    ),
    (
        "Oh7dUvtE6h3Fhm4TCABFAgBEAABAAECE0jEKACoBCgAqAoVME8QAAAAAAAAAAAEAACTFizMuAAGgAAAK///40kCc"
        "AAwABgAFAACAAAAEwAAABA==",
        "10.0.42.1.34124 > 10.0.42.2.5060 tos 0x0 ECT(0) ttl 64 id 0 off 0 [DF] len 68 proto SCTP"
        " (132) vtag 0x0 [INIT init_tag 0xc58b332e rwnd 106496 OS 10 MIS 65535 init_TSN 417452866"
        "8]",
    ),
    (
        "+ly9jswBpsIRcVlFgQBgewgARQAAHAAHAABAAQAACgAqAQoAKgIIAAAAAAEAAQ==",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFiKhwZIEAsMgIAEUAABwABwAAQAEAAAoAKgEKACoCCAAAAAABAAE=",
        "10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "",
        "... (truncated or incomplete packet)",
    ),
    (
        "+ly9jswBpsIRcVlFiMxhYmM=",
        "... (ethertype 0x88cc not supported, use 'retis pcap')",
    ),
]

#: frame, text with -e
LINK_LAYER = [
    (
        "rrBKar+vnh09MZ47ht1gBvSKACgGQBERAAAAAAAAAAAAAAAAAAEREQAAAAAAAAAAAAAAAAAC22QAULIRwcAAAAAA"
        "oAL9ICJTAAACBAWgBAIIClP9HoIAAAAAAQMDBw==",
        "9e:1d:3d:31:9e:3b > ae:b0:4a:6a:bf:af ethertype IPv6 (0x86dd) 1111::1.56164 > 1111::2.80"
        " ttl 64 label 0x6f48a len 40 proto TCP (6) flags [S] seq 2987508160 win 64800 [mss 1440,"
        "sackOK,TS val 1409097346 ecr 0,nop,wscale 7]",
    ),
    (
        "+ly9jswBpsIRcVlFgQBgewgARQAAHAAHAABAAQAACgAqAQoAKgIIAAAAAAEAAQ==",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype 802.1Q (0x8100) vlan 123 p 3 ethertype I"
        "Pv4 (0x0800) 10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type "
        "8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFiKhwZIEAsMgIAEUAABwABwAAQAEAAAoAKgEKACoCCAAAAAABAAE=",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype 802.1Q-QinQ (0x88a8) vlan 100 p 3 DEI et"
        "hertype 802.1Q (0x8100) vlan 200 p 5 DEI ethertype IPv4 (0x0800) 10.0.42.1 > 10.0.42.2 t"
        "os 0x0 ttl 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFiEcAAAAA",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype MPLS unicast (0x8847) ... (ethertype 0x8"
        "847 not supported, use 'retis pcap')",
    ),
    (
        "+ly9jswBpsIRcVlFiOUtAAAAAAUAESIzRFVmd3h4eHh4eHh4eHh4eHh4eHg=",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype 802.1AE MACsec (0x88e5) an 1 pn 5 flags "
        "[ECI] sci 0x0011223344556677",
    ),
    (
        "+ly9jswBpsIRcVlFiOUhKAAAAAUAESIzRFVmdwgARQAAHAAHAABAAQAACgAqAQoAKgIIAAAAAAEAAQ==",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype 802.1AE MACsec (0x88e5) an 1 pn 5 flags "
        "[I] sl 40 sci 0x0011223344556677 10.0.42.1 > 10.0.42.2 tos 0x0 ttl 64 id 7 off 0 len 28 "
        "proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAABOAAcAAEARAAAKACoBCgAqAtkDErUAOgAACAAAAAAAKgD6XL2OzAGmwhFxWUUIAEUA"
        "ABwABwAAQAEAAAoAKwEKACsCCAAAAAABAAE=",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype IPv4 (0x0800) 10.0.42.1.55555 > 10.0.42."
        "2.4789 tos 0x0 ttl 64 id 7 off 0 len 78 proto UDP (17) len 50 vxlan [I] vni 0x2a a6:c2:1"
        "1:71:59:45 > fa:5c:bd:8e:cc:01 ethertype IPv4 (0x0800) 10.0.43.1 > 10.0.43.2 tos 0x0 ttl"
        " 64 id 7 off 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    (
        "+ly9jswBpsIRcVlFCABFAABWAAcAAEARAAAKACoBCgAqAgAFF8EAQgAAAoBlWAAAAQABAAEBBhQiPPpcvY7MAabC"
        "EXFZRQgARQAAHAAHAABAAQAACgArAQoAKwIIAAAAAAEAAQ==",
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype IPv4 (0x0800) 10.0.42.1.5 > 10.0.42.2.60"
        "81 tos 0x0 ttl 64 id 7 off 0 len 86 proto UDP (17) len 58 geneve [O] vni 0x1 proto TEB ("
        "0x6558) [class 0x100 type 0x1 len 4 (proto 2 v6 nh 20 tp 34 hlen 60)] a6:c2:11:71:59:45 "
        "> fa:5c:bd:8e:cc:01 ethertype IPv4 (0x0800) 10.0.43.1 > 10.0.43.2 tos 0x0 ttl 64 id 7 of"
        "f 0 len 28 proto ICMP (1) type 8 code 0",
    ),
    ("", "... (truncated or incomplete packet)"),
    # an unknown ethertype prints nothing else, not even the addresses
    ("+ly9jswBpsIRcVlFiMxhYmM=", "... (ethertype 0x88cc not supported, use 'retis pcap')"),
]

TRUNCATED = "... (truncated or incomplete packet)"
ETHERNET4 = bytes(12) + b"\x08\x00"
ETHERNET6 = bytes(12) + b"\x86\xdd"


@pytest.mark.parametrize(("frame", "text"), VECTORS)
def test_frame_prints_as_upstream(frame: str, text: str) -> None:
    assert packet_text(base64.b64decode(frame)) == text


@pytest.mark.parametrize(("frame", "text"), LINK_LAYER)
def test_link_layer_is_shown_on_request(frame: str, text: str) -> None:
    assert packet_text(base64.b64decode(frame), True) == text


def ipv6(next_header: int, payload: bytes) -> bytes:
    head = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + bytes([next_header, 64])
    return ETHERNET6 + head + bytes(15) + b"\1" + bytes(15) + b"\2" + payload


def test_extension_header_beyond_the_capture_is_marked_truncated() -> None:
    text = packet_text(ipv6(0, b"\x3a\x05" + bytes(6)))
    assert text == f"::1 > ::2 ttl 64 label 0x0 len 8 exts [Hopopt]{TRUNCATED}"


def test_esp_over_ipv6_is_marked_truncated() -> None:
    text = packet_text(ipv6(50, b"\x12\x34\x0a\xbc" + bytes(12)))
    assert text == f"::1 > ::2 ttl 64 label 0x0 len 16 exts [Esp]{TRUNCATED}"


def test_clear_macsec_without_ethertype_is_marked_truncated() -> None:
    frame = bytes(12) + b"\x88\xe5" + b"\x01\0\0\0\0\5"
    assert packet_text(frame) == TRUNCATED
    assert packet_text(frame, True).endswith(f" an 1 pn 5 flags []{TRUNCATED}")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (bytes(16), "::"),
        (bytes(15) + b"\1", "::1"),
        (bytes(10) + b"\xff\xff\x0a\0\0\1", "::ffff:10.0.0.1"),
        (bytes(12) + b"\x0a\0\0\1", "::a00:1"),
        (bytes.fromhex("20010db8000000000001000000000001"), "2001:db8::1:0:0:1"),
        (bytes.fromhex("20010db8000100010001000100010000"), "2001:db8:1:1:1:1:1:0"),
    ],
)
def test_ipv6_address_text(address: bytes, text: str) -> None:
    frame = ETHERNET6 + b"\x60\0\0\0\0\0\x3b\x40" + address + bytes(16)
    assert packet_text(frame) == f"{text} > :: ttl 64 label 0x0"


def test_tunnels_in_tunnels_end_somewhere() -> None:
    frame = b""
    for _ in range(1000):
        udp = (
            b"\0\1\x12\xb5"
            + min(len(frame) + 16, 0xFFFF).to_bytes(2, "big")
            + b"\0\0\x08"
            + bytes(7)
            + frame
        )
        head = (
            b"\x45\0"
            + min(len(udp) + 20, 0xFFFF).to_bytes(2, "big")
            + bytes(4)
            + b"\x40\x11"
            + bytes(10)
        )
        frame = ETHERNET4 + head + udp
    text = packet_text(frame)
    assert 40 < text.count("vxlan") < 100
    assert text.endswith(TRUNCATED)


@given(st.binary(max_size=300), st.booleans())
@example(ETHERNET4 + b"\x4f" + bytes(19), False)
def test_any_bytes_give_one_printable_line(data: bytes, link_layer: bool) -> None:
    assert packet_text(data, link_layer).isprintable()


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 255), st.booleans())
def test_any_cut_of_a_frame_gives_one_printable_line(seed: int, cut: int, link_layer: bool) -> None:
    (frame,) = frames(seed, 1)
    assert packet_text(frame[:cut], link_layer).isprintable()
