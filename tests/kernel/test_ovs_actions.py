"""Actions of Open vSwitch, and packets that need work on their way up to user space, on a real datapath."""

import contextlib
import random
import re
import socket
import struct

import pytest

from tests.kernel.test_ovs import OVS, UP, bridge, kinds, ovs  # noqa: F401
from tests.support.events import brief, frame, tracking_id
from tests.support.namespaces import PATIENCE, wait_for

UDP_SEGMENT = 103  # include/uapi/linux/udp.h
A6, B6 = "fd00:42::1", "fd00:42::2"


@pytest.fixture(scope="module")
def both_families(bridge):  # noqa: F811
    """IPv6 addresses and neighbours, too."""
    for ns, address, other, there in ((bridge.a, A6, B6, bridge.b), (bridge.b, B6, A6, bridge.a)):
        ns.sysctl("net/ipv6/conf/eth0/disable_ipv6", 0)
        ns.ip(f"address add {address}/64 dev eth0 nodad")
        ns.ip(f"neigh replace {other} lladdr {there.mac('eth0')} dev eth0")
    return bridge


def send(switch, port, payload=b"x", address=None):
    """One packet from a to b, from the port it goes to."""
    family = socket.AF_INET6 if address else socket.AF_INET
    with switch.a, socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind(("", port))
        sender.sendto(payload, (address or switch.B, port))


def actions(run):
    """Source port -> sections of the actions on its packet, in order."""
    found = {}
    for one in run.series():
        if "ovs" in one[0]:
            data = frame(one[0])
            (port,) = struct.unpack_from("!H", data, 34 if data[12:14] == b"\x08\0" else 54)
            did = [event["ovs"] for event in one if event["ovs"]["event_type"] == "action_execute"]
            found.setdefault(port, []).extend(did)
    return found


#: what OpenFlow's nat() says, and bits of our flags: 4 nat, 5 src, 6 dst, 7 addresses, 8 ports, 9 hash, 10 persistent,
#: 11 random
NAT4, NAT6 = 1 << 2 | 1 << 4, 1 << 3 | 1 << 4
SRC, DST, IPS, PROTO, HASH, PERSISTENT, RANDOM = (1 << bit for bit in range(5, 12))
TRANSLATIONS = {
    7500: ("src=192.168.1.100-192.168.1.110:5000-5999", NAT4 | SRC | IPS | PROTO),
    7501: ("dst=192.168.1.2-192.168.1.3:8000-8009", NAT4 | DST | IPS | PROTO),
    7502: ("src=192.168.1.100,random", NAT4 | SRC | IPS | RANDOM),
    7503: ("src=192.168.1.100-192.168.1.101,persistent,hash", NAT4 | SRC | IPS | PERSISTENT | HASH),
    7504: ("src=[fd00:42::100]-[fd00:42::110]:5000-5999", NAT6 | SRC | IPS | PROTO),
    7505: ("dst=fd00:42::2-fd00:42::3", NAT6 | DST | IPS),
}


def test_translations_by_ranges_are_those_dpctl_dumps(both_families, collect):
    switch = both_families
    switch.set_flows(
        *(
            f"table=0,{'udp6' if ':4' in nat else 'udp'},in_port=1,tp_dst={port},"
            f"actions=ct(commit,zone={port - 7000},nat({nat}),table=1)"
            for port, (nat, _) in TRANSLATIONS.items()
        ),
        "table=1,in_port=1,actions=output:2",
    )
    with collect(*OVS, "-f", "udp") as run:
        for port, (nat, _) in TRANSLATIONS.items():
            send(switch, port, address=B6 if ":4" in nat else None)
        wait_for(lambda: run.path.read_bytes().count(b'"output"') >= len(TRANSLATIONS), "all forwarded")
        wait_for(lambda: len(re.findall(r"actions:ct\(commit", str(switch.ovs.flows()))) >= len(TRANSLATIONS), "flows")
        flows = switch.ovs.flows()
    found = actions(run)
    dumped = {re.search(r"actions:(ct\(.*\)),recirc", flow)[1] for flow in flows if "actions:ct(commit" in flow}
    told = set()
    for port, (_, flags) in TRANSLATIONS.items():
        assert [section["action"] for section in found[port]] == ["ct", "recirc", "output"]
        ct = found[port][0]
        assert (ct["zone_id"], ct["flags"]) == (port - 7000, flags | 1)
        told.add(f"ct(commit,zone={ct['zone_id']},{as_dumped(ct['nat'], ct['flags'])})")
    assert told == dumped


