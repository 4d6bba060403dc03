"""A packet keeps its identity, whatever is done to it, until its data is freed."""

import contextlib
import json
import socket

from tests.support.collect import retis
from tests.support.events import addresses, tracking_id
from tests.support.namespaces import Link, new_namespace, wait_for

ETH_P_ALL = 3  # include/uapi/linux/if_ether.h
PATH = ("-p", "net:netif_receive_skb", "-p", "net:net_dev_start_xmit")


def test_packet_keeps_its_id_through_a_translating_router(three_ns, collect, tmp_path):
    client, server, virtual = three_ns.near.a_address, three_ns.far.b_address, three_ns.VIRTUAL
    with collect("-c", "skb,skb-tracking,dev", "-f", f"icmp and host {virtual}", *PATH) as run:
        three_ns.client.ping(virtual)
    request, reply = run.events[:4], run.events[4:]
    assert [addresses(event)[1] for event in request] == [virtual, virtual, server, server]
    assert [event["dev"]["name"] for event in request] == ["client0", "near0", "far0", "server0"]
    assert len(set(map(tracking_id, request))) == 1
    # the server's answer is first seen with the filtered address where it leaves the router
    assert [addresses(event) for event in reply] == [(virtual, client)] * 2
    assert [event["dev"]["name"] for event in reply] == ["near0", "client0"]
    assert len(set(map(tracking_id, reply))) == 1
    assert tracking_id(reply[0]) != tracking_id(request[0])

    series = tmp_path / "sorted.data"
    done = retis("sort", "-o", series, run.path)
    assert done.returncode == 0, done.stderr
    assert [len(json.loads(line)) for line in series.read_text().splitlines()] == [1, 4, 2]


def test_every_packet_of_a_connection_has_an_id_of_its_own(two_ns, collect):
    probes = ("-p", "net:netif_rx", "-p", "net:net_dev_start_xmit")
    with collect("-c", "skb,skb-tracking", "-f", "tcp port 80", *probes) as run:
        two_ns.tcp(80)
        two_ns.tcp(80)
    sent, received = ([tracking_id(e) for e in run.at(s)] for s in ("net:net_dev_start_xmit", "net:netif_rx"))
    assert sent == received
    assert len(set(sent)) == 14


def test_first_event_of_a_packet_is_when_it_was_first_seen(two_ns, collect):
    with collect("-c", "skb,skb-tracking", "-f", "icmp", *PATH) as run:
        two_ns.a.ping(two_ns.b_address, 3)
    first = {}
    for event in run.events:
        first.setdefault(tracking_id(event), event["common"]["timestamp"])
    assert len(first) == 6
    assert all(timestamp == seen for (timestamp, _), seen in first.items())


def test_packet_keeps_its_id_inside_a_tunnel(two_ns, collect):
    """Encapsulation makes room in front of the packet, which may move its data (pskb_expand_head)."""
    for ns, local, remote, address in (
        (two_ns.a, two_ns.a_address, two_ns.b_address, "10.0.44.1"),
        (two_ns.b, two_ns.b_address, two_ns.a_address, "10.0.44.2"),
    ):
        ns.ip(f"link add vxlan7 type vxlan id 7 local {local} remote {remote} dstport 4789")
        ns.ip(f"address add {address}/24 dev vxlan7")
        ns.ip("link set vxlan7 up")
    with collect("-c", "skb,skb-tracking,dev", "-f", "icmp and host 10.0.44.2", *PATH) as run:
        two_ns.a.ping("10.0.44.2")
    outer = (two_ns.a_address, two_ns.b_address)
    steps = run.expect(
        {"kernel": {"symbol": "net:net_dev_start_xmit"}, "dev": {"name": "vxlan7"}},
        {"kernel": {"symbol": "net:net_dev_start_xmit"}, "dev": {"name": "veth-a"}},
        {"kernel": {"symbol": "net:netif_receive_skb"}, "dev": {"name": "veth-b"}},
        {"kernel": {"symbol": "net:netif_receive_skb"}, "dev": {"name": "vxlan7"}},
    )
    assert len(set(map(tracking_id, steps))) == 1
    assert [addresses(event) for event in steps[1:3]] == [outer] * 2


def test_expanded_head_keeps_the_id(two_ns, collect):
    """A packet that somebody else listens to is a clone, and gets data of its own before a tunnel changes it."""
    two_ns.a.ip(f"tunnel add gre7 mode gre remote {two_ns.b_address} local {two_ns.a_address}")
    two_ns.a.ip("address add 10.0.45.1/24 dev gre7")
    two_ns.a.ip("link set gre7 up")
    with two_ns.a:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    options = ("-c", "skb,skb-tracking,dev", "-f", "udp port 7777", "-p", "net:net_dev_start_xmit")
    with listener, collect(*options, "-p", "pskb_expand_head") as run:
        two_ns.a.send_udp("10.0.45.2", 7777)
    by_device = {event["dev"]["name"]: event for event in run.at("net:net_dev_start_xmit")}
    inner, outer = by_device["gre7"], by_device["veth-a"]
    expanded = [event for event in run.at("pskb_expand_head") if tracking_id(event) == tracking_id(inner)]
    assert expanded
    assert inner["common"]["timestamp"] < expanded[0]["common"]["timestamp"] < outer["common"]["timestamp"]
    assert tracking_id(outer) == tracking_id(inner)


def test_bridge_floods_clones_that_keep_the_id(collect):
    """A broadcast leaves a bridge by each of its ports: as clones, which share the data and so the identity."""
    with contextlib.ExitStack() as stack:
        sender, bridge, one, two = (stack.enter_context(new_namespace(role)) for role in ("s", "br", "o", "t"))
        bridge.ip("link add br0 type bridge")
        links = [Link(host, bridge, f"10.0.{i}", f"host{i} port{i}") for i, host in enumerate((sender, one, two), 50)]
        for link in links:
            bridge.ip(f"link set {link.b_device} master br0")
        bridge.ip("link set br0 up")
        with collect("-c", "skb,skb-tracking,dev", "-f", "udp port 7777", *PATH) as run:
            with sender, socket.socket(type=socket.SOCK_DGRAM) as broadcaster:
                broadcaster.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                broadcaster.sendto(b"to all", ("10.0.50.255", 7777))
            wait_for(lambda: "host52" in run.path.read_text(), "the frame at the last host")
    sent = {event["dev"]["name"]: event for event in run.at("net:net_dev_start_xmit")}
    received = {event["dev"]["name"]: event for event in run.at("net:netif_receive_skb")}
    assert {"host50", "port51", "port52"} <= set(sent)
    assert {"port50", "host51", "host52"} <= set(received)
    assert len(set(map(tracking_id, run.events))) == 1
    # two sk_buffs with the same data leave by the two ports
    assert sent["port51"]["skb-tracking"]["skb"] != sent["port52"]["skb-tracking"]["skb"]
    for port, host in (("port51", "host51"), ("port52", "host52")):
        assert sent[port]["skb-tracking"]["skb"] == received[host]["skb-tracking"]["skb"]
