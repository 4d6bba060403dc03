"""ct: what it says of a router's connections is what conntrack(8) says, packet by packet.

One run sees them all; natively (tests/native/test_ct.py) the same tests work from tracepoints alone.
"""

import json
from dataclasses import dataclass

import pytest

from tests.support.collect import Collect
from tests.support.conntrack import IPS, SCTP_TAGS, Port, connection, count_connections, listed, prepare, send_all
from tests.support.events import Event, addresses, frame
from tests.support.fixtures import Router, route
from tests.support.tracing import has_kprobes, refuse_unless

COLLECTORS = "skb,skb-tracking,dev,ct"
NAT_DONE = 0x180  # IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE


@dataclass
class Seen:
    """What was collected while `send_all` ran, and what the router's conntrack listed afterwards."""

    run: Collect
    sent: list[Event]
    listed: list[Event]
    #: connections in the other namespaces
    elsewhere: int

    def of(self, port: int, proto: str = "udp", version: str = "v4") -> list[Event]:
        """ct sections of the connection to *port*, of packets as they left the router."""
        found = [event["ct"] for event in self.sent if "ct" in event]
        return [
            ct
            for ct in found
            if ct["orig"]["ip"]["version"] == version and ct["orig"]["proto"].get(proto, {}).get("dport") == port
        ]

    def icmp(self, kind: int) -> list[Event]:
        """ct sections of ICMP connections begun by messages of type *kind*."""
        found = [event["ct"] for event in self.sent if "ct" in event]
        return [ct for ct in found if ct["orig"]["proto"].get("icmp", {}).get("type") == kind]


@pytest.fixture(scope="module")
def seen(_why_not, tmp_path_factory):
    refuse_unless(_why_not)
    folder = tmp_path_factory.mktemp("ct")
    functions = ("-p", "ip_forward") if has_kprobes() else ()
    probes = ("-p", "net:net_dev_start_xmit", *functions)
    with route() as net:
        prepare(net)
        with Collect(folder, "-c", COLLECTORS, "-f", "ip or ip6", *probes) as run:
            send_all(net)
            table = listed(net, folder)
            elsewhere = count_connections(net.client) + count_connections(net.server)
    sent = [event for event in run.at("net:net_dev_start_xmit") if event["dev"]["name"] in ("near0", "far0")]
    return Seen(run, sent, table, elsewhere)


def states(sections):
    return [ct["state"] for ct in sections]


def test_last_packet_of_each_connection_says_what_conntrack_lists(seen):
    last = {}
    for event in seen.sent:
        if "ct" in event and event["ct"]["state"] not in ("related_reply",):
            found = connection(event)
            last[json.dumps(found["orig"])] = found
    due = {json.dumps(entry["orig"]): entry for entry in seen.listed}
    assert len(due) == 15
    assert last == due


def test_request_answer_and_request_are_new_reply_and_established(seen):
    assert states(seen.of(Port.PLAIN)) == ["new", "reply", "established"]
    assert states(seen.of(Port.PLAIN, version="v6")) == ["new", "reply", "established"]
    first, second, _ = seen.of(Port.PLAIN)
    assert (first["ct_status"] & IPS["SEEN_REPLY"], second["ct_status"] & IPS["SEEN_REPLY"]) == (0, 2)


def test_tcp_states_follow_the_seven_packets(seen):
    sections = seen.of(Port.HTTP, "tcp")
    assert [(ct["state"], ct["proto_state"]) for ct in sections] == [
        ("new", "SYN_SENT"),
        ("reply", "SYN_RECV"),
        ("established", "ESTABLISHED"),
        ("established", "FIN_WAIT"),
        ("reply", "CLOSE_WAIT"),
        ("reply", "LAST_ACK"),
        ("established", "TIME_WAIT"),
    ]


def test_icmp_error_is_related_to_the_connection_it_is_about(seen):
    request, error = seen.of(Port.CLOSED)
    assert (request["state"], error["state"]) == ("new", "related_reply")
    assert (error["orig"], error["reply"]) == (request["orig"], request["reply"])
    assert states(seen.of(Port.GONE)) == ["new", "reply", "related"]


def test_untracked_packets_and_unknown_protocols_have_no_section_but_their_events(seen):
    protocols = [frame(event)[23] for event in seen.sent if "ct" not in event and frame(event)[12:14] == b"\x08\x00"]
    assert protocols == [17] * 3 + [253]


def test_destination_translation_shows_in_the_reply_tuple(seen):
    ct = seen.of(Port.HTTP, "tcp")[0]
    assert (ct["orig"]["ip"]["dst"], ct["reply"]["ip"]["src"]) == (Router.VIRTUAL, "10.0.2.2")
    assert ct["ct_status"] & (IPS["DST_NAT"] | IPS["SRC_NAT"] | NAT_DONE) == IPS["DST_NAT"] | NAT_DONE