def as_dumped(nat, flags):
    """lib/odp-util.c of Open vSwitch says how: brackets around IPv6 addresses where ports follow."""
    ports = "min_port" in nat
    low, high = (f"[{nat[end]}]" if ports and ":" in nat[end] else nat[end] for end in ("min_addr", "max_addr"))
    text = f"{nat['dir']}={low}" + (f"-{high}" if high != low else "")
    if ports:
        text += f":{nat['min_port']}" + (f"-{nat['max_port']}" if nat["max_port"] != nat["min_port"] else "")
    words = [word for bit, word in ((PERSISTENT, "persistent"), (HASH, "hash"), (RANDOM, "random")) if flags & bit]
    return f"nat({','.join([text, *words])})"


#: OpenFlow actions, what the datapath is told, and what our events call what it did, after the upcall and before output
BY_NAME = {
    7520: ("controller,output:2", "userspace(", ["userspace"]),
    7521: ("mod_nw_tos:32,output:2", "set(ipv4(", ["set_masked"]),
    7522: ("mod_vlan_vid:5,output:2", "push_vlan(", ["push_vlan"]),
    7523: ("mod_vlan_vid:5,output:2,strip_vlan,output:2", "pop_vlan", ["push_vlan", "output", "pop_vlan"]),
    7524: ("clone(ct(commit,zone=9)),output:2", "clone(ct(", ["clone", "ct"]),
    7525: ("sample(probability=65534,collector_set_id=1),output:2", "sample(", ["sample", "userspace"]),
    7526: ("output(port=2,max_len=64)", "trunc(64)", ["trunc"]),
    7527: ("push_mpls:0x8847,output:2", "push_mpls(", ["push_mpls"]),
    7528: ("check_pkt_larger(100)->NXM_NX_REG0[0],output:2", "check_pkt_len(", ["check_pkt_len"]),
    7529: ("set_field:192.168.1.9->tun_dst,output:3,output:2", "set(tunnel(", ["set", "output"]),
}


@pytest.fixture
def exporter(bridge):  # noqa: F811
    """Where samples go."""
    collector = ("--id=@b", "get", "bridge", bridge.name, "--", "--id=@i", "create", "IPFIX", r'targets="127.0.0.1:9"')
    table = ("create", "Flow_Sample_Collector_Set", "id=1", "bridge=@b", "ipfix=@i")
    bridge.ovs.vsctl("--", *collector, "--", *table)
    yield
    bridge.ovs.vsctl("--", "--all", "destroy", "Flow_Sample_Collector_Set")


@pytest.fixture
def tunnel(bridge):  # noqa: F811
    port = f"vx{bridge.name}"
    options = ("type=vxlan", "options:remote_ip=flow", "ofport=3")
    bridge.ovs.vsctl("add-port", bridge.name, port, "--", "set", "interface", port, *options)
    yield
    bridge.ovs.vsctl("del-port", port)


def test_actions_are_told_by_name(bridge, exporter, tunnel, collect):  # noqa: F811
    bridge.set_flows(
        *(f"udp,in_port=1,tp_dst={port},actions={openflow}" for port, (openflow, *_) in BY_NAME.items()),
    )
    missing = {}
    with collect(*OVS, "-f", "udp") as run:
        for port, (_, datapath, _) in BY_NAME.items():
            send(bridge, port)
            with contextlib.suppress(TimeoutError):
                wait_for(lambda datapath=datapath: datapath in "".join(bridge.ovs.flows()), datapath, 10)
                continue
            missing[port] = bridge.ovs.flows()
    found = {port: [section["action"] for section in did] for port, did in actions(run).items()}
    assert not missing, missing
    assert found == {port: [*names, "output"] for port, (*_, names) in BY_NAME.items()}


