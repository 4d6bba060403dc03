"""Open vSwitch's kernel half, against the distribution's own ovs-vswitchd."""

import os
import re
import socket
import threading

import pytest

from tests.support.events import addresses, frame, tracking_id
from tests.support.namespaces import new_namespace, wait_for
from tests.support.openvswitch import Bridge, open_vswitch

OVS = ("-c", "ovs,skb,skb-tracking")
FORWARD = ("in_port=1,actions=output:2", "in_port=2,actions=output:1")


@pytest.fixture(scope="module")
def ovs(tmp_path_factory):
    with open_vswitch(tmp_path_factory.mktemp("ovs")) as running:
        yield running


@pytest.fixture(scope="module")
def bridge(ovs):
    with new_namespace("a") as a, new_namespace("b") as b:
        bridge = Bridge(ovs, a, b)
        yield bridge
        bridge.delete()


def ping(bridge, count, flows):
    """One ping, then *count* more when the kernel has the *flows* of IPv4 that the first one brought about."""
    bridge.a.ping(bridge.B)
    wait_for(lambda: sum("eth_type(0x0800)" in flow for flow in bridge.ovs.flows()) >= flows, f"{flows} flows")
    bridge.a.ping(bridge.B, count)


def kinds(events):
    """What happened: the kind of each event, look-ups as hit or miss, actions by name."""
    out = []
    for event in events:
        section = event["ovs"]
        kind = section["event_type"]
        if kind == "flow_lookup":
            kind = "hit" if section["flow"] else "miss"
        out.append(section.get("action", kind) if kind == "action_execute" else kind)
    return out


UP = ["miss", "upcall", "upcall_enqueue", "upcall_return", "output"]


VIRTUAL = "192.168.1.100"
PIPELINE = (
    f"table=0,icmp,in_port=1,actions=ct(commit,zone=7,nat(src={VIRTUAL}),table=1)",
    "table=0,icmp,in_port=2,actions=ct(zone=7,nat,table=1)",
    "table=1,in_port=1,actions=output:2",
    "table=1,in_port=2,actions=output:1",
)


def test_first_packet_goes_up_and_comes_back_later_ones_hit(bridge, collect):
    """Without a filter: plain forwarding first, then connection tracking, translation and recirculation."""
    bridge.know_neighbours(VIRTUAL)
    bridge.set_flows(*FORWARD)
    with collect(*OVS) as run:
        before, masks_before = bridge.ovs.lookups(), bridge.ovs.masks()
        ping(bridge, 2, flows=2)
        after, masks_after = bridge.ovs.lookups(), bridge.ovs.masks()
        ufids = set(re.findall(r"ufid:([\w-]+)", bridge.ovs.appctl("dpctl/dump-flows", "-m")))
        bridge.set_flows(*PIPELINE)
        ping(bridge, 1, flows=4)
        flows = bridge.ovs.flows()
    assert (after[0] - before[0], after[1] - before[1]) == (4, 2)
    series = run.series()
    lookups = [one[0]["ovs"] for one in series[:6]]
    for place, counter in enumerate(("n_mask_hit", "n_cache_hit")):
        assert sum(lookup[counter] for lookup in lookups) == masks_after[place] - masks_before[place]
    # a packet is the same before and after it is translated, and before and after it went through user space, twice
    again = ["ct", "recirc", *UP]
    assert list(map(kinds, series)) == [
        *(UP, UP, *[["hit", "output"]] * 4),
        *([*UP[:-1], *again], [*UP[:-1], *again], *[["hit", "ct", "recirc", "hit", "output"]] * 2),
    ]
    check_upcalls(series[:2])
    check_hits(series[2:6], ufids)
    check_pipeline(series[8:], flows)
    assert "exec ct zone 7 nat(src=192.168.1.100) commit" in run.printed()
    assert run.read_by_upstream() == run.printed()


