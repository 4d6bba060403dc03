"""Open vSwitch's kernel half, against the distribution's own ovs-vswitchd."""

import re

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
        before = bridge.ovs.lookups()
        ping(bridge, 2, flows=2)
        after = bridge.ovs.lookups()
        ufids = set(re.findall(r"ufid:([\w-]+)", bridge.ovs.appctl("dpctl/dump-flows", "-m")))
        bridge.set_flows(*PIPELINE)
        ping(bridge, 1, flows=4)
        flows = bridge.ovs.flows()
    assert (after[0] - before[0], after[1] - before[1]) == (4, 2)
    series = run.series()
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
        assert frame(output) == frame(upcall)
        assert output["common"]["task"]["comm"].startswith("handler")


def check_hits(series, ufids):
    assert all("queue_id" not in output["ovs"] for _, output in series)
    for hit, _ in series:
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
