"""skb_drop: why a packet was dropped."""

from __future__ import annotations

import pytest

from retis_py.collectors.base import Unavailable
from retis_py.collectors.skb_drop import SkbDrop, SkbDropSection
from retis_py.events.section import PLAIN
from tests.support.kernels import FakeKernel

CORE = {"SKB_NOT_DROPPED_YET": 0, "SKB_CONSUMED": 1, "SKB_DROP_REASON_NO_SOCKET": 3}
SUBSYSTEMS = {
    "SKB_DROP_REASON_SUBSYS_CORE": 0,
    "SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE": 1,
    "SKB_DROP_REASON_SUBSYS_MAC80211_MONITOR": 2,
    "SKB_DROP_REASON_SUBSYS_OPENVSWITCH": 3,
    "SKB_DROP_REASON_SUBSYS_NUM": 4,
}
MAC80211 = {"RX_DROP_M_OLD": 0x20001, "RX_DROP_U_REPLAY": 0x10002}
OVS = {"OVS_DROP_LAST_ACTION": 0x30001}


def _maker(**enums):
    collector = SkbDrop()
    collector.setup(FakeKernel({"skb_drop_reason": CORE, **enums}), {})
    return collector.maker("skb-drop", ("skb_drop",))


@pytest.fixture
def make():
    return _maker(skb_drop_reason_subsys=SUBSYSTEMS, mac80211_drop_reason=MAC80211, ovs_drop_reason=OVS)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (3, "drop (reason NO_SOCKET)"),
        (0, "drop (reason NOT_DROPPED_YET)"),
        (1, "drop (reason CONSUMED)"),
        (0x30001, "drop (reason openvswitch/OVS_DROP_LAST_ACTION)"),
        (0x10002, "drop (reason mac80211_unusable/RX_DROP_U_REPLAY)"),
        (0x20001, "drop (reason mac80211_monitor/RX_DROP_M_OLD)"),
        (99, "drop (reason 99)"),
        (0x30099, "drop (reason openvswitch/196761)"),
        (0x90001, "drop (reason 9/589825)"),
        (-1, "drop (reason NOT_SPECIFIED)"),
    ],
)
def test_reasons_are_named_by_the_kernels_own_enums(make, reason: int, text: str) -> None:
    assert make(reason).text(PLAIN) == text


def test_kernel_before_subsystems_has_core_reasons_only() -> None:
    assert _maker()(3) == SkbDropSection(drop_reason="NO_SOCKET")


def test_kernel_without_reasons_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakeKernel(tracepoints={"kfree_skb": ["struct sk_buff *", "void *"]}, version=(5, 10))
    collector = SkbDrop()
    collector.check(kernel)
    assert "This kernel doesn't provide skb drop reasons" in caplog.text
    collector.setup(kernel, {})
    assert collector.defines() == {"HAVE_DROP_REASON": 0}


def test_reasons_missing_where_they_must_be_are_an_error() -> None:
    kernel = FakeKernel(tracepoints={"kfree_skb": ["struct sk_buff *"]}, version=(6, 1))
    with pytest.raises(Unavailable, match="Could not retrieve skb drop reasons"):
        SkbDrop().check(kernel)


def test_kernel_without_the_tracepoint_cannot_run_it() -> None:
    with pytest.raises(Unavailable, match="skb:kfree_skb does not exist"):
        SkbDrop().check(FakeKernel())
