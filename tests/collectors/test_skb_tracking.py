"""skb_tracking: the identity of a packet."""

from retis_py.collectors.skb_tracking import SkbTracking, SkbTrackingRaw
from retis_py.events.section import PLAIN


def test_identity_is_the_time_and_the_head_of_the_first_sight() -> None:
    make = SkbTracking().maker("skb-tracking", ("skb_tracking",))
    got = make(0xFFFF8E96EEEA2600, 30419169440321, 0xFFFF8E95D3009600)
    # a line of upstream's documentation of the format
    assert got.text(PLAIN) == "#1baa83c9f241ffff8e96eeea2600 (skb ffff8e95d3009600)"
    assert got.tracking_id() == 30419169440321 << 64 | 0xFFFF8E96EEEA2600


def test_raw_layout_has_the_order_the_section_is_made_in() -> None:
    assert [field[0] for field in SkbTrackingRaw._fields_] == ["orig_head", "timestamp", "skb"]