def test_source_translation_shows_in_the_reply_tuple(seen):
    ct = seen.of(Port.SNAT)[0]
    assert ct["orig"]["ip"]["src"] == "10.0.1.1"
    assert (ct["reply"]["ip"]["dst"], ct["reply"]["proto"]["udp"]["dport"]) == ("10.0.2.1", 40005)
    assert ct["ct_status"] & (IPS["DST_NAT"] | IPS["SRC_NAT"] | NAT_DONE) == IPS["SRC_NAT"] | NAT_DONE
    (request,) = (event for event in seen.sent if "ct" in event and event["ct"] == ct)
    assert addresses(request) == ("10.0.2.1", "10.0.2.2")


@pytest.mark.parametrize(
    ("port", "zone"),
    [
        (Port.PLAIN, (0, "Default")),
        (Port.ZONE, (7, "Default")),
        (Port.ORIG_ZONE, (8, "Original")),
        (Port.REPLY_ZONE, (9, "Reply")),
    ],
)
def test_zones_have_an_id_and_a_direction(seen, port, zone):
    sections = seen.of(port)
    assert states(sections) == ["new", "reply", "established"]
    assert {(ct["zone_id"], ct["zone_dir"]) for ct in sections} == {zone}


def test_mark_and_labels_are_those_the_rules_set(seen):
    for ct in seen.of(Port.LABELLED):
        assert ct["mark"] == 0xDEADBEEF
        assert ct["labels"] == {"hi": 1 << 63, "lo": 1 << 3}
    assert all((ct["mark"], "labels" in ct) == (0, False) for ct in seen.of(Port.PLAIN))


def test_expected_connection_has_its_parent(seen):
    control, data = seen.of(Port.FTP, "tcp"), seen.of(Port.FTP_DATA, "tcp")
    assert data[0]["state"] == "related"
    assert all(ct["ct_status"] & IPS["EXPECTED"] for ct in data)
    for ct in data:
        parent = ct["parent"]
        assert (parent["orig"], parent["reply"]) == (control[0]["orig"], control[0]["reply"])
        assert (parent["mark"], ct["mark"]) == (Port.FTP, Port.FTP_DATA)
        assert parent["proto_state"] == "ESTABLISHED"
        assert "state" not in parent
    assert not any("parent" in ct for ct in control)


def test_pings_have_type_code_and_identifier(seen):
    for kind, answer, version in ((8, 0, "v4"), (128, 129, "v6")):
        request, reply = seen.icmp(kind)
        assert states((request, reply)) == ["new", "reply"]
        assert request["orig"]["ip"]["version"] == version
        assert (request["orig"]["proto"]["icmp"]["type"], request["reply"]["proto"]["icmp"]["type"]) == (kind, answer)
    (sent, _) = (event for event in seen.sent if "ct" in event and event["ct"] in seen.icmp(8))
    assert int.from_bytes(frame(sent)[38:40], "big") == seen.icmp(8)[0]["orig"]["proto"]["icmp"]["id"]


def test_sctp_association_has_states_and_verification_tags(seen):
    sections = seen.of(Port.SCTP, "sctp")
    assert [ct["proto_state"] for ct in sections] == ["CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED"]
    tags = [tuple(ct[direction]["proto"]["sctp"]["vtag"] for direction in ("orig", "reply")) for ct in sections]
    ours, theirs = SCTP_TAGS
    assert tags == [(0, ours)] + [(theirs, ours)] * 3


def test_connection_of_the_router_does_not_follow_a_packet_into_another_namespace(seen):
    """Some kernels (Debian's 6.1, with openvswitch loaded) track in every namespace: then sections are of those."""
    devices = ("near0", "far0")
    elsewhere = [event for event in seen.run.at("net:net_dev_start_xmit") if event["dev"]["name"] not in devices]
    assert len(elsewhere) >= 40
    found = [event["ct"] for event in elsewhere if "ct" in event]
    assert bool(found) == (seen.elsewhere > 0)
    routers = ("mark", "zone_id", "labels")
    assert [ct for ct in found if any(ct.get(name) for name in routers)] == []
    assert [ct for ct in found if ct["ct_status"] & (IPS["SRC_NAT"] | IPS["DST_NAT"])] == []


def test_function_probes_report_the_same_connections(seen):
    def of(events):
        """Connections of the IPv4 packets, one per packet."""
        found = [event["ct"] for event in events if "ct" in event]
        return sorted(json.dumps(ct["orig"]) for ct in found if ct["orig"]["ip"]["version"] == "v4")

    if has_kprobes():
        assert of(seen.run.at("ip_forward")) == of(seen.sent)
    else:
        assert not seen.run.at("ip_forward")


def test_upstream_reads_the_sections_with_the_same_text(seen):
    text = seen.run.printed()
    assert text.count("ct_state") > 40
    assert text.count("\\ parent [status") == len(seen.of(Port.FTP_DATA, "tcp")) + sum(
        "parent" in event.get("ct", {}) for event in seen.run.at("ip_forward")
    )
    assert seen.run.read_by_upstream() == text
