"""dev: the interface a packet was on.  BPF side: bpf/collectors/dev.bpf.c"""

from collections.abc import Callable
from typing import Any, ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.raw import Raw, char, u32
from retis_py.events.section import U32, Section, Style
from retis_py.events.visible import visible
from retis_py.events.wire import text

__all__ = ["Dev", "DevSection"]


class DevRaw(Raw):
    """Of struct net_device, IFNAMSIZ 16 (include/uapi/linux/if.h), and skb->skb_iif."""

    _fields_ = [("name", char * 16), ("ifindex", u32), ("iif", u32)]


class DevSection(Section):
    """Network device of an event. *rx_ifindex* is skb->skb_iif: where the packet came in, if it did."""

    key: ClassVar[str] = "dev"
    #: its name
    name: str
    #: its number
    ifindex: U32
    #: number of the interface the packet came in by
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
    layouts = {"dev": {"dev": DevRaw}}
    reads = ("struct net_device *", "struct sk_buff *")
    members = {"sk_buff": ("dev", "skb_iif"), "net_device": ("ifindex", "name")}
    hooks = ("dev",)

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        return lambda name, ifindex, iif: DevSection(text(name), ifindex, iif or None)
