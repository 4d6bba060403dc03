"""skb: text of the packet and of its buffer's state."""

from __future__ import annotations

import pytest

from retis_py.collectors.skb import PacketSection, SkbDataRef, SkbGso, SkbMeta, SkbSection, SkbVlanAccel
from retis_py.events.section import PLAIN, Style

META = SkbMeta(len=100, data_len=0, hash=0, ip_summed=0, csum=0, csum_level=0, priority=0)
SHARED = SkbDataRef(nohdr=False, cloned=False, fclone=0, users=1, dataref=2)
LINK_LAYER = Style(link_layer=True)


def meta(**fields: int) -> SkbMeta:
    given = {name: getattr(META, name) for name in META.__struct_fields__}
    return SkbMeta(**{**given, **fields})


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (SkbSection(), ""),
        (SkbSection(meta=META), "skb [csum none len 100 priority 0]"),
        (
            SkbSection(meta=meta(ip_summed=1, csum_level=2, hash=0xAB, data_len=5, priority=7)),
            "skb [csum unnecessary (level 2) hash 0xab len 100 data_len 5 priority 7]",
        ),
        (
            SkbSection(meta=meta(ip_summed=2, csum=0xC0473FB8)),
            "skb [csum complete (0xc0473fb8) len 100 priority 0]",
        ),
        (
            SkbSection(meta=meta(ip_summed=3, csum=16 << 16 | 34)),
            "skb [csum partial (start 34 off 16) len 100 priority 0]",
        ),
        (SkbSection(meta=meta(ip_summed=9)), "skb [csum unknown (9) len 100 priority 0]"),
        (
            SkbSection(data_ref=SkbDataRef(True, True, 2, 1, 2)),
            "skb [nohdr cloned fclone 2 users 1 dataref 2]",
        ),
        (
            SkbSection(meta=META, data_ref=SHARED, gso=SkbGso(1, 2, 1448, 3, 1)),
            "skb [csum none len 100 priority 0 users 1 dataref 2] gso [type 0x1 flags 0x1 frags 2 segs 3 size 1448]",
        ),
        (SkbSection(gso=SkbGso(0, 0, 1448, 0, 0)), "gso [type 0x0 size 1448]"),
    ],
)
def test_state_text(section: SkbSection, text: str) -> None:
    assert section.text(PLAIN) == text


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (SkbVlanAccel(0x8100, 3, True, 5), "vlan_accel (ethertype 802.1Q (0x8100) vlan 5 p 3 DEI)"),
        (SkbVlanAccel(5, 0, False, 1), "vlan_accel (ethertype (0x0005) vlan 1 p 0)"),
    ],
)
def test_offloaded_tag_is_link_layer(tag: SkbVlanAccel, text: str) -> None:
    section = SkbSection(vlan_accel=tag, meta=META)
    assert section.text(PLAIN) == "skb [csum none len 100 priority 0]"
    assert section.text(LINK_LAYER) == f"{text} skb [csum none len 100 priority 0]"


def test_packet_shows_addresses_on_request() -> None:
    frame = bytes.fromhex(
        "fa5cbd8ecc01a6c21171594508060001080006040001a6c2117159450a002a010000000000000a002a02"
    )
    section = PacketSection(len(frame), len(frame), frame)
    assert section.text(PLAIN) == "request who-has 10.0.42.2 tell 10.0.42.1"
    assert section.text(LINK_LAYER) == (
        "a6:c2:11:71:59:45 > fa:5c:bd:8e:cc:01 ethertype ARP (0x0806) request who-has 10.0.42.2 tell 10.0.42.1"
    )
