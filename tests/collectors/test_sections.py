"""The smaller sections: text, and strings from outside made visible."""

from __future__ import annotations

from typing import Any

import pytest

from retis_py.collectors import COLLECTORS, Collector, Event
from retis_py.collectors.dev import DevSection
from retis_py.collectors.nft import NftSection
from retis_py.collectors.ns import NetnsSection
from retis_py.collectors.skb_drop import SkbDropSection
from retis_py.collectors.skb_tracking import SkbTrackingSection
from retis_py.events.core import (
    CommonSection,
    KernelSection,
    Machine,
    RotationPolicy,
    SkbId,
    SplitFile,
    StartupSection,
    Task,
    TimeSpec,
    TrackingSection,
    UserspaceSection,
)
from retis_py.events.event import FILE_ORDER
from retis_py.events.section import PLAIN, Style

NFT: dict[str, Any] = {"table_name": "t", "chain_name": "c", "table_handle": 1, "chain_handle": 2}
STARTUP = StartupSection(
    "v1.7.0",
    "retis collect -o",
    TimeSpec(1, 2),
    Machine("6.8.0", "#1 SMP", "x86_64"),
    SplitFile(3, RotationPolicy("size", 1_000_000)),
)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (CommonSection(5), "5"),
        (CommonSection(5, 6), "5 (6)"),
        (CommonSection(5, 6, Task(985, 995, "handler8")), "5 (6) [handler8] 985/995"),
        (CommonSection(5, None, Task(9, 9, "a")), "5 [a] 9"),
        (KernelSection("tcp_v4_rcv", "kprobe"), "[k] tcp_v4_rcv"),
        (KernelSection("f", "kretprobe"), "[kr] f"),
        (KernelSection("skb:kfree_skb", "raw_tracepoint"), "[tp] skb:kfree_skb"),
        (KernelSection("f", "fentry"), "[invalid] f"),
        (UserspaceSection("usdt", "a:b", 1, "/usr/sbin/x", 1, 2), "[u] a:b (x)"),
        (UserspaceSection("usdt", "a:b", 1, "x", 1, 2), "[u] a:b"),
        (UserspaceSection("usdt", "a:b", 1, "/x/", 1, 2), "[u] a:b ()"),
        (SkbTrackingSection(1, 2, 255), "#20000000000000001 (skb ff)"),
        (SkbTrackingSection(0xAB, 0, 0), "#ab (skb 0)"),
        (TrackingSection(SkbId(1, 3, 254), 4), "#30000000000000001 (skb fe) n 4"),
        (SkbDropSection(drop_reason="NO_SOCKET"), "drop (reason NO_SOCKET)"),
        (SkbDropSection(subsys="openvswitch", drop_reason="X"), "drop (reason openvswitch/X)"),
        (NetnsSection(inum=1), "ns 1"),
        (NetnsSection(cookie=3, inum=4026532741), "ns 0x3/4026532741"),
        (DevSection("", 11), "if 11"),
        (DevSection("veth0", 11, 0), "if 11 (veth0) rxif 0"),
        (NftSection(verdict="accept", policy=True, **NFT), "table t (1) chain c (2) accept (policy)"),
        (
            NftSection(verdict="jump", verdict_chain_name="d", rule_handle=3, policy=False, **NFT),
            "table t (1) chain c (2) handle 3 jump chain d",
        ),
        (
            STARTUP,
            "collected with Retis v1.7.0\non machine 6.8.0 #1 SMP x86_64\nfile id 3\ncmdline retis collect -o",
        ),
    ],
)
def test_text(section: Any, text: str) -> None:
    assert section.text(PLAIN) == text
    assert section.text(Style(multi_line=False)) == text.replace("\n", " ")


def test_stack_is_a_list_or_lines() -> None:
    kernel = KernelSection("f", "kprobe", ("a+0x1", "b+0x2"))
    assert kernel.stack_text(PLAIN) == "a+0x1\nb+0x2"
    assert kernel.stack_text(Style(multi_line=False)) == "[a+0x1, b+0x2]"
    assert KernelSection("f", "kprobe", ()).stack_text(PLAIN) == ""


EVIL = "a\x1b]0;x\x07\nb\x9b31m\u202e"
SEEN = "a\\x1b]0;x\\x07\\nb\\u009b31m\\u202e"


@pytest.mark.parametrize(
    "section",
    [
        Task(1, 1, EVIL),
        KernelSection(EVIL, "kprobe"),
        UserspaceSection("usdt", EVIL, 1, "x", 1, 2),
        UserspaceSection("usdt", "a:b", 1, "/" + EVIL, 1, 2),
        SkbDropSection(drop_reason=EVIL),
        SkbDropSection(subsys=EVIL, drop_reason="X"),
        DevSection(EVIL, 1),
        NftSection(verdict=EVIL, policy=False, **NFT),
        NftSection(verdict="jump", verdict_chain_name=EVIL, policy=False, **NFT),
        NftSection(verdict="jump", policy=False, **{**NFT, "table_name": EVIL}),
        NftSection(verdict="jump", policy=False, **{**NFT, "chain_name": EVIL}),
        StartupSection("v1.7.0", EVIL, TimeSpec(1, 2), Machine("a", "b", "c")),
        StartupSection(EVIL, "", TimeSpec(1, 2), Machine("a", "b", "c")),
        StartupSection("v1.7.0", "", TimeSpec(1, 2), Machine("a", EVIL, "c")),
    ],
)
def test_no_string_from_outside_reaches_the_terminal_raw(section: Any) -> None:
    text = section.text(PLAIN)
    assert SEEN in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_stack_entries_are_made_visible() -> None:
    assert KernelSection("f", "kprobe", (EVIL,)).stack_text(PLAIN) == SEEN


def test_events_have_every_section_of_the_file_format_in_order() -> None:
    keys = Event.__struct_encode_fields__
    assert [key for key in keys if key in FILE_ORDER] == list(FILE_ORDER)
    assert keys[-1] == "startup"


def test_every_collector_is_in_the_list() -> None:
    listed = set(COLLECTORS)
    assert {
        kind for kind in Collector.__subclasses__() if kind.__module__.startswith("retis_py.")
    } == listed
    assert len({collector.name for collector in COLLECTORS}) == len(COLLECTORS)
