"""Whole events as text: both formats, series, dates, and what upstream does not know."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from retis_py.collectors import COLLECTORS, Event
from retis_py.collectors.ct import CtConnection, CtIp, CtPorts, CtProto, CtSection, CtTuple
from retis_py.collectors.dev import DevSection
from retis_py.collectors.ns import NetnsSection
from retis_py.collectors.ovs import OvsFlowLookup
from retis_py.collectors.skb import SkbSection, SkbVlanAccel
from retis_py.collectors.skb_drop import SkbDropSection
from retis_py.collectors.skb_tracking import SkbTrackingSection
from retis_py.display import TextRenderer, series_to_text, to_text
from retis_py.events.clock import Clock
from retis_py.events.core import (
    CommonSection,
    KernelSection,
    Machine,
    SkbId,
    StartupSection,
    TimeSpec,
    TrackingSection,
)
from retis_py.events.event import make_event_type
from retis_py.events.section import Section, Style

SINGLE = Style(multi_line=False)
COMMON = CommonSection(2)
STACK = Event(
    common=COMMON,
    kernel=KernelSection("s:t", "raw_tracepoint", ("a+0x1", "b+0x2")),
    skb_tracking=SkbTrackingSection(1, 2, 255),
    skb_drop=SkbDropSection(drop_reason="X"),
    netns=NetnsSection(inum=1),
    dev=DevSection("eth0", 3),
)


def startup(sec: int, nsec: int, timestamp: int = 1) -> Any:
    section = StartupSection("v1.7.0", "retis", TimeSpec(sec, nsec), Machine("6.8.0", "#1", "x86_64"))
    return Event(common=CommonSection(timestamp), startup=section)


def test_multi_line_event() -> None:
    assert to_text(STACK) == (
        "2 [tp] s:t #20000000000000001 (skb ff) drop (reason X)\n    a+0x1\n    b+0x2\n  ns 1 if 3 (eth0)"
    )


def test_single_line_event() -> None:
    assert to_text(STACK, SINGLE) == (
        "2 [tp] s:t #20000000000000001 (skb ff) drop (reason X) [a+0x1, b+0x2] ns 1 if 3 (eth0)"
    )


def test_dev_without_netns_has_its_own_line() -> None:
    assert to_text(Event(common=COMMON, dev=DevSection("eth0", 3))) == "2\n  if 3 (eth0)"


def test_section_with_nothing_to_print_leaves_no_line() -> None:
    event = Event(common=COMMON, skb=SkbSection(vlan_accel=SkbVlanAccel(0x8100, 0, False, 1)))
    assert to_text(event) == "2"
    assert to_text(event, Style(link_layer=True)).startswith("2\n  vlan_accel (")


def test_nested_lines_are_indented_and_empty_ones_are_not() -> None:
    lookup = OvsFlowLookup(1, 2, (0, 0, 0, 1), 3, 1, "dp", ("a", "", "b"))
    lines = to_text(Event(common=COMMON, ovs=lookup)).split("\n")
    assert lines[2:] == ["  odpflow dp", "  openflow", "      a", "", "      b"]


def test_parent_connection_is_on_its_own_line() -> None:
    side = CtTuple(CtIp("1.1.1.1", "2.2.2.2", "v4"), CtProto(udp=CtPorts(1, 2)))
    fields: Any = {"zone_id": 0, "zone_dir": "Default", "orig": side, "reply": side, "ct_status": 1}
    ct = CtSection(state="new", parent=CtConnection(**fields), **fields)
    lines = to_text(Event(common=COMMON, ct=ct)).split("\n")
    assert lines[2].startswith("  \\ parent [status 0x1 udp orig [")
    assert "\n" not in to_text(Event(common=COMMON, ct=ct), SINGLE)


def test_tracking_replaces_skb_tracking() -> None:
    event = Event(
        common=COMMON,
        tracking=TrackingSection(SkbId(1, 3, 254), 4),
        skb_tracking=SkbTrackingSection(1, 2, 255),
    )
    assert to_text(event) == "2 #30000000000000001 (skb fe) n 4"


def test_series_indents_all_but_the_first_event() -> None:
    first = Event(common=COMMON, dev=DevSection("eth0", 3))
    assert series_to_text([first, STACK]) == (
        "2\n  if 3 (eth0)\n"
        "  \u21b3 2 [tp] s:t #20000000000000001 (skb ff) drop (reason X)\n"
        "        a+0x1\n        b+0x2\n      ns 1 if 3 (eth0)"
    )
    assert series_to_text([first, first], SINGLE) == "2 if 3 (eth0)\n  \u21b3 2 if 3 (eth0)"


def test_dates_need_a_startup_event_and_follow_the_last_one() -> None:
    renderer = TextRenderer(Style(utc=True))
    event = Event(common=CommonSection(30419169061793))
    assert renderer.event(event) == "30419169061793"
    own = renderer.event(startup(1742309146, 691042000, 30415793489711))
    assert own.startswith("2025-03-18 23:12:42.484531\n  collected with")
    assert renderer.event(event) == "2025-03-18 23:12:45.860103"
    renderer.event(startup(0, 0))
    assert renderer.event(event) == "1970-01-01 08:26:59.169061"


def test_clock_may_be_given() -> None:
    event = Event(common=CommonSection(1_999))
    assert to_text(event, Style(utc=True), Clock(0)) == "1970-01-01 00:00:00.000001"
    assert to_text(event, clock=Clock(0)) == "1999"


@pytest.mark.parametrize("sec", [2**62, -(2**62)])
def test_date_beyond_the_calendar_stays_a_number(sec: int) -> None:
    assert to_text(Event(common=COMMON), Style(utc=True), Clock(sec * 1_000_000_000)) == "2"


def test_section_of_the_future_prints_before_startup() -> None:
    class Future(Section):
        key: ClassVar[str] = "x-future"
        n: int

        def text(self, style: Style) -> str:
            return f"future {self.n}"

    kind = make_event_type([*(s for c in COLLECTORS for s in c.sections), Future])
    assert kind.__struct_encode_fields__[-2:] == ("x-future", "startup")
    event: Any = kind(common=COMMON, x_future=Future(5), dev=DevSection("", 1))  # type: ignore[call-arg]
    assert to_text(event) == "2\n  if 1\n  future 5"


def test_remembered_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from retis_py import display

    monkeypatch.setattr(display, "_CACHE", 8)
    texts = display.Texts(lambda key: "x" * key)
    for key in range(100):
        assert texts[key] == "x" * key
        assert len(texts) <= 8
    assert len(texts[5000]) == 5000
    assert 5000 not in texts
