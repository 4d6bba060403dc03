"""skb_drop: why a packet was dropped.  BPF side: bpf/collectors/skb_drop.bpf.c"""

from typing import ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.section import Section, Style
from retis_py.events.visible import visible

__all__ = ["SkbDrop", "SkbDropSection"]


class SkbDropSection(Section, kw_only=True):
    """Reason of a drop."""

    key: ClassVar[str] = "skb-drop"
    #: lower-case name of the subsystem the reason belongs to; None is the core's
    subsys: Optional[str] = None
    #: name without ``SKB_DROP_REASON_``, the number as text where it has no name
    drop_reason: str

    def text(self, style: Style) -> str:
        reason = visible(self.drop_reason)
        if self.subsys is not None:
            reason = f"{visible(self.subsys)}/{reason}"
        return f"drop (reason {reason})"


class SkbDrop(Collector):
    """Reports drop reasons."""

    name = "skb-drop"
    sections = (SkbDropSection,)
