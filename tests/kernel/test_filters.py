"""Filters on live traffic: what matches is reported, and nothing else."""

import socket
import struct
import subprocess
from pathlib import Path

import pytest

from retis_py.errors import RetisError
from retis_py.kernel.types import KernelTypes
from tests.support.events import addresses, frame
from tests.support.inprocess import Wire, collected

SENT = ("-p", "net:net_dev_start_xmit")
RECEIVED = ("net:netif_receive_skb",)
BROADCAST = b"\xff" * 6


def _ip(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    return head + socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.7") + payload


def _ip6(protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    ends = (socket.inet_pton(socket.AF_INET6, address) for address in ("2001:db8::1", "2001:db8::7"))
    return head + b"".join(ends) + payload


def _udp(sport: int, dport: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def _tcp(sport: int, dport: int, flags: int, options: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return struct.pack(">HHIIBBHHH", sport, dport, 1, 0, offset, flags, 512, 0, 0) + options


def _frames(destination: bytes) -> list[bytes]:
    """One frame of each kind, none of which anybody answers: the addresses are nobody's."""
    source = b"\x02\0\0\0\0\x01"

    def ether(kind: int, payload: bytes, to: bytes = destination) -> bytes:
        return to + source + struct.pack(">H", kind) + payload

    arp = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + source + bytes(4) + bytes(6) + bytes(4)
    mss = b"\x02\x04\x05\xb4"
    return [
        ether(0x0800, _ip(6, _tcp(1024, 443, 0x02, mss))),
        ether(0x0800, _ip(6, _tcp(1024, 443, 0x10))),
        ether(0x0800, _ip(6, _tcp(80, 1024, 0x12, b"\x01\x01\x01\x01"))),
        ether(0x0800, _ip(17, _udp(1024, 53, b"q" * 40))),
        ether(0x0800, _ip(17, _udp(1024, 53, b"q" * 16), fragment=0x2000)),
        ether(0x0800, _ip(17, b"r" * 24, fragment=3)),
        ether(0x0800, _ip(1, b"\x08\0\0\0\0\x01\0\x01" + b"e" * 300)),
        ether(0x0800, _ip(1, b"\x03\x03\0\0\0\0\0\0" + _ip(17, _udp(1, 2)))),
        ether(0x86DD, _ip6(17, _udp(1024, 53, b"six"))),
        ether(0x86DD, _ip6(58, b"\x80\0\0\0\0\x01\0\x01")),
        ether(0x86DD, _ip6(6, _tcp(443, 1024, 0x12))),
        ether(0x0806, arp, BROADCAST),
        ether(0x0800, _ip(17, _udp(67, 68, b"b" * 100)), BROADCAST),
        ether(0x8100, struct.pack(">HH", 100, 0x0800) + _ip(17, _udp(1024, 53, b"tagged"))),
        ether(0x88CC, b"lldp" * 12),
    ]


@pytest.fixture(scope="module")
def wire():
    from tests.support.namespaces import join

    with join() as link:
        ends = Wire(link)
        yield link, ends, _frames(bytes.fromhex(link.b.mac(link.b_device).replace(":", "")))
        ends.close()


def _seen(wire, probes=RECEIVED, **options) -> list[bytes]:
    """Which of the frames were reported, in order; where they arrive unless *probes* says otherwise."""
    _, ends, frames = wire
    events = collected(lambda: ends.send(frames), collectors=("skb", "dev"), probes=probes, **options)
    # other traffic on this machine aside
    return [frame(event) for event in events if frame(event) in [sent[:255] for sent in frames]]


def _libpcap_says(expression: str, frames: list[bytes], directory) -> list[bytes]:
    """The frames that tcpdump finds to match in a capture file."""
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = b"".join(struct.pack("=IIII", i, 0, len(f), len(f)) + f for i, f in enumerate(frames))
    (directory / "all.pcap").write_bytes(head + records)
    out = directory / "matching.pcap"
    command = ["tcpdump", "-r", directory / "all.pcap", "-w", out, "-Z", "root", expression]
    subprocess.run(command, check=True, capture_output=True)
    data, at, found = out.read_bytes(), 24, []
    while at < len(data):
        length = struct.unpack_from("=I", data, at + 8)[0]
        found.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return found


PACKET_FILTERS = [
    "tcp dst port 443 and tcp[tcpflags] & tcp-syn != 0",
    "tcp[12] & 0xf0 > 0x50 and tcp[20] = 2",
    "udp port 53",
    "ip[6:2] & 0x1fff != 0",
    "icmp[icmptype] == icmp-echo",
    "icmp6 or (ip6 and tcp src port 443)",
    "src host 2001:db8::1",
    "arp or ether proto 0x88cc",
    "ether broadcast",
    "vlan 100 and udp port 53",
    "greater 200",
    "net 198.51.100.0/24 and not (tcp or udp)",
]


@pytest.mark.parametrize("expression", PACKET_FILTERS)
def test_packet_filter_reports_what_libpcap_matches(wire, tmp_path, expression):
    frames = wire[2]
    matching = _libpcap_says(expression, frames, tmp_path)
    assert 0 < len(matching) < len(frames)
    assert _seen(wire, packet_filter=expression) == [found[:255] for found in matching]


def test_direction_is_refused():
    with pytest.raises(RetisError, match="direction"):
        collected(lambda: None, packet_filter="inbound")


# expression, and what it should say of a frame; the Ethernet header is no part of a received sk_buff's length, and
# integers of network order are compared as they stand in memory
META_FILTERS = [
    ("sk_buff.len > 90", lambda f: len(f) - 14 > 90),
    ("sk_buff.protocol == 0xdd86", lambda f: f[12:14] == b"\x86\xdd"),
    ("sk_buff.protocol:0xff == 0x08 and sk_buff.len <= 48", lambda f: f[12] == 8 and len(f) - 14 <= 48),
    # a bitfield of three bits, of which PACKET_BROADCAST is 1, PACKET_OTHERHOST 3 (include/uapi/linux/if_packet.h)
    ("sk_buff.pkt_type == 1", lambda f: f[:6] == BROADCAST),
    ("sk_buff.pkt_type:~0b10 or sk_buff.len == 308", lambda f: f[:6] == BROADCAST or len(f) == 322),
    ('(sk_buff.dev.name == "veth-b" and sk_buff.len < 50)', lambda f: len(f) - 14 < 50),
    ('sk_buff.dev.name != "veth-b"', lambda f: False),
    # strings behind a pointer: constant ones, and one that was allocated for its length
    ('sk_buff.dev.rtnl_link_ops.kind == "veth" and sk_buff.len > 90', lambda f: len(f) - 14 > 90),
    ('sk_buff.dev.rtnl_link_ops.kind == "vet" or sk_buff.dev.rtnl_link_ops.kind == "veth-b"', lambda f: False),
    ('sk_buff.dev.rtnl_link_ops.kind != "veth of another kind"', lambda f: True),
    ('sk_buff.dev.dev.kobj.name == "veth-b"', lambda f: True),
    ('sk_buff.dev.dev.kobj.name == "veth-"', lambda f: False),
    # casts: of the data to what they are, and one within another
    ("sk_buff.data:~0x0:iphdr.protocol == 17 and sk_buff.len > 24", lambda f: f[23] == 17 and len(f) > 38),
    ("sk_buff.data:~0x0:iphdr.version == 6", lambda f: f[14] >> 4 == 6),
    (
        'sk_buff.dev:~0x0:net_device.ip_ptr:~0x0:in_device.dev:~0x0:net_device.name == "veth-b" and sk_buff.len > 90',
        lambda f: len(f) - 14 > 90,
    ),
    ('sk_buff.dev:~0x0:net_device.ip_ptr:~0x0:in_device.dev:~0x0:net_device.name == "veth-a"', lambda f: False),
]


@pytest.mark.parametrize(("expression", "matches"), META_FILTERS, ids=[text for text, _ in META_FILTERS])
def test_meta_filter_reports_what_matches(wire, expression, matches):
    frames = wire[2]
    assert _seen(wire, meta_filter=expression) == [sent[:255] for sent in frames if matches(sent)]


@pytest.mark.parametrize(
    ("expression", "all_match"),
    [
        # enum socket_state (include/uapi/linux/net.h) of the packet socket that sends
        ("sk_buff.sk.sk_socket.state == SS_UNCONNECTED", True),
        ("sk_buff.sk.sk_socket.state != SS_UNCONNECTED", False),
        ("sk_buff.sk.sk_socket.state == SS_CONNECTED", False),
        ("sk_buff.sk.sk_socket.state > SS_FREE and sk_buff.sk.sk_socket.state < SS_CONNECTED", True),
    ],
)
def test_meta_filter_knows_the_values_of_an_enum_by_name(wire, expression, all_match):
    sent = [frame[:255] for frame in wire[2]]
    assert _seen(wire, probes=("net:net_dev_start_xmit",), meta_filter=expression) == (sent if all_match else [])


@pytest.mark.parametrize("operator", ["<", ">=", "==", "!="])
def test_meta_filter_reads_a_signed_bitfield(wire, operator):
    """Few structures have one: the packets' data are looked at as if they were one of those."""
    types = KernelTypes().vmlinux
    if not types.has_member("bpf_reg_state", "iter.depth"):
        pytest.skip("struct bpf_reg_state of this kernel has no signed bitfield")
    # u32 of 2 bits of state and 30 of depth, behind a pointer and an id
    at = types.offset_of("bpf_reg_state", "iter") + 12
    depths = {f: struct.unpack_from("<i", f, 14 + at)[0] >> 2 for f in wire[2] if len(f) - 14 >= at + 4}
    due = min(depths.values()) if operator == "==" else 0
    assert min(depths.values()) < 0 < max(depths.values())
    seen = _seen(
        wire,
        meta_filter=f"sk_buff.len >= {at + 4} and sk_buff.data:~0x0:bpf_reg_state.iter.depth {operator} {due}",
    )
    holds = {"<": int.__lt__, ">=": int.__ge__, "==": int.__eq__, "!=": int.__ne__}[operator]
    assert seen == [f[:255] for f, depth in depths.items() if holds(depth, due)]


def test_both_filters_must_match(wire):
    seen = _seen(wire, packet_filter="udp", meta_filter="sk_buff.pkt_type == 1")
    assert seen == [sent[:255] for sent in wire[2] if sent[:6] == BROADCAST and sent[12:14] == b"\x08\0"]


def test_meta_filter_tells_devices_apart(two_ns, collect):
    options = ("-c", "skb,dev", "-m", 'sk_buff.dev.name == "veth-b"', "-f", "icmp", *SENT)
    with collect(*options) as run:
        two_ns.a.ping(two_ns.b_address, 3)
    # the answers leave through veth-b; the requests left through veth-a
    assert [event["dev"]["name"] for event in run.events] == ["veth-b"] * 3
    assert [addresses(event) for event in run.events] == [(two_ns.b_address, two_ns.a_address)] * 3


def test_meta_filter_tells_namespaces_apart(two_ns, collect):
    expression = f"sk_buff.dev.nd_net.net.ns.inum == {two_ns.a.inum} and sk_buff.len > 60"
    with collect("-c", "skb,ns", "-m", expression, *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2)
    assert [event["netns"]["inum"] for event in run.events if "packet" in event] == [two_ns.a.inum] * 2


def test_meta_filter_follows_a_cast_to_the_connection(two_ns):
    rules = "table ip t { chain c { type filter hook prerouting priority 0; udp dport 1001 ct mark set 7; }; }"
    two_ns.b.run("nft", "-f", "-", input=rules)

    def traffic() -> None:
        with two_ns.b, socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
            for receiver, port in ((one, 1001), (two, 1002)):
                receiver.bind((two_ns.b_address, port))
                receiver.settimeout(30)
                two_ns.a.send_udp(two_ns.b_address, port)
                receiver.recv(1)

    seen = collected(
        traffic,
        collectors=("skb",),
        probes=("kprobe:ip_local_deliver",),
        packet_filter="udp",
        meta_filter="sk_buff._nfct:~0x7:nf_conn.mark == 7",
    )
    assert [frame(event)[-7:-5] for event in seen] == [struct.pack(">H", 1001)]


@pytest.mark.parametrize(
    ("expression", "reported"),
    [
        ("src host 10.0.42.1 and udp dst port 1001", 3),
        ("src host 10.0.42.1 and udp[8] == 0x78", 3),
        # from the IP header on: 20 bytes, 8 of UDP, and one
        ("src host 10.0.42.1 and len == 29", 3),
        ("src host 10.0.42.1 and len == 43", 0),
        ("src host 10.0.42.1 and not udp", 0),
        ("src host 10.0.42.1 and udp dst port 1002", 0),
        ("arp or tcp or ip6", 0),
        # what only frames have
        ("ether[12:2] == 0x800 and src host 10.0.42.1", 0),
        ("ether proto 0x800 and ether host ff:ff:ff:ff:ff:ff", 0),
        ("vlan or udp", 0),
    ],
)
def test_packet_filter_looks_at_packets_that_are_no_frames_yet(two_ns, expression, reported):
    seen = collected(
        lambda: two_ns.a.send_udp(two_ns.b_address, 1001, count=3),
        collectors=("skb",),
        probes=("kprobe:ip_output",),
        packet_filter=expression,
    )
    assert [addresses(event) for event in seen] == [(two_ns.a_address, two_ns.b_address)] * reported


@pytest.mark.parametrize(
    ("name", "reported"), [("sch_prio", 3), ("sch_pri", 0), ("sch_prio of more than thirty", 0)]
)
def test_meta_filter_compares_an_array_of_more_than_32_bytes(two_ns, name, reported):
    two_ns.a.run("tc", "qdisc", "add", "dev", two_ns.a_device, "root", "prio")
    if "sch_prio" not in Path("/proc/modules").read_text():
        pytest.skip("sch_prio is no module of this kernel, so it has no struct module with a name")
    seen = collected(
        lambda: two_ns.a.ping(two_ns.b_address, 3),
        collectors=("skb",),
        probes=("net:net_dev_start_xmit",),
        packet_filter="icmp[icmptype] == icmp-echo",
        meta_filter=f'sk_buff.dev.qdisc.ops.owner.name == "{name}"',
    )
    assert len(seen) == reported


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"packet_filter": "vlan 100"}, 0),
        ({"packet_filter": "udp port 1001", "meta_filter": "sk_buff.vlan_tci:0xfff == 100"}, 3),
        ({"packet_filter": "udp port 1001", "meta_filter": "sk_buff.vlan_tci:0xfff == 101"}, 0),
    ],
    ids=["packet filter", "meta filter", "another tag"],
)
def test_offloaded_vlan_tag_is_for_the_meta_filter(two_ns, options, reported):
    """veth takes tags beside the packet."""
    two_ns.a.ip(f"link add link {two_ns.a_device} name tagged type vlan id 100")
    two_ns.a.ip("address add 10.0.43.1/24 dev tagged")
    two_ns.a.ip("link set tagged up")
    two_ns.a.ip("neigh replace 10.0.43.2 lladdr 02:00:00:00:00:02 dev tagged")
    seen = collected(
        lambda: two_ns.a.send_udp("10.0.43.2", 1001, count=3),
        collectors=("skb", "dev"),
        probes=("net:net_dev_start_xmit",),
        **options,
    )
    assert [event["dev"]["name"] for event in seen] == [two_ns.a_device] * reported
