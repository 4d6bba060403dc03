"""skb: the packet, and the state of its socket buffer.  BPF side: bpf/collectors/skb.bpf.c"""

from typing import ClassVar, Optional

from retis_py.collectors.base import Collector
from retis_py.events.packet import ethertype_text, packet_text
from retis_py.events.section import U8, U16, U32, Section, Style

__all__ = ["PacketSection", "Skb", "SkbDataRef", "SkbGso", "SkbMeta", "SkbSection", "SkbVlanAccel"]


class PacketSection(Section):
    """An Ethernet frame. Its header is made up (no addresses) if the kernel had not built one yet."""

    key: ClassVar[str] = "packet"
    #: length of the frame, in bytes
    len: U32
    #: bytes captured, the length of *data*
    capture_len: U32
    data: bytes

    def text(self, style: Style) -> str:
        return packet_text(self.data, style.link_layer)


class SkbVlanAccel(Section):
    """VLAN tag kept beside the packet: *proto* is the TPID."""

    proto: U16
    pcp: U8
    dei: bool
    vid: U16

    def text(self, style: Style) -> str:
        dei = " DEI" if self.dei else ""
        return f"vlan_accel ({ethertype_text(self.proto)} vlan {self.vid} p {self.pcp}{dei})"


class SkbMeta(Section):
    """Lengths, checksum and scheduling state of an sk_buff; *ip_summed* is CHECKSUM_* of linux/skbuff.h."""

    len: U32
    data_len: U32
    hash: U32
    ip_summed: U8
    csum: U32
    csum_level: U8
    priority: U32

    def text(self, style: Style) -> str:
        summed = self.ip_summed
        if summed == 0:
            text = "csum none"
        elif summed == 1:
            text = f"csum unnecessary (level {self.csum_level})"
        elif summed == 2:
            text = f"csum complete ({self.csum:#x})"
        elif summed == 3:
            text = f"csum partial (start {self.csum & 0xFFFF} off {self.csum >> 16})"
        else:
            text = f"csum unknown ({summed})"
        if self.hash:
            text += f" hash {self.hash:#x}"
        text += f" len {self.len}"
        if self.data_len:
            text += f" data_len {self.data_len}"
        return f"{text} priority {self.priority}"


class SkbDataRef(Section):
    """Who else uses an sk_buff (*users*) and its data (*dataref*): low bytes of the two counters."""

    nohdr: bool
    cloned: bool
    fclone: U8
    users: U8
    dataref: U8

    def text(self, style: Style) -> str:
        text = "nohdr " if self.nohdr else ""
        if self.cloned:
            text += "cloned "
        if self.fclone:
            text += f"fclone {self.fclone} "
        return f"{text}users {self.users} dataref {self.dataref}"


class SkbGso(Section):
    """Segmentation offload state, from skb_shared_info."""

    flags: U8
    frags: U8
    size: U32
    segs: U32
    type: U32

    def text(self, style: Style) -> str:
        text = f"gso [type {self.type:#x} "
        if self.flags:
            text += f"flags {self.flags:#x} "
        if self.frags:
            text += f"frags {self.frags} "
        if self.segs:
            text += f"segs {self.segs} "
        return f"{text}size {self.size}]"


class SkbSection(Section):
    """State of the socket buffer: the parts asked for with ``--skb-sections``."""

    key: ClassVar[str] = "skb"
    vlan_accel: Optional[SkbVlanAccel] = None
    meta: Optional[SkbMeta] = None
    data_ref: Optional[SkbDataRef] = None
    gso: Optional[SkbGso] = None

    def text(self, style: Style) -> str:
        meta, data_ref = self.meta, self.data_ref
        parts = []
        if style.link_layer and self.vlan_accel is not None:
            parts.append(self.vlan_accel.text(style))
        if meta is not None and data_ref is not None:
            parts.append(f"skb [{meta.text(style)} {data_ref.text(style)}]")
        elif meta is not None:
            parts.append(f"skb [{meta.text(style)}]")
        elif data_ref is not None:
            parts.append(f"skb [{data_ref.text(style)}]")
        if self.gso is not None:
            parts.append(self.gso.text(style))
        return " ".join(parts)


class Skb(Collector):
    """Reports the packet and the state of its socket buffer."""

    name = "skb"
    sections = (PacketSection, SkbSection)
