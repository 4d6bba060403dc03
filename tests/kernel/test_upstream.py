"""Files are exchangeable: upstream's own reader sees in them what we print."""


def test_upstream_reads_every_section_with_the_same_text(two_ns, collect):
    probes = ("-p", "net:netif_rx", "-p", "net:net_dev_start_xmit", "-p", "ip_rcv", "-p", "kr:tcp_v4_rcv")
    collectors = "skb,skb-tracking,skb-drop,dev,ns"
    two_ns.forget_neighbours()
    with collect("-c", collectors, "--skb-sections", "all", "--stack", *probes) as run:
        two_ns.a.ping(two_ns.b_address)
        two_ns.tcp(80, payload=bytes(20_000))
        two_ns.a.connect(two_ns.b_address, 443)
        two_ns.a.send_udp(two_ns.b_address, 53)
    seen = set().union(*run.events)
    assert {"common", "kernel", "skb-tracking", "skb-drop", "packet", "skb", "netns", "dev"} <= seen
    assert run.read_by_upstream() == run.printed()
