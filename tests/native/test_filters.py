"""Filters of more kinds than the lab has time for, on this machine's own kernel."""

import pytest

SENT = ("-p", "net:net_dev_start_xmit")


@pytest.mark.parametrize(
    ("expression", "reported"),
    [
        ("sk_buff.mark == 7", 2),
        ("sk_buff.mark:0x5 == 5 and sk_buff.dev.ifindex > 0", 2),
        ("sk_buff.mark != 7", 0),
        ("sk_buff.mark < 7 or sk_buff.mark > 7", 0),
    ],
)
def test_meta_filter_compares_numbers(two_ns, collect, expression, reported):
    with collect("-c", "skb", "-f", "icmp[icmptype] == icmp-echo", "-m", expression, *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2, "-m", "7")
    assert len(run.events) == reported


@pytest.mark.parametrize(
    ("expression", "reported"),
    [("greater 1000", 0), ("less 1000", 2), ("len == 98", 2), ("ip[8] == 64 and not host 1.2.3.4", 2)],
)
def test_packet_filter_sees_the_frame(two_ns, collect, expression, reported):
    with collect("-c", "skb", "-f", f"icmp[icmptype] == 8 and ({expression})", *SENT) as run:
        two_ns.a.ping(two_ns.b_address, 2)
    assert len(run.events) == reported