def test_tagged_packet_that_goes_up_comes_back_as_the_same(bridge, collect):  # noqa: F811
    """Its tag is beside the packet on the way up, and in it for user space."""
    bridge.set_flows("in_port=1,actions=output:2", "in_port=2,actions=output:1")
    for ns, other, address, there in (
        (bridge.a, bridge.b, "192.168.5.1", "192.168.5.2"),
        (bridge.b, bridge.a, "192.168.5.2", "192.168.5.1"),
    ):
        ns.ip("link add link eth0 name eth0.5 type vlan id 5")
        ns.ip(f"address add {address}/24 dev eth0.5")
        ns.ip("link set eth0.5 up")
        ns.ip(f"neigh replace {there} lladdr {other.mac('eth0')} dev eth0.5")
    with collect(*OVS, "-f", "udp") as run:
        bridge.a.send_udp("192.168.5.2", 7550, b"tagged")
        wait_for(lambda: '"output"' in run.path.read_text(), "it comes back")
    for ns in (bridge.a, bridge.b):
        ns.ip("link del eth0.5")
    (one,) = [one for one in run.series() if "ovs" in one[0]]
    assert sorted(kinds(one)) == sorted(UP)
    events = dict(zip(kinds(one), one))
    assert events["upcall"]["skb"]["vlan_accel"]["vid"] == 5
    assert events["upcall_enqueue"]["ovs"]["queue_id"] == events["output"]["ovs"]["queue_id"]
    assert tracking_id(events["upcall"]) != tracking_id(events["output"])


def test_segments_of_a_large_packet_that_goes_up_are_one_series(bridge, collect):  # noqa: F811
    """The kernel cuts it up for user space: one upcall, and as many packets in the queue as there are segments."""
    forward = ("in_port=1,actions=output:2", "in_port=2,actions=output:1")
    bridge.set_flows(*forward)
    payload = random.Random(7560).randbytes(10 * (1500 - 20 - 32))
    # on a slow machine, a packet that is still on its way would be sent again: the same data, once more
    bridge.a.ip(f"route replace {bridge.B}/32 dev eth0 rto_min 30s")
    bridge.a.sysctl("net/ipv4/tcp_early_retrans", 0)
    with contextlib.ExitStack() as stack:
        with bridge.b:
            listener = stack.enter_context(socket.create_server((bridge.B, 7560)))
        with bridge.a:
            client = stack.enter_context(socket.create_connection((bridge.B, 7560), timeout=PATIENCE))
        server = stack.enter_context(listener.accept()[0])
        run = stack.enter_context(collect(*OVS, "--skb-sections", "gso", "-f", "tcp dst port 7560"))
        bridge.set_flows(*forward)  # what comes next has to go up
        client.sendall(payload)
        assert server.recv(len(payload), socket.MSG_WAITALL) == payload
    up = [one for one in run.series() if "upcall" in kinds(one)]
    segments = []
    for one in up:
        if kinds(one).count("upcall") > 1:
            continue  # sent again, and up again, before it had come back
        upcall = one[kinds(one).index("upcall")]
        segments.append(upcall["skb"]["gso"]["segs"] if "gso" in upcall["skb"] else 1)
        # overtaken by packets that came later and found the flow, TCP may send the data again: it is no command's then
        queued, back = (
            [event["ovs"]["queue_id"] for event in one if event["ovs"].get(key) == name and "queue_id" in event["ovs"]]
            for key, name in (("event_type", "upcall_enqueue"), ("action", "output"))
        )
        assert len(set(queued)) == segments[-1]
        assert sorted(queued) == sorted(back)
    assert max(segments) > 1


def test_segments_with_their_payload_in_pages_are_one_series(bridge, collect):  # noqa: F811
    """Of those only the headers, 42 bytes, are linear, and what a queue id is made from."""
    bridge.set_flows("in_port=1,actions=output:2", "in_port=2,actions=output:1")
    segments = [b"%04d" % number * 100 for number in range(5)]
    with collect(*OVS, "--skb-sections", "gso", "-f", "udp dst port 7560") as run:
        with bridge.a, socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, len(segments[0]))
            sender.sendto(b"".join(segments), (bridge.B, 7560))
        wait_for(lambda: run.path.read_bytes().count(b'"output"') >= len(segments), "all segments back")
    series = [one for one in run.series() if "ovs" in one[0]]
    assert len(series) == 1, [[brief(event) for event in one] for one in series]
    (one,) = series
    assert sorted(kinds(one)) == sorted(["miss", "upcall", "upcall_return", *["upcall_enqueue", "output"] * 5])
    assert one[kinds(one).index("upcall")]["skb"]["gso"]["segs"] == len(segments)
    outputs = [event for event in one if event["ovs"].get("action") == "output"]
    assert sorted(frame(event)[42:46] for event in outputs) == [segment[:4] for segment in segments]
