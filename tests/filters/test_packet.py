"""The translated packet filter against libpcap itself, on this machine's compiler."""

from __future__ import annotations

import contextlib
import ctypes
import random
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from retis_py.errors import FilterError
from retis_py.filters import packet as subject
from retis_py.paths import bpf_dir

CC = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")

#: what bpf/core.h and the BPF helpers are to the generated functions
SHIM = """
#include <stdint.h>
#include <string.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef int32_t s32;
#define __always_inline inline
#define ntohs(v) __builtin_bswap16(v)
#define ntohl(v) __builtin_bswap32(v)
static int bpf_probe_read_kernel(void *to, u32 size, const void *from) { memcpy(to, from, size); return 0; }
#define read_number bpf_probe_read_kernel
#define PACKET_BYTES 128
"""
#: with the whole header at hand
CALL = """
int match_{n}(unsigned char *frame, u32 len, u32 linear)
{{
	struct packet pkt = {{ .start = frame, .linear = linear, .len = len }};
	memcpy(pkt.bytes, frame, linear < PACKET_BYTES ? linear : PACKET_BYTES);
	return filter_{n}(&pkt);
}}
"""

#: as the programs have it: the header at hand is as long as the filter wants it, so struct packet is one per filter
BOTH = """
#undef PACKET_BYTES
#define PACKET_BYTES {bulk}
#define packet packet_{n}
#define load_bytes load_bytes_{n}
#define packet_filter_l2 filter_l2_{n}
#define packet_filter_l3 filter_l3_{n}
{header}
{text}
static int match_{n}(unsigned char *frame, u32 len, u32 linear, int (*filter)(struct packet *))
{{
	struct packet pkt = {{ .start = frame, .linear = linear, .len = len }};
	memcpy(pkt.bytes, frame, linear < PACKET_BYTES ? linear : PACKET_BYTES);
	return filter(&pkt);
}}
int match_l2_{n}(unsigned char *frame, u32 len, u32 end) {{ return match_{n}(frame, len, end, packet_filter_l2); }}
int match_l3_{n}(unsigned char *frame, u32 len, u32 end) {{ return match_{n}(frame, len, end, packet_filter_l3); }}
#undef packet
#undef load_bytes
#undef packet_filter_l2
#undef packet_filter_l3
"""
#: the first frame about which ours and libpcap differ, -1 if there is none; without a program nothing may match
COMPARE = """
struct header { long sec, usec; u32 caplen, len; };
long compare(int (*ours)(unsigned char *, u32, u32), int (*libpcap)(const void *, const void *, const void *),
		const void *program, unsigned char *frames, const u32 *table, u32 count, u32 *matched)
{
	for (u32 i = 0; i < count; i++, table += 3) {
		struct header header = { 0, 0, table[2], table[1] };
		int due = program && libpcap(program, &header, frames + table[0]);

		if (!ours(frames + table[0], table[1], table[2]) != !due)
			return i;
		*matched += due;
	}
	return -1;
}
"""

FIXED = [
    "tcp port 443",
    "icmp",
    "icmp[icmptype] == icmp-echo",
    "arp",
    "ip6",
    "vlan",
    "vlan 100 and ip",
    "ether broadcast",
    "ether host 02:00:00:00:00:01",
    "ip src 10.0.0.1 and icmp",
    "host 10.0.0.1 or arp",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[12] & 0xf0 > 0x50",
    "tcp[(tcp[12]>>4)*4:2] = 0x4745",
    "ip[6:2] & 0x1fff != 0",
    "len > 100",
    "less 80",
    "greater 90",
    "udp portrange 1000-2000",
    "net 10.0.0.0/8 and not tcp",
    "ip proto 47",
    "ip6 and tcp dst port 80",
    "ip[2:2] % 7 == 3",
    "ip[8] * 2 + 1 > 64",
    "ip[1] << 3 == 8",
    "(ip[9] ^ 6) == 0",
    "ip[0] - 5 > 60",
    "ip[2:2] / 3 == 28",
    "sctp or udp port 53",
    "mpls",
    "pppoes",
    "ether[0] & 1 == 1",
    "ip multicast",
    "ip6 multicast",
    # loads across the end of the header at hand, of frames and of bare packets
    "ip[113] & 3 == 1 or ip[112:4] & 1 == 1",
    "ip[127] & 3 == 1 or ip[126:4] & 1 == 1",
    # an offset that overflows is no offset
    "ip[ip[0] - 83] & 3 != 1",
]


