"""The schema: every event we write is valid, broken ones are not, and upstream's plugin understands it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from retis_py.process.schema import compact, make_schema, pretty
from tests.support.oracle import STARTUP, data_file
from tests.support.sections import events as generated

SCHEMA = make_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

PACKET = {"len": 4, "capture_len": 4, "data": "AAAAAA=="}
TUPLE = {
    "ip": {"src": "1.1.1.1", "dst": "2.2.2.2", "version": "v4"},
    "proto": {"tcp": {"sport": 1, "dport": 2}},
}
CT = {"state": "new", "zone_id": 0, "zone_dir": "None", "orig": TUPLE, "reply": TUPLE, "ct_status": 0}
UPCALL = {"event_type": "upcall", "cmd": 1, "port": 7, "cpu": 2}


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(item)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(compact()) == SCHEMA == json.loads(pretty())
    assert b" " not in compact()[:20] and not pretty().endswith("\n")


def test_events_of_every_kind_are_valid() -> None:
    for event in [STARTUP, *generated(11, 1200)]:
        VALIDATOR.validate(event)


def test_upstreams_events_are_valid() -> None:
    # its header is of an older format: without machine and cmdline
    for line in data_file("test_events_packets.json").read_text().splitlines()[1:]:
        VALIDATOR.validate(json.loads(line))


@pytest.mark.parametrize(
    "event",
    [
        {"common": {}},
        {"common": {"timestamp": "5"}},
        {"common": {"timestamp": 5.5}},
        {"common": {"timestamp": -1}},
        {"common": {"timestamp": 1 << 64}},
        {"common": {"timestamp": 1, "smp_id": 1 << 32}},
        {"common": {"timestamp": 1, "task": {"pid": 1 << 31, "tgid": 1, "comm": ""}}},
        {"kernel": {"probe_type": "kprobe"}},
        {"kernel": {"probe_type": "kprobe", "symbol": "x", "stack_trace": [1]}},
        {"kernel": "x"},
        {"packet": {**PACKET, "data": [1, 2]}},
        {"packet": {**PACKET, "data": "AAA"}},
        {"packet": {**PACKET, "data": "A!=="}},
        {"skb": {"vlan_accel": {"proto": 65536, "pcp": 0, "dei": True, "vid": 1}}},
        {"skb": {"vlan_accel": {"proto": 1, "pcp": 0, "dei": 1, "vid": 1}}},
        {"ct": {**CT, "state": "NEW"}},
        {"ct": {**CT, "zone_dir": "original"}},
        {"ct": {**CT, "orig": {**TUPLE, "proto": {}}}},
        {"ct": {**CT, "orig": {**TUPLE, "proto": {**TUPLE["proto"], "udp": {"sport": 1, "dport": 2}}}}},
        {"ct": {**CT, "orig": {**TUPLE, "proto": {"gre": {}}}}},
        {"ct": {**CT, "labels": {"hi": 1}}},
        {"ovs": {**UPCALL, "event_type": "other"}},
        {"ovs": {**UPCALL, "cmd": 256}},
        {"ovs": {key: value for key, value in UPCALL.items() if key != "event_type"}},
        {"ovs": {"event_type": "flow_operation", "op_type": 1, "queue_id": 1, "batch_ts": 1, "batch_idx": 1}},
        {"ovs-detrace": {"ufid": [1, 2, 3], "flow": 1, "sf_acts": 1, "dpflow": "", "ofpflows": []}},
        {"startup": {key: value for key, value in STARTUP["startup"].items() if key != "machine"}},  # type: ignore[attr-defined]
        [],
        "x",
    ],
)
def test_a_broken_event_is_rejected(event: Any) -> None:
    assert not VALIDATOR.is_valid(event)


def test_what_the_broken_ones_are_made_of_is_valid() -> None:
    for event in (
        {"packet": PACKET},
        {"ct": CT},
        {"ovs": UPCALL},
        {"ct": {**CT, "mark": None}},
        {"netns": None},
    ):
        VALIDATOR.validate(event)


def test_dropping_any_required_field_is_noticed() -> None:
    whole = next(event for event in generated(12, 500) if {"nft", "ct", "skb", "dev"} <= set(event))
    for section in ("nft", "ct", "dev"):
        for field in whole[section]:
            broken = copy.deepcopy(whole)
            del broken[section][field]
            names = {"nft": "NftEvent", "ct": "CtEvent", "dev": "DevEvent"}
            required = SCHEMA["$defs"][names[section]]["required"]
            assert VALIDATOR.is_valid(broken) == (field not in required)


def test_it_keeps_to_what_the_wireshark_plugin_understands() -> None:
    assert SCHEMA["title"] == "Retis Metadata"
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for item in objects([SCHEMA["properties"], SCHEMA["$defs"]]):
        if isinstance(item.get("$ref"), str):
            assert item["$ref"].startswith("#/$defs/") and item["$ref"][8:] in SCHEMA["$defs"]
        if item.get("type") == "object":
            assert item.get("properties") or item.get("oneOf")
        if isinstance(item.get("type"), list):
            assert len(item["type"]) == 2 and item["type"][1] == "null"
        if "anyOf" in item and isinstance(item["anyOf"], list):
            assert "$ref" in item["anyOf"][0]


def test_it_has_the_sections_and_definitions_of_the_one_upstream_embeds() -> None:
    data = data_file("test_events_packets.pcap").read_bytes()
    end = 28 + int.from_bytes(data[32:36], "little") - 4
    upstream = json.loads(data[28 + 12 : end].rstrip(b"\0"))
    # ours are one section and one member more
    assert list(SCHEMA["properties"]) == sorted([*upstream["properties"], "args"])
    # small ones we write in place: enumerations, a list, base64 text
    inlined = {"CtIpVersion", "CtState", "NatDirection", "RawPacket", "StackTrace", "Ufid", "ZoneDir"}
    assert set(upstream["$defs"]) - inlined <= set(SCHEMA["$defs"])
    for name in ("CommonEvent", "NftEvent", "SkbMetaEvent", "UserEvent", "TrackingInfo", "DevEvent"):
        assert SCHEMA["$defs"][name]["required"] == upstream["$defs"][name]["required"]
        ours = ["rule"] if name == "NftEvent" else []
        assert list(SCHEMA["$defs"][name]["properties"]) == sorted([*upstream["$defs"][name]["properties"], *ours])
