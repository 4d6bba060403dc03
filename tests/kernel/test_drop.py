"""Dropped packets: which, where and why."""

from tests.support.events import addresses

DROPS = ("-c", "skb-drop,skb,dev")


def test_syn_to_closed_port_is_dropped_for_no_socket(two_ns, collect):
    connect = f"ip netns exec {two_ns.a.name} bash -c '</dev/tcp/{two_ns.b_address}/443'"
    with collect(*DROPS, "-f", "tcp", "--cmd", connect) as run:
        run.wait()
    (event,) = run.events
    assert event["kernel"] == {"symbol": "skb:kfree_skb", "probe_type": "raw_tracepoint"}
    assert event["skb-drop"] == {"drop_reason": "NO_SOCKET"}
    assert addresses(event) == (two_ns.a_address, two_ns.b_address)
    ifindex = two_ns.b.ifindex("veth-b")
    assert event["dev"] == {"name": "veth-b", "ifindex": ifindex, "rx_ifindex": ifindex}
    assert "Command returned (exit status: " in run.stderr
    assert "1 event(s) processed" in run.stderr


def test_packet_refused_by_a_rule_is_dropped_by_netfilter(two_ns, collect):
    rules = "table ip t { chain c { type filter hook input priority 0; udp dport 5353 counter drop; }; }"
    two_ns.b.run("nft", "-f", "-", input=rules)
    with collect(*DROPS, "-f", "udp port 5353") as run:
        two_ns.a.send_udp(two_ns.b_address, 5353, count=23)
    assert "counter packets 23 " in two_ns.b.run("nft", "list", "ruleset")
    assert [event["skb-drop"]["drop_reason"] for event in run.events] == ["NETFILTER_DROP"] * 23


def test_filter_leaves_out_other_drops(two_ns, collect):
    with collect(*DROPS, "-f", "udp port 5353") as run:
        two_ns.a.send_udp(two_ns.b_address, 5354, count=3)
        two_ns.a.send_udp(two_ns.b_address, 5353)
        two_ns.a.connect(two_ns.b_address, 5353)
    (event,) = run.events
    assert event["skb-drop"]["drop_reason"] == "NO_SOCKET"
