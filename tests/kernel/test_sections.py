"""Each collector's section says what the kernel itself says elsewhere."""

import json
import math
import os
import re
import socket
import time

from tests.support.events import addresses, frame, tcp_payload, tracking_id
from tests.support.namespaces import wait_for

PROBES = ("-p", "net:netif_rx", "-p", "net:net_dev_start_xmit")
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h
SKB_GSO_TCPV4 = 1  # include/linux/skbuff.h


def netns(namespace):
    """What the ns collector should say, from the file of the namespace and from a socket in it."""
    with namespace, socket.socket() as probe:
        cookie = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
    return {"cookie": cookie, "inum": namespace.inum}


def test_all_collectors_report_a_ping(two_ns, collect):
    collectors = "skb,skb-tracking,skb-drop,dev,ns"
    with collect("-c", collectors, "--skb-sections", "all", "-f", "icmp", *PROBES) as run:
        two_ns.a.ping(two_ns.b_address)
    # newer kernels report the drop of the answer's clone that no ping socket wanted
    events = [event for event in run.events if event["kernel"]["symbol"] != "skb:kfree_skb"]
    sent, received, answered, got = events
    assert [event["kernel"]["symbol"] for event in events[:2]] == ["net:net_dev_start_xmit", "net:netif_rx"]
    assert [event["netns"] for event in (sent, answered)] == [netns(two_ns.a), netns(two_ns.b)]
    assert sent["dev"] == {"name": "veth-a", "ifindex": two_ns.a.ifindex("veth-a")}
    assert answered["dev"]["name"] == "veth-b"
    assert sent["common"]["task"]["comm"] == "ping"
    for event in events:
        assert event["skb"]["meta"]["data_len"] == 0
        assert event["skb"]["data_ref"]["users"] >= 1
        assert "gso" not in event["skb"]
        assert "skb-drop" not in event
        assert event["packet"]["len"] == 98
    # the Ethernet header is pulled when a packet is received
    assert [event["skb"]["meta"]["len"] for event in (sent, received)] == [98, 84]
    assert tracking_id(sent) == tracking_id(received) != tracking_id(answered) == tracking_id(got)


def test_segments_of_a_large_packet_are_counted(two_ns, collect):
    options = ("-c", "skb", "--skb-sections", "gso,meta", "-f", "tcp dst port 80")
    with collect(*options, "-p", "net:net_dev_start_xmit") as run:
        two_ns.tcp(80, payload=bytes(20_000))
    mss = 1500 - 20 - 32  # IPv4, TCP with time stamps
    large = [event for event in run.events if "gso" in event["skb"]]
    assert large
    for event in large:
        gso = event["skb"]["gso"]
        assert (gso["size"], gso["type"] & SKB_GSO_TCPV4) == (mss, SKB_GSO_TCPV4)
        assert gso["segs"] == math.ceil(tcp_payload(event) / mss) > 1
    assert sum(map(tcp_payload, run.events)) == 20_000


def test_stack_leads_to_the_probed_function(two_ns, collect):
    with collect("-c", "skb", "-f", "icmp", "-p", "ip_rcv/stack", "-p", "net:netif_rx") as run:
        two_ns.a.ping(two_ns.b_address)
    for event in run.at("ip_rcv"):
        stack = event["kernel"]["stack_trace"]
        assert any(line.startswith("ip_rcv+0x") for line in stack)
        assert any(line.startswith("__netif_receive_skb") for line in stack)
    assert len(run.at("ip_rcv")) == 2
    assert not any("stack_trace" in event["kernel"] for event in run.at("net:netif_rx"))


def test_functions_found_in_stacks_are_probed_while_collecting(two_ns, collect):
    options = ("-c", "skb,skb-tracking", "-f", "icmp", "--probe-stack", "-p", "net:netif_receive_skb")
    with collect(*options, "-p", "net:net_dev_start_xmit/stack", main=("--log-level", "debug")) as run:
        two_ns.a.ping(two_ns.b_address)
        wait_for(lambda: "Added probe to ip_output" in run.stderr, "ip_output probed")
        two_ns.a.ping(two_ns.b_address)
    added = set(re.findall(r"Added probe to (\w+)", run.stderr))
    assert {"ip_output", "dev_hard_start_xmit"} <= added
    by_symbol = {symbol: run.at(symbol) for symbol in added}
    # the second ping's request and answer pass where the first one's stacks led through
    assert [addresses(event)[0] for event in by_symbol["ip_output"]] == [two_ns.a_address, two_ns.b_address]
    assert {tracking_id(event) for event in by_symbol["ip_output"]} <= set(map(tracking_id, run.events))
    # traces show only where they were asked for
    for event in run.events:
        assert ("stack_trace" in event["kernel"]) == (event["kernel"]["symbol"] == "net:net_dev_start_xmit")


def test_return_probe_reports_the_packet_it_was_called_with(two_ns, collect):
    """eth_type_trans() leaves the packet alive, unlike functions that end its way."""
    with collect("-c", "skb", "-f", "icmp", "-p", "net:net_dev_start_xmit", "-p", "kr:eth_type_trans") as run:
        two_ns.a.ping(two_ns.b_address)
    assert [event["kernel"]["probe_type"] for event in run.events] == ["raw_tracepoint", "kretprobe"] * 2
    sent, received, *_ = run.events
    assert frame(sent) == frame(received)


def test_startup_event_names_the_machine(two_ns, collect):
    with collect("-c", "skb") as run:
        pass
    startup = json.loads(run.lines[0])["startup"]
    system = os.uname()
    assert startup["machine"] == {
        "kernel_release": system.release,
        "kernel_version": system.version,
        "hardware_name": system.machine,
    }
    assert startup["cmdline"].split()[1:3] == ["collect", "-c"]
    offset = startup["clock_monotonic_offset"]
    assert abs(time.time() - time.monotonic() - offset["sec"] - offset["nsec"] / 1e9) < 1