def _random_expression(rng: random.Random) -> str:
    def term() -> str:
        return rng.choice(
            [
                f"{rng.choice(['tcp', 'udp', 'tcp src', 'udp dst'])} port {rng.choice([80, 443, 53, 1234])}",
                f"{rng.choice(['src', 'dst', 'ip src', ''])} host 10.0.0.{rng.randrange(1, 4)}".strip(),
                f"net 10.0.{rng.randrange(3)}.0/24",
                rng.choice(["icmp", "arp", "ip", "ip6", "tcp", "udp", "icmp6"]),
                f"ip[{rng.randrange(20)}] & {rng.randrange(1, 256):#x} {rng.choice(['==', '!='])} {rng.randrange(256)}",
                f"tcp[{rng.randrange(20)}:{rng.choice([1, 2, 4])}] > {rng.randrange(5000)}",
                f"udp[{rng.randrange(8)}] == {rng.randrange(256)}",
                f"len {rng.choice(['<', '>', '=='])} {rng.randrange(40, 140)}",
                f"ip proto {rng.choice([1, 6, 17, 47])}",
            ]
        )

    words = [term()]
    for _ in range(rng.randrange(3)):
        words += [rng.choice(["and", "or", "and not"]), term()]
    return " ".join(words)


def _frame(rng: random.Random) -> bytes:
    """A frame that filters like these tell apart: often well formed, sometimes cut or mangled."""
    proto = rng.choice([1, 6, 6, 17, 17, 47, 58, 132])
    ports = [rng.choice([80, 443, 53, 1234, 1500]) for _ in range(2)]
    l4 = struct.pack(">HH", *ports) + rng.randbytes(rng.randrange(90))
    macs = rng.choice([b"\xff" * 6, b"\x02\0\0\0\0\1", rng.randbytes(6)]) + b"\x02\0\0\0\0\2"
    kind = rng.choice([0x0800, 0x0800, 0x0800, 0x86DD, 0x0806, 0x8847, rng.randrange(65536)])
    addresses = bytes([10, 0, rng.randrange(3), rng.randrange(4)]) + bytes([10, 0, 0, rng.randrange(4)])
    if kind == 0x0800:
        ihl = rng.choice([5, 5, 5, 6, 15])
        fragment = rng.choice([0, 0, 0, 0x2000, 0x2005, 0x4000])
        body = struct.pack(">BBHHHBBH", 0x40 | ihl, rng.randrange(256), 4 * ihl + len(l4), 7, fragment, 64, proto, 0)
        body += addresses + rng.randbytes(4 * ihl - 20) + l4
    elif kind == 0x86DD:
        body = struct.pack(">IHBB", 0x60000000, len(l4), proto, 64) + rng.randbytes(32) + l4
    else:
        body = rng.randbytes(rng.randrange(60))
    tag = struct.pack(">HH", 0x8100, rng.choice([100, 5])) if rng.random() < 0.15 else b""
    frame = macs + tag + struct.pack(">H", kind) + body
    if rng.random() < 0.1:
        frame = frame[: rng.randrange(1, len(frame))]
    return frame


def _filters(expressions: Iterable[str]) -> Iterator[tuple[str, subject.PacketFilter]]:
    for expression in expressions:
        with contextlib.suppress(FilterError):
            yield expression, subject.packet_filter(expression)


