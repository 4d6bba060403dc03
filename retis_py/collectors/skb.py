"""skb: the packet, and the state of its socket buffer.  BPF side: bpf/collectors/skb.bpf.c"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Optional

from retis_py.collectors.base import Collector, Kernel
from retis_py.events.packet import ethertype_text, packet_text
from retis_py.events.raw import Raw, pad, u8, u16, u32
from retis_py.events.section import U8, U16, U32, Section, Style

__all__ = ["PacketSection", "Skb", "SkbDataRef", "SkbGso", "SkbMeta", "SkbSection", "SkbVlanAccel"]


_log = logging.getLogger(__name__)

#: ``--skb-sections`` values, and those upstream still accepts though they mean nothing any more
SKB_SECTIONS = ("all", "eth", "meta", "dataref", "gso")
DEPRECATED_SECTIONS = ("arp", "ip", "tcp", "udp", "icmp", "packet", "vlan", "dev", "ns")


class PacketRaw(Raw):
    """Lengths in bytes; the captured bytes, an Ethernet frame, end the raw event."""

    tail = "capture_len"
    _fields_ = [("len", u32), ("capture_len", u32)]


class VlanRaw(Raw):
    """The tag the hardware took off: `proto` in host order, `dei` and `pcp` split from the TCI."""

    _fields_ = [("proto", u16), ("vid", u16), ("pcp", u8), ("dei", u8), ("_pad", pad * 2)]


class MetaRaw(Raw):
    """Of struct sk_buff, as is."""

    _fields_ = [
        ("len", u32),
        ("data_len", u32),
        ("hash", u32),
        ("csum", u32),
        ("priority", u32),
        ("ip_summed", u8),
        ("csum_level", u8),
        ("_pad", pad * 2),
    ]


class DataRefRaw(Raw):
    """Low bytes of skb->users and skb_shared_info->dataref, and the flags that go with them."""

    _fields_ = [
        ("nohdr", u8),
        ("cloned", u8),
        ("fclone", u8),
        ("users", u8),
        ("dataref", u8),
        ("_pad", pad * 3),
    ]


class GsoRaw(Raw):
    """Of struct skb_shared_info, as is."""

    _fields_ = [
        ("size", u32),
        ("segs", u32),
        ("type", u32),
        ("flags", u8),
        ("nr_frags", u8),
        ("_pad", pad * 2),
    ]


class PacketSection(Section):
    """An Ethernet frame. Its header is made up (no addresses) if the kernel had not built one yet."""

    key: ClassVar[str] = "packet"
    #: length of the frame, in bytes
    len: U32
    #: bytes captured, the length of *data*
    capture_len: U32
    #: the bytes captured
    data: bytes

    def text(self, style: Style) -> str:
        return packet_text(self.data, style.link_layer)


class SkbVlanAccel(Section):
    """VLAN tag kept beside the packet: *proto* is the TPID."""

    #: TPID
    proto: U16
    #: priority
    pcp: U8
    #: drop eligible
    dei: bool
    #: VLAN
    vid: U16

    def text(self, style: Style) -> str:
        dei = " DEI" if self.dei else ""
        return f"vlan_accel ({ethertype_text(self.proto)} vlan {self.vid} p {self.pcp}{dei})"


class SkbMeta(Section):
    """Lengths, checksum and scheduling state of an sk_buff; *ip_summed* is CHECKSUM_* of linux/skbuff.h."""

    #: bytes of the packet
    len: U32
    #: of them those in pages
    data_len: U32
    #: flow hash
    hash: U32
    #: ``CHECKSUM_*`` of include/linux/skbuff.h
    ip_summed: U8
    #: checksum, or where it starts and goes
    csum: U32
    #: checksums verified, less one
    csum_level: U8
    #: ``sk_buff.priority``
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

    #: the header may not be read
    nohdr: bool
    #: the data may have other users
    cloned: bool
    #: ``SKB_FCLONE_*``
    fclone: U8
    #: references to the sk_buff
    users: U8
    #: references to the data
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

    #: ``SKBFL_*``
    flags: U8
    #: pages
    frags: U8
    #: payload of a segment
    size: U32
    #: segments
    segs: U32
    #: ``SKB_GSO_*``, as bits
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
    #: the VLAN tag that is not in the packet but beside it
    vlan_accel: Optional[SkbVlanAccel] = None
    #: option ``meta`` of ``--skb-sections``
    meta: Optional[SkbMeta] = None
    #: option ``dataref``
    data_ref: Optional[SkbDataRef] = None
    #: option ``gso``
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
    layouts = {
        "skb": {"skb_vlan": VlanRaw, "skb_meta": MetaRaw, "skb_data_ref": DataRefRaw, "skb_gso": GsoRaw},
        "packet": {"skb_packet": PacketRaw},
    }
    reads = ("struct sk_buff *",)
    members = {
        "sk_buff": (
            *("len", "data_len", "mac_len", "protocol", "mac_header", "network_header", "transport_header"),
            *("head", "data", "end", "users.refs.counter", "vlan_present", "vlan_all", "vlan_tci", "vlan_proto"),
            *("hash", "csum", "priority", "ip_summed", "csum_level", "nohdr", "cloned", "fclone"),
        ),
        "skb_shared_info": ("gso_size", "gso_segs", "gso_type", "flags", "nr_frags", "dataref.counter"),
    }
    hooks = ("skb",)
    tail_hook = "skb_packet"

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        wanted = set(options.get("skb_sections") or ())
        for name in sorted(wanted.intersection(DEPRECATED_SECTIONS)):
            gone = ": it is now a collector" if name in ("dev", "ns") else ""
            _log.warning("Use of '%s' in --skb-sections is depreacted%s", name, gone)
        has_member = kernel.types.vmlinux.has_member
        self._defines = {
            "SKB_META": int(bool(wanted & {"all", "meta"})),
            "SKB_DATA_REF": int(bool(wanted & {"all", "dataref"})),
            "SKB_GSO": int(bool(wanted & {"all", "gso"})),
            # Linux commit 354259fa73e2 ("net: remove skb->vlan_present") (in v6.2) left vlan_all, a union of
            # protocol and TCI, to say whether there is a tag.
            "HAVE_VLAN_PRESENT": int(has_member("sk_buff", "vlan_present")),
            "HAVE_GSO_FLAGS": int(has_member("skb_shared_info", "flags")),
        }

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        if section == "packet":
            return PacketSection
        return _skb_maker(parts)


def _vlan(proto: int, vid: int, pcp: int, dei: int) -> SkbVlanAccel:
    return SkbVlanAccel(proto, pcp, bool(dei), vid)


def _meta(length: int, data_len: int, skb_hash: int, csum: int, priority: int, summed: int, level: int) -> SkbMeta:
    return SkbMeta(length, data_len, skb_hash, summed, csum, level, priority)


def _data_ref(nohdr: int, cloned: int, fclone: int, users: int, dataref: int) -> SkbDataRef:
    return SkbDataRef(bool(nohdr), bool(cloned), fclone, users, dataref)


def _gso(size: int, segs: int, kind: int, flags: int, frags: int) -> SkbGso:
    return SkbGso(flags, frags, size, segs, kind)


#: raw part -> field of SkbSection, how many raw values it has, what makes it
_SKB_FIELDS: dict[str, tuple[str, int, Callable[..., Any]]] = {
    "skb_vlan": ("vlan_accel", 4, _vlan),
    "skb_meta": ("meta", 7, _meta),
    "skb_data_ref": ("data_ref", 5, _data_ref),
    "skb_gso": ("gso", 5, _gso),
}


def _skb_maker(parts: tuple[str, ...]) -> Callable[..., SkbSection]:
    """A function from the values of *parts*, one after the other, to the section."""
    if parts == ("skb_meta",):
        return lambda *values: SkbSection(meta=_meta(*values))
    cuts, at = [], 0
    for part in parts:
        field, count, make = _SKB_FIELDS[part]
        cuts.append((field, make, at, at + count))
        at += count
    return lambda *v: SkbSection(**{field: make(*v[start:end]) for field, make, start, end in cuts})
