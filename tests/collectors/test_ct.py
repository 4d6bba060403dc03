"""ct: connections from raw parts, and their text."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from retis_py.collectors import Event
from retis_py.collectors.base import Unavailable
from retis_py.collectors.ct import (
    Ct,
    CtConnection,
    CtIcmp,
    CtIp,
    CtLabels,
    CtPorts,
    CtProto,
    CtRaw,
    CtSctp,
    CtSection,
    CtTuple,
)
from retis_py.collectors.parts import PARTS
from retis_py.display import to_text
from retis_py.events.core import CommonSection, KernelSection
from retis_py.events.section import PLAIN, Style
from retis_py.events.wire import Decoder, HeaderRaw
from tests.support.kernels import FakeKernel
from tests.support.oracle import STARTUP, oracle

FORTH, BACK = CtIp("1.1.1.1", "2.2.2.2", "v4"), CtIp("2.2.2.2", "1.1.1.1", "v4")
UDP = CtTuple(FORTH, CtProto(udp=CtPorts(1, 2))), CtTuple(BACK, CtProto(udp=CtPorts(2, 1)))
TCP = CtTuple(FORTH, CtProto(tcp=CtPorts(1, 2))), CtTuple(BACK, CtProto(tcp=CtPorts(2, 1)))
ICMP = CtTuple(FORTH, CtProto(icmp=CtIcmp(0, 8, 9))), CtTuple(BACK, CtProto(icmp=CtIcmp(0, 0, 9)))
SCTP = CtTuple(FORTH, CtProto(sctp=CtSctp(1, 2, 0))), CtTuple(BACK, CtProto(sctp=CtSctp(2, 1, 255)))


def section(tuples: tuple[CtTuple, CtTuple] = UDP, **fields: object) -> CtSection:
    given = {"state": "new", "zone_id": 0, "zone_dir": "Default", "ct_status": 392, **fields}
    return CtSection(orig=tuples[0], reply=tuples[1], **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tuples", "fields", "text"),
    [
        (
            TCP,
            {"proto_state": "SYN_SENT", "mark": 1},
            "ct_state NEW status 0x188 tcp (SYN_SENT) orig [1.1.1.1.1 > 2.2.2.2.2] reply [2.2.2.2.2 > 1.1.1.1.1]"
            " zone 0 mark 1",
        ),
        (
            SCTP,
            {},
            "ct_state NEW status 0x188 sctp (UNKNOWN) orig [1.1.1.1.1 > 2.2.2.2.2 vtag 0x0]"
            " reply [2.2.2.2.2 > 1.1.1.1.1 vtag 0xff] zone 0",
        ),
        (
            UDP,
            {"labels": CtLabels(1, 2), "mark": 5, "zone_dir": "Reply", "zone_id": 7},
            "ct_state NEW status 0x188 udp orig [1.1.1.1.1 > 2.2.2.2.2] reply [2.2.2.2.2 > 1.1.1.1.1]"
            " reply-zone 7 mark 5 labels 0x10000000000000002",
        ),
        (
            ICMP,
            {"state": "related_reply", "zone_dir": "Original"},
            "ct_state RELATED_REPLY status 0x188 icmp orig [1.1.1.1 > 2.2.2.2 type 8 code 0 id 9]"
            " reply [2.2.2.2 > 1.1.1.1 type 0 code 0 id 9] orig-zone 0",
        ),
        # no zone leaves a space behind; different protocols print no addresses
        ((UDP[0], TCP[1]), {"zone_dir": "None"}, "ct_state NEW status 0x188 "),
    ],
)
def test_text(tuples: tuple[CtTuple, CtTuple], fields: dict[str, object], text: str) -> None:
    assert section(tuples, **fields).text(PLAIN) == text


def test_parent_is_on_a_line_of_its_own() -> None:
    parent = CtConnection(zone_id=0, zone_dir="Default", orig=TCP[0], reply=TCP[1], ct_status=1)
    child = section(parent=parent)
    assert child.text(PLAIN).split("\n")[1].startswith("\\ parent [status 0x1 tcp (UNKNOWN) orig [")
    assert " zone 0 parent [status 0x1 " in child.text(Style(multi_line=False))


def test_state_comes_first_in_files() -> None:
    keys = list(msgspec.json.decode(msgspec.json.encode(section(parent=None))))
    assert keys == ["state", "zone_id", "zone_dir", "orig", "reply", "ct_status"]


def test_a_direction_without_protocol_is_invalid() -> None:
    with pytest.raises(ValueError, match="single key"):
        section((CtTuple(FORTH, CtProto()), UDP[1])).validate()


STATES = {
    "tcp_conntrack": {"TCP_CONNTRACK_NONE": 0, "TCP_CONNTRACK_SYN_SENT": 1, "TCP_CONNTRACK_ESTABLISHED": 3},
    "sctp_conntrack": {"SCTP_CONNTRACK_NONE": 0, "SCTP_CONNTRACK_COOKIE_WAIT": 2},
    "nf_ct_ext_id": {"NF_CT_EXT_HELPER": 0, "NF_CT_EXT_LABELS": 7},
}
V4 = {
    "orig_src": socket.inet_aton("10.0.0.1"),
    "orig_dst": socket.inet_aton("10.0.9.9"),
    "reply_src": socket.inet_aton("10.0.2.2"),
    "reply_dst": socket.inet_aton("10.0.0.1"),
    "l3num": 2,
}
V6 = {
    **dict.fromkeys(("orig_src", "reply_dst"), socket.inet_pton(socket.AF_INET6, "fd00::1")),
    **dict.fromkeys(("orig_dst", "reply_src"), socket.inet_pton(socket.AF_INET6, "fd00::2")),
    "l3num": 10,
}
PORTS = {"orig_sport": 40000, "orig_dport": 80, "reply_sport": 8080, "reply_dport": 40000}
TCP_V4 = {**V4, **PORTS, "protonum": 6, "proto_state": 3, "zone_dir": 3, "status": 0x1AE, "mark": 7}


def raw(**fields: Any) -> CtRaw:
    """A raw part; addresses are given as bytes."""
    out = CtRaw()
    for name, value in fields.items():
        if isinstance(value, bytes):
            value = (type(getattr(out, name)))(*value)
        elif name == "labels":
            value = (type(out.labels))(*value)
        setattr(out, name, value)
    return out


def decode(*connections: CtRaw, kernel: FakeKernel | None = None) -> Any:
    """The event made of these: a connection and, if there are two, its parent."""
    collector = Ct()
    collector.setup(kernel or FakeKernel(STATES), {})
    names = ("ct", "ct_parent")[: len(connections)]
    header = HeaderRaw(timestamp=1, sections=sum(1 << bit for bit, part in enumerate(PARTS) if part.name in names))
    decoder = Decoder(Event, PARTS, collector.maker, [KernelSection("net:net_dev_start_xmit", "raw_tracepoint")])
    return decoder.decode(bytes(header) + b"".join(map(bytes, connections)))


def upstream(tmp_path: Path, *events: Any) -> list[Any]:
    """What upstream's reader makes of *events*."""
    path = tmp_path / "retis.data"
    lines = [json.dumps(STARTUP), *(msgspec.json.encode(event).decode() for event in events)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return oracle(path)[1:]


CASES = [
    (
        raw(**TCP_V4, state=3),
        "ct_state REPLY status 0x1ae tcp (ESTABLISHED) orig [10.0.0.1.40000 > 10.0.9.9.80]"
        " reply [10.0.2.2.8080 > 10.0.0.1.40000] zone 0 mark 7",
    ),
    (
        raw(**V6, **PORTS, protonum=17, zone_dir=1, zone_id=8, state=2, labels=(8, 1 << 63)),
        "ct_state NEW status 0x0 udp orig [fd00::1.40000 > fd00::2.80] reply [fd00::2.8080 > fd00::1.40000]"
        " orig-zone 8 mark 0 labels 0x80000000000000000000000000000008",
    ),
    (
        raw(**V4, protonum=1, orig_sport=9, orig_dport=8 << 8, reply_sport=9, zone_dir=2, zone_id=9, state=4),
        "ct_state RELATED_REPLY status 0x0 icmp orig [10.0.0.1 > 10.0.9.9 type 8 code 0 id 9]"
        " reply [10.0.2.2 > 10.0.0.1 type 0 code 0 id 9] reply-zone 9 mark 0",
    ),
    (
        raw(**V6, protonum=58, orig_sport=9, orig_dport=128 << 8, reply_sport=9, reply_dport=129 << 8, state=0),
        "ct_state ESTABLISHED status 0x0 icmp orig [fd00::1 > fd00::2 type 128 code 0 id 9]"
        " reply [fd00::2 > fd00::1 type 129 code 0 id 9]  mark 0",
    ),
    (
        raw(**V4, **PORTS, protonum=132, proto_state=2, orig_vtag=0xAB, reply_vtag=1 << 31, zone_dir=3, state=1),
        "ct_state RELATED status 0x0 sctp (COOKIE_WAIT) orig [10.0.0.1.40000 > 10.0.9.9.80 vtag 0xab]"
        " reply [10.0.2.2.8080 > 10.0.0.1.40000 vtag 0x80000000] zone 0 mark 0",
    ),
]


@pytest.mark.parametrize(("connection", "text"), CASES, ids=["tcp", "udp6", "icmp", "icmpv6", "sctp"])
def test_raw_connection_reads_as_the_kernel_meant_it(connection: CtRaw, text: str) -> None:
    assert decode(connection).ct.text(PLAIN) == text


def test_upstream_reads_every_kind_of_connection_with_the_same_text(tmp_path: Path) -> None:
    """ICMPv6 included, for which upstream itself never writes a section."""
    parent = decode(raw(**TCP_V4), raw(**{**TCP_V4, "mark": 8}))
    events = [*(decode(connection) for connection, _ in CASES), parent]
    events = [msgspec.structs.replace(event, common=CommonSection(5, 0)) for event in events]
    read = upstream(tmp_path, *events)
    assert [text for text, _ in read] == [to_text(event) for event in events]
    assert [fields for _, fields in read] == [json.loads(msgspec.json.encode(event)) for event in events]


@pytest.mark.parametrize("field", [{"state": 5}, {"state": 6}, {"protonum": 47}, {"l3num": 3}])
def test_what_has_no_form_costs_the_section_never_the_event(field: dict[str, int]) -> None:
    event = decode(raw(**{**TCP_V4, **field}))
    assert event.ct is None
    assert event.kernel.symbol == "net:net_dev_start_xmit"


def test_parent_without_a_form_costs_the_parent() -> None:
    section = decode(raw(**TCP_V4), raw(**{**TCP_V4, "protonum": 47})).ct
    assert section.parent is None
    assert section.orig.proto.tcp == CtPorts(40000, 80)


def test_parent_is_a_connection_of_its_own() -> None:
    section = decode(raw(**TCP_V4, state=1), raw(**{**TCP_V4, "mark": 8, "proto_state": 1})).ct
    assert (section.state, section.mark, section.proto_state) == ("related", 7, "ESTABLISHED")
    assert (section.parent.mark, section.parent.proto_state) == (8, "SYN_SENT")


def test_state_without_a_name_is_its_number() -> None:
    assert decode(raw(**{**TCP_V4, "proto_state": 42})).ct.proto_state == "42"
    assert decode(raw(**TCP_V4), kernel=FakeKernel()).ct.proto_state == "3"


def test_first_of_two_names_of_a_state_counts() -> None:
    kernel = FakeKernel({"tcp_conntrack": {"TCP_CONNTRACK_LISTEN": 3, "TCP_CONNTRACK_SYN_SENT2": 3}})
    assert decode(raw(**TCP_V4), kernel=kernel).ct.proto_state == "LISTEN"


def test_kernel_without_marks_zones_and_labels_reports_none() -> None:
    kernel = FakeKernel(missing=("nf_conn.mark", "nf_conn.zone.dir"))
    collector = Ct()
    collector.setup(kernel, {})
    wanted = {"HAVE_CT_MARK": 0, "HAVE_CT_ZONE": 0, "HAVE_CT_LABELS": 0}
    assert {name: collector.defines()[name] for name in wanted} == wanted
    section = decode(raw(**{**TCP_V4, "zone_dir": 0, "mark": 0}), kernel=kernel).ct
    assert (section.mark, section.labels, section.zone_dir) == (None, None, "None")


def test_labels_are_found_by_their_id() -> None:
    collector = Ct()
    collector.setup(FakeKernel(STATES), {})
    assert (collector.defines()["HAVE_CT_LABELS"], collector.defines()["NF_CT_EXT_LABELS"]) == (1, 7)


@pytest.mark.parametrize(
    "kernel",
    [
        FakeKernel(config={"CONFIG_NF_CONNTRACK": "y"}),
        FakeKernel(config={"CONFIG_NF_CONNTRACK": "m"}, modules=("nf_conntrack",)),
        FakeKernel(),
    ],
    ids=["built in", "loaded", "configuration unknown"],
)
def test_kernel_with_conntrack_can_run_it(kernel: FakeKernel) -> None:
    Ct().check(kernel)


@pytest.mark.parametrize(
    ("kernel", "reason", "hint"),
    [
        (FakeKernel(config={"CONFIG_NF_CONNTRACK": "m"}), "'nf_conntrack' is not loaded", "modprobe nf_conntrack"),
        (FakeKernel(config={}), "This kernel does not support connection tracking", None),
        (FakeKernel(missing=("sk_buff._nfct",)), "This kernel does not support connection tracking", None),
        (FakeKernel(missing=("nf_conn.tuplehash",)), "no struct nf_conn", None),
    ],
    ids=["not loaded", "compiled out", "no member", "no type"],
)
def test_kernel_without_conntrack_says_which_way(kernel: FakeKernel, reason: str, hint: str | None) -> None:
    with pytest.raises(Unavailable, match=reason) as error:
        Ct().check(kernel)
    assert hint is None or hint in error.value.hint
