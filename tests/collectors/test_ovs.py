"""ovs: text of upcalls, actions and flow look-ups, and their form in files."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from retis_py.collectors.ovs import OvsDetraceSection, OvsFlowLookup, OvsSection, ufid_text
from retis_py.events.section import PLAIN, Style

SINGLE = Style(multi_line=False)
UFID = (0x177746CC, 0x5E954C23, 0x8D4096D5, 0xBEE7C6EB)
UFID_TEXT = "177746cc-5e95-4c23-8d40-96d5bee7c6eb"


def ovs(kind: str, **fields: Any) -> Any:
    return msgspec.convert({"event_type": kind, **fields}, OvsSection)


def action(name: str | None, recirc_id: int = 0, **fields: Any) -> str:
    given = {"action": name, "recirc_id": recirc_id, **fields}
    text: str = ovs("action_execute", **given).text(PLAIN)
    return text


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (ovs("upcall", cmd=1, port=7, cpu=2), "upcall (miss) port 7 cpu 2"),
        (ovs("upcall", cmd=0, port=7, cpu=2), "upcall (unspec) port 7 cpu 2"),
        (ovs("upcall", cmd=4, port=7, cpu=2), "upcall port 7 cpu 2"),
        (
            ovs("upcall_enqueue", ret=-1, cmd=2, port=7, upcall_ts=100, upcall_cpu=2, queue_id=9),
            "upcall_enqueue (action) (2/100) q 9 ret -1",
        ),
        (ovs("upcall_return", upcall_ts=100, upcall_cpu=2, ret=0), "upcall_ret (2/100) ret 0"),
        (
            ovs("recv_upcall", type=1, pkt_size=98, key_size=3, queue_id=9, batch_ts=1, batch_idx=0),
            "upcall_recv q 9 pkt_size 98",
        ),
        (
            ovs("flow_operation", op_type="put", queue_id=9, batch_ts=100, batch_idx=1),
            "flow_put q 9 ts 100 (1)",
        ),
        (
            ovs("flow_operation", op_type="exec", queue_id=9, batch_ts=100, batch_idx=1),
            "flow_exec q 9 ts 100 (1)",
        ),
        (OvsFlowLookup(0, 0, (0, 0, 0, 0), 3, 0, "", ()), "flow miss mask 3 cache 0"),
    ],
)
def test_text(section: Any, text: str) -> None:
    assert section.text(PLAIN) == text


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (
            "[recirc_id 0x5] exec oport 3 q 9",
            {"name": "output", "port": 3, "recirc_id": 5, "queue_id": 9},
        ),
        ("exec recirc 0x1f", {"name": "recirc", "id": 31}),
        ("exec drop 1", {"name": "drop", "reason": 1}),
        ("exec tunnel_set", {"name": "set"}),
        ("exec dec_ttl", {"name": "dec_ttl"}),
        ("exec unspec", {"name": None}),
        ("exec unspec", {"name": "of tomorrow"}),
        ("exec unspec", {"name": "output"}),  # without its port
        ("exec ct zone 5", {"name": "ct", "flags": 0, "zone_id": 5}),
        (
            "exec ct zone 5 commit,force,persistent,hash,random",
            {"name": "ct", "flags": 0xE03, "zone_id": 5},
        ),
        (
            "exec ct zone 5 nat(dst=10.244.1.3-10.244.1.30:36895-36900) commit",
            {
                "name": "ct",
                "flags": 0x181,
                "zone_id": 5,
                "nat": {
                    "dir": "dst",
                    "min_addr": "10.244.1.3",
                    "max_addr": "10.244.1.30",
                    "min_port": 36895,
                    "max_port": 36900,
                },
            },
        ),
        (
            "exec ct zone 5 nat(src=1.1.1.1) commit",
            {
                "name": "ct",
                "flags": 0x81,
                "zone_id": 5,
                "nat": {"dir": "src", "min_addr": "1.1.1.1", "max_addr": "1.1.1.1"},
            },
        ),
        ("exec ct zone 5 nat", {"name": "ct", "flags": 0x180, "zone_id": 5, "nat": {}}),
    ],
)
def test_action_text(text: str, given: dict[str, Any]) -> None:
    assert action(**given) == text


def test_flow_hit_lists_its_flows() -> None:
    hit = OvsFlowLookup(0xFFFF8E95, 0xFFFF8E96, UFID, 3, 1, "in_port(1)", ("table=0", "table=1"))
    head = f"flow hit ufid {UFID_TEXT} mask 3 cache 1 flow ffff8e95 sf_acts ffff8e96"
    assert hit.text(PLAIN) == f"{head}\nodpflow in_port(1)\nopenflow\n    table=0\n    table=1"
    assert hit.text(SINGLE) == f"{head} odpflow in_port(1) openflow table=0 table=1"


def test_detrace_glues_the_first_flow() -> None:
    section = OvsDetraceSection(UFID, 1, 2, "dp", ("a", "b"))
    assert section.text(PLAIN) == f"ufid:{UFID_TEXT} dp\nopenflow:a\n    b"
    assert section.text(SINGLE) == f"ufid:{UFID_TEXT} dp openflow: a b"


def test_ufid_text() -> None:
    assert ufid_text(UFID) == UFID_TEXT


@pytest.mark.parametrize(
    "line",
    [
        '{"cmd":1,"cpu":0,"event_type":"upcall","port":4195744766}',
        '{"action":"output","event_type":"action_execute","port":2,"queue_id":1361394472,"recirc_id":0}',
        '{"event_type":"upcall_return","ret":0,"upcall_cpu":0,"upcall_ts":61096236973661}',
        '{"batch_idx":0,"batch_ts":61096237019698,"event_type":"flow_operation","op_type":"exec","queue_id":3316322986}',
        '{"action":"drop","event_type":"action_execute","reason":0,"recirc_id":32}',
        '{"action":"ct","event_type":"action_execute","flags":485,"nat":{"dir":"dst","max_addr":"10.244.1.30",'
        '"max_port":36900,"min_addr":"10.244.1.3","min_port":36895},"recirc_id":34,"zone_id":20}',
    ],
)
def test_json_round_trip(line: str) -> None:
    section = msgspec.json.decode(line, type=OvsSection)
    assert msgspec.json.decode(msgspec.json.encode(section)) == msgspec.json.decode(line)