def check_upcalls(series):
    for first in series:
        miss, upcall, enqueue, returned, output = first
        assert miss["ovs"]["flow"] == miss["ovs"]["sf_acts"] == 0
        key = (upcall["ovs"]["cpu"], upcall["common"]["timestamp"])
        assert (enqueue["ovs"]["upcall_cpu"], enqueue["ovs"]["upcall_ts"]) == key
        assert (returned["ovs"]["upcall_cpu"], returned["ovs"]["upcall_ts"]) == key
        assert enqueue["ovs"]["port"] == upcall["ovs"]["port"]
        assert [upcall["ovs"]["cmd"], enqueue["ovs"]["ret"], returned["ovs"]["ret"]] == [1, 0, 0]
        assert output["ovs"]["queue_id"] == enqueue["ovs"]["queue_id"]
        # the packet came back in another sk_buff
        assert tracking_id(output) != tracking_id(upcall)
        assert same(frame(output)) == same(frame(upcall))
        assert output["common"]["task"]["comm"].startswith("handler")


def same(data):
    """A frame without the checksum of UDP, which the kernel completes for user space only."""
    return data[:40] + data[42:] if data[23] == 17 else data


def check_hits(series, ufids):
    assert all("queue_id" not in output["ovs"] for _, output in series)
    for hit, _ in series:
        assert hit["ovs"]["n_mask_hit"] >= 1
        assert hit["ovs"]["sf_acts"] != 0
        a, b, c, d = hit["ovs"]["ufid"]
        assert f"{a:08x}-{b >> 16:04x}-{b & 0xFFFF:04x}-{c >> 16:04x}-{c & 0xFFFF:04x}{d:08x}" in ufids
    # requests and replies have a flow each
    assert len({hit["ovs"]["flow"] for hit, _ in series}) == 2


def check_pipeline(series, flows):
    """Against what ovs-vswitchd says of the kernel's flows."""
    matched = [re.match(r"recirc_id\((\w+)\),in_port\((\d+)\).* actions:(.*)", flow) for flow in flows]
    known = {(int(flow[1], 0), flow[3]) for flow in matched}
    request, _ = series
    done = set()
    for _, ct, recirc, _, output in series:
        ct, recirc, output = ct["ovs"], recirc["ovs"], output["ovs"]
        assert ct["recirc_id"] == recirc["recirc_id"] == 0
        assert output["recirc_id"] == recirc["id"]
        assert ct["zone_id"] == 7
        nat = f"nat(src={ct['nat']['min_addr']})" if "min_addr" in ct["nat"] else "nat"
        text = f"ct({'commit,' if ct['flags'] & 1 else ''}zone=7,{nat}),recirc({recirc['id']:#x})"
        done |= {(0, text), (output["recirc_id"], str(output["port"]))}
    assert done == known
    assert request[1]["ovs"]["nat"] == {"dir": "src", "min_addr": VIRTUAL, "max_addr": VIRTUAL}


def test_filter_shows_one_direction_and_no_arp_and_enrichment_its_flow(bridge, collect, monkeypatch):
    monkeypatch.setenv("OVS_RUNDIR", str(bridge.ovs.directory))
    bridge.set_flows("arp,actions=flood", *FORWARD)
    bridge.forget_neighbours()
    with collect(*OVS, "-f", f"ip src {bridge.A} and icmp", "--ovs-enrich-flows") as run:
        ping(bridge, 2, flows=2)
        wait_for(lambda: '"ovs-detrace"' in run.path.read_text(), "the flow")
        ufid = re.search(r"ufid:([\w-]+).*in_port\(p1-.*0x0800", bridge.ovs.appctl("dpctl/dump-flows", "-m"))[1]
        flow = bridge.ovs.appctl("dpctl/get-flow", f"ufid:{ufid}")
    bridge.know_neighbours()
    series = run.series()
    packets = [one for one in series if "ovs" in one[0]]
    assert list(map(kinds, packets)) == [UP, ["hit", "output"], ["hit", "output"]]
    assert {addresses(event) for one in packets for event in one} == {(bridge.A, bridge.B)}
    (detrace,) = [event["ovs-detrace"] for one in series for event in one if "ovs-detrace" in event]
    assert detrace["dpflow"].partition(", packets:")[0] == flow.partition(", packets:")[0]
    assert detrace["dpflow"].endswith(f"actions:{packets[1][1]['ovs']['port']}")
    has_rules = "ofproto/detrace" in bridge.ovs.appctl("list-commands")
    assert bool(detrace["ofpflows"]) == has_rules
    assert ("has no ofproto/detrace" in run.stderr) != has_rules
    for hit, _ in packets[1:]:
        assert (hit["ovs"]["dpflow"], hit["ovs"]["ofpflows"]) == (detrace["dpflow"], detrace["ofpflows"])


