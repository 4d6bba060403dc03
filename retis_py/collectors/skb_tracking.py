"""skb_tracking: the identity of a packet.  BPF side: bpf/collectors/skb_tracking.bpf.c"""

from typing import ClassVar

from retis_py.collectors.base import Collector
from retis_py.events.core import SkbId

__all__ = ["SkbTracking", "SkbTrackingSection"]


class SkbTrackingSection(SkbId):
    """Identity of the packet of an event."""

    key: ClassVar[str] = "skb-tracking"


class SkbTracking(Collector):
    """Gives every event the identity of its packet, so that ``sort`` can follow it."""

    name = "skb-tracking"
    sections = (SkbTrackingSection,)
