"""Filters on live traffic: what matches is reported, and nothing else."""

from tests.support.events import addresses

SENT = ("-p", "net:net_dev_start_xmit")


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
