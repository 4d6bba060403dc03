"""dev: the interface a packet was on.  BPF side: bpf/collectors/dev.bpf.c"""

from typing import ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.section import U32, Section, Style
from retis_py.events.visible import visible

__all__ = ["Dev", "DevSection"]


class DevSection(Section):
    """Network device of an event. *rx_ifindex* is skb->skb_iif: where the packet came in, if it did."""

    key: ClassVar[str] = "dev"
    name: str
    ifindex: U32
    rx_ifindex: Optional[U32] = None

    def text(self, style: Style) -> str:
        text = f"if {self.ifindex}"
        if self.name:
            text += f" ({visible(self.name)})"
        if self.rx_ifindex is not None:
            text += f" rxif {self.rx_ifindex}"
        return text


class Dev(Collector):
    """Reports the network device."""

    name = "dev"
    sections = (DevSection,)
