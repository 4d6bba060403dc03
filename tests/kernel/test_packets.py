"""Every packet is seen, once per probe, in order, with its bytes."""

import pytest

from tests.support.collect import retis
from tests.support.events import addresses, frame, tcp_flags
from tests.support.namespaces import run as run_command

PROBES = ("-p", "net:netif_rx", "-p", "net:net_dev_start_xmit")
ARP, IPV4, VLAN = "0806", "0800", "8100"
FIN, SYN, RST, PSH, ACK = (1 << bit for bit in range(5))


def ethertype(event):
    return frame(event)[12:14].hex()


def test_one_ping_passes_ip_rcv_twice(two_ns, collect):
    with collect("-c", "skb,dev,ns", "-f", "icmp", "-p", "ip_rcv") as run:
        two_ns.a.ping(two_ns.b_address)
    assert len(run.lines) == 3
    request, reply = run.events
    assert (addresses(request), request["dev"]["name"]) == ((two_ns.a_address, two_ns.b_address), "veth-b")
    assert (addresses(reply), reply["dev"]["name"]) == ((two_ns.b_address, two_ns.a_address), "veth-a")
    assert [event["netns"]["inum"] for event in run.events] == [two_ns.b.inum, two_ns.a.inum]


def test_handshake_and_close_are_nine_packets_at_each_probe(two_ns, collect, tmp_path):
    two_ns.forget_neighbours()
    with collect("-c", "skb,skb-tracking,dev", "-f", "tcp port 80 or arp", *PROBES) as run:
        two_ns.tcp(80)
    flags = [SYN, SYN | ACK, ACK, FIN | ACK, ACK, FIN | ACK, ACK]
    for symbol in ("net:netif_rx", "net:net_dev_start_xmit"):
        arp, tcp = run.at(symbol)[:2], run.at(symbol)[2:]
        assert [ethertype(event) for event in arp] == [ARP] * 2
        assert [tcp_flags(event) for event in tcp] == flags
    assert len(run.events) == 18

    pcap = tmp_path / "nine.pcapng"
    done = retis("pcap", "-p", "tp:net:netif_rx", "-o", pcap, run.path)
    assert done.returncode == 0, done.stderr
    packets = run_command("tcpdump", "-nntqr", pcap).splitlines()
    assert len([line for line in packets if line.startswith(("ARP, ", "IP "))]) == 9


def test_captured_bytes_are_those_tcpdump_sees(two_ns, collect, tmp_path):
    seen, ours = tmp_path / "tcpdump.pcap", tmp_path / "retis.pcapng"
    with (
        collect("-c", "skb", "-f", "icmp", "-p", "net:net_dev_start_xmit") as run,
        two_ns.b.tcpdump(seen, "veth-b", "icmp", count=6),
    ):
        two_ns.a.ping(two_ns.b_address, 3, "-s", 100)
    assert retis("pcap", "-p", "tp:net:net_dev_start_xmit", "-o", ours, run.path).returncode == 0
    show = ("tcpdump", "-nntexx", "-r")
    assert _packets(run_command(*show, ours)) == _packets(run_command(*show, seen))
    assert [event["packet"]["len"] for event in run.events] == [142] * 6


def _packets(text):
    return text[text.index("\n") + 1 :] if text.startswith("reading") else text


@pytest.mark.parametrize("offload", ["on", "off"])
def test_vlan_tag_is_in_the_skb_when_offloaded_and_in_the_packet_when_not(two_ns, collect, offload):
    for ns, device, address in (
        (two_ns.a, "veth-a", "10.0.43.1"),
        (two_ns.b, "veth-b", "10.0.43.2"),
    ):
        ns.run("ethtool", "-K", device, "txvlan", offload)
        ns.ip(f"link add link {device} name vlan42 type vlan id 42")
        ns.ip(f"address add {address}/24 dev vlan42")
        ns.ip("link set vlan42 up")
    expression = "icmp" if offload == "on" else "vlan 42 and icmp"
    with collect("-c", "skb,dev", "-f", expression, "-p", "net:net_dev_start_xmit") as run:
        two_ns.a.ping("10.0.43.2")
    request, reply = (event for event in run.events if event["dev"]["name"] != "vlan42")
    for event in (request, reply):
        if offload == "on":
            assert event["skb"]["vlan_accel"] == {"proto": 0x8100, "pcp": 0, "dei": False, "vid": 42}
            assert ethertype(event) == IPV4
        else:
            assert "vlan_accel" not in event.get("skb", {})
            assert frame(event)[12:18].hex() == VLAN + "002a" + IPV4


def test_long_packet_is_captured_up_to_255_bytes(two_ns, collect):
    with collect("-c", "skb", "-f", "icmp", "-p", "net:netif_rx") as run:
        two_ns.a.ping(two_ns.b_address, 1, "-s", 1000, "-p", "5a")
    for event in run.events:
        assert (event["packet"]["len"], event["packet"]["capture_len"]) == (1042, 255)
        assert frame(event)[100:] == b"\x5a" * 155
    assert len(run.events) == 2
