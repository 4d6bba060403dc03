"""skb_tracking: the identity of a packet.  BPF side: bpf/collectors/skb_tracking.bpf.c"""

from collections.abc import Callable
from typing import Any, ClassVar

from retis_py.collectors.base import Collector
from retis_py.events.core import SkbId
from retis_py.events.raw import Raw, u64

__all__ = ["SkbTracking", "SkbTrackingSection"]


class SkbTrackingRaw(Raw):
    """struct tracking_info of bpf/tracking.h, and the skb it was reached by."""

    _fields_ = [("orig_head", u64), ("timestamp", u64), ("skb", u64)]


class SkbTrackingSection(SkbId):
    """Identity of the packet of an event."""

    key: ClassVar[str] = "skb-tracking"


class SkbTracking(Collector):
    """Gives every event the identity of its packet, so that ``sort`` can follow it."""

    name = "skb-tracking"
    sections = (SkbTrackingSection,)
    layouts = {"skb-tracking": {"skb_tracking": SkbTrackingRaw}}
    reads = ("struct sk_buff *",)
    hooks = ("skb_tracking",)

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        return SkbTrackingSection
