"""ns: the network namespace a packet was in.  BPF side: bpf/collectors/ns.bpf.c"""

from typing import ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.section import U32, U64, Section, Style

__all__ = ["NetnsSection", "Ns"]


class NetnsSection(Section, kw_only=True):
    """Network namespace: *cookie* is net->net_cookie where the kernel has it, *inum* the inode number."""

    key: ClassVar[str] = "netns"
    cookie: Optional[U64] = None
    inum: U32

    def text(self, style: Style) -> str:
        return f"ns {self.inum}" if self.cookie is None else f"ns {self.cookie:#x}/{self.inum}"


class Ns(Collector):
    """Reports the network namespace."""

    name = "ns"
    sections = (NetnsSection,)