@pytest.fixture
def flow_each(bridge):
    """Every connection gets a flow of its own."""
    bridge.ovs.appctl("upcall/disable-megaflows")
    yield
    bridge.ovs.appctl("upcall/enable-megaflows")


def test_upcalls_of_two_cpus_at_the_same_time_stay_apart(bridge, collect, flow_each):
    """Two senders, each on a CPU: the datapath works where they do."""
    bridge.set_flows(*FORWARD)
    begin, cpus = threading.Barrier(2), sorted(os.sched_getaffinity(0))[:2]

    def send(ns, here, there, cpu):
        os.sched_setaffinity(0, {cpu})  # of this thread
        with ns:
            senders = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(50)]
        begin.wait()
        for number, sender in enumerate(senders):
            sender.bind((here, 20000 + number))
            sender.sendto(b"x", (there, 7300))
            sender.close()

    ends = ((bridge.a, bridge.A, bridge.B, cpus[0]), (bridge.b, bridge.B, bridge.A, cpus[-1]))
    with collect(*OVS, "-f", "udp dst port 7300") as run:
        threads = [threading.Thread(target=send, args=end) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: run.path.read_bytes().count(b'"output"') >= 100, "100 packets forwarded")
    assert "lost" not in run.stderr
    series = run.series()
    # a handler may be faster than the upcall's return
    assert [sorted(kinds(one)) for one in series] == [sorted(UP)] * 100
    in_order = [sorted(one, key=lambda event: UP.index(kinds([event])[0])) for one in series]
    check_upcalls(in_order)
    assert {(addresses(one[1])[0], one[1]["ovs"]["cpu"]) for one in in_order} == {end[1::2] for end in ends}


def test_restart_of_vswitchd_is_told_and_its_flows_are_enriched_again(bridge, collect, monkeypatch):
    monkeypatch.setenv("OVS_RUNDIR", str(bridge.ovs.directory))
    bridge.set_flows("arp,actions=flood", *FORWARD)

    def send(port):
        bridge.a.send_udp(bridge.B, port)

    def known(flow):
        return any(flow in line for line in bridge.ovs.flows())

    with collect(*OVS, "-f", f"ip src {bridge.A} and udp", "--ovs-enrich-flows") as run:

        def answers():
            return run.path.read_text().count('"ovs-detrace"')

        send(7401)
        wait_for(lambda: known("eth_type(0x0800)"), "a flow")
        bridge.ovs.stop_vswitchd()
        send(7402)  # the flow is for all ports: a hit that nobody can explain
        wait_for(lambda: "ovs-vswitchd is gone" in run.stderr, "the warning")
        before = len(run.lines)
        send(7403)
        wait_for(lambda: len(run.lines) >= before + 2, "the kernel's half going on")
        assert not answers()
        bridge.ovs.start_vswitchd()
        wait_for(lambda: "flow enrichment: asking" in run.stderr, "the new socket found")
        bridge.set_flows("arp,actions=flood", *FORWARD)
        send(7404)
        wait_for(lambda: known("eth_type(0x0800)"), "a flow again")
        send(7405)
        wait_for(answers, "its flow")
    assert run.stderr.count("ovs-vswitchd is gone: flows are not enriched until it is back") == 1
    assert f"asking {bridge.ovs.directory}/ovs-vswitchd.{bridge.ovs.pid}.ctl from now on" in run.stderr
    last = [one for one in run.series() if "ovs" in one[0]][-1]
    assert kinds(last) == ["hit", "output"]
    assert last[0]["ovs"]["dpflow"].endswith(f"actions:{last[1]['ovs']['port']}")