def _table(frames: list[bytes]) -> ctypes.Array[ctypes.c_uint32]:
    """Where each frame begins, its length, and how much of it is linear: not all of some."""
    rows, at = [], 0
    for frame in frames:
        rows += [at, len(frame), len(frame) if frame[0] & 7 else max(1, len(frame) // 2)]
        at += len(frame)
    return (ctypes.c_uint32 * len(rows))(*rows)


def _compiled(filters: list[subject.PacketFilter], directory: Path) -> ctypes.CDLL:
    """`match_l2_N` and `match_l3_N` of each of *filters*, and `compare`."""
    header = (bpf_dir() / "packet.h").read_text()
    parts = [BOTH.format(n=n, header=header, text=found.text, bulk=found.bulk) for n, found in enumerate(filters)]
    (directory / "filters.c").write_text("\n".join([SHIM, COMPARE, *parts]))
    library = directory / "filters.so"
    subprocess.run([CC, "-w", "-O1", "-shared", "-fPIC", "-o", library, directory / "filters.c"], check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_translated_filter_agrees_with_libpcap(tmp_path: Path) -> None:
    rng = random.Random(20260512)
    # what libpcap refuses, being always false, is left out
    filters = dict(_filters(FIXED)) | dict(_filters(_random_expression(rng) for _ in range(300)))
    assert sum(expression not in FIXED for expression in filters) >= 200
    compiled = _compiled(list(filters.values()), tmp_path)
    pcap = ctypes.cast(subject._libpcap().pcap_offline_filter, ctypes.c_void_p)
    compiled.compare.restype = ctypes.c_long

    ethernet = [_frame(rng) for _ in range(10_000)]
    bare = [frame[14:] or b"\0" for frame in ethernet]
    for name, linktype, frames in (("l2", subject.DLT_EN10MB, ethernet), ("l3", subject.DLT_RAW, bare)):
        data, table, matched = b"".join(frames), _table(frames), ctypes.c_uint32()
        for number, (expression, found) in enumerate(filters.items()):
            reference = None
            if name == "l2" or found.l3:
                program = subject.compile_pcap(expression, linktype)
                insns = (subject._Insn * len(program))(*[tuple(ins) for ins in program])
                reference = ctypes.byref(subject._Program(len(program), insns))
            ours = ctypes.cast(getattr(compiled, f"match_{name}_{number}"), ctypes.c_void_p)
            at = compiled.compare(ours, pcap, reference, data, table, len(frames), ctypes.byref(matched))
            assert at < 0, (name, expression, frames[at].hex(), table[3 * at + 2])
        assert matched.value > 100_000, "frames and filters must meet"
    # the header at hand ends before, at and behind the end of what a filter looks at
    assert {8, 16, 24, 32, 40} <= {found.bulk for found in filters.values()}


def test_syntax_error_is_told_in_libpcaps_words() -> None:
    with pytest.raises(FilterError, match=r"libpcap error: .*syntax error") as error:
        subject.packet_filter("tcp prt 443")
    assert "tcp prt 443" in error.value.hint


@pytest.mark.parametrize(
    "expression",
    ["\udcff", "host \udcff and tcp", "ip[0] == " + "9" * 5000, "(" * 5000 + "tcp"],
    ids=["bytes", "bytes in it", "digits", "parentheses"],
)
def test_filter_beyond_all_reason_is_refused(expression: str) -> None:
    with pytest.raises(FilterError, match="Could not compile the filter") as error:
        subject.packet_filter(expression)
    f"{error.value}{error.value.hint}".encode()


@pytest.mark.parametrize(
    ("expression", "l3"),
    [
        ("tcp port 443", True),
        ("arp or tcp port 443", True),
        ("ether broadcast or tcp", False),
        ("vlan", False),
        ("ether[0] = 1", False),
    ],
)
def test_bare_ip_packets_are_looked_at_where_that_makes_sense(expression: str, l3: bool) -> None:
    assert subject.packet_filter(expression).l3 is l3


@pytest.mark.parametrize("expression", ["inbound", "outbound and tcp"])
def test_packet_direction_is_refused(expression: str) -> None:
    with pytest.raises(FilterError):
        subject.packet_filter(expression)


def test_constant_offsets_are_read_in_one_copy() -> None:
    found = subject.packet_filter("tcp[13] & 2 != 0 and ip src 10.0.0.1")
    # only the offset that depends on the IP header's length costs a read of its own
    assert found.text.count("load_bytes(pkt,") == 2  # one in each of the two functions
    assert found.bulk == 32  # up to the source address, at 26 of an Ethernet frame


def test_filter_beyond_all_measure_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # libpcap itself takes minutes to reach the real limit
    monkeypatch.setattr(subject, "_MAX_INSTRUCTIONS", 30)
    with pytest.raises(FilterError, match=r"too complex: 33 instructions, at most 30"):
        subject.packet_filter("host 10.0.0.1 or host 10.0.0.2 or host 10.0.0.3")
    assert subject.packet_filter("host 10.0.0.1").size <= 30
