"""ct: text of connections."""

from __future__ import annotations

import msgspec
import pytest

from retis_py.collectors.ct import (
    CtConnection,
    CtIcmp,
    CtIp,
    CtLabels,
    CtPorts,
    CtProto,
    CtSctp,
    CtSection,
    CtTuple,
)
from retis_py.events.section import PLAIN, Style

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
