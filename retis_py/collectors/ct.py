"""ct: the connection a packet belongs to.  BPF side: bpf/collectors/ct.bpf.c"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Optional

from retis_py.collectors.base import Collector, Kernel, Unavailable
from retis_py.collectors.ct_events import (
    CtConnection,
    CtIcmp,
    CtIp,
    CtLabels,
    CtPorts,
    CtProto,
    CtSctp,
    CtSection,
    CtTuple,
    ZoneDir,
)
from retis_py.events.packet.ip import inet_ntoa, ipv6_address
from retis_py.events.raw import Raw, pad, u8, u16, u32, u64

__all__ = [
    "Ct",
    "CtConnection",
    "CtIcmp",
    "CtIp",
    "CtLabels",
    "CtPorts",
    "CtProto",
    "CtSctp",
    "CtSection",
    "CtTuple",
]


class CtRaw(Raw):
    """Of struct nf_conn (include/net/netfilter/nf_conntrack.h), numbers in host order.

    Addresses are union nf_inet_addr: of IPv4 the first four bytes count. Ports are, for ICMP, the identifier (source)
    and ``type << 8 | code`` (destination). `zone_dir` is bits of struct nf_conntrack_zone, `labels` struct
    nf_conn_labels. `state` is enum ip_conntrack_info, of the packet, and 0 in a parent.
    """

    _fields_ = [
        *((name, u8 * 16) for name in ("orig_src", "orig_dst", "reply_src", "reply_dst")),
        ("labels", u64 * 2),
        ("status", u64),
        *((name, u32) for name in ("mark", "orig_vtag", "reply_vtag")),
        *((name, u16) for name in ("orig_sport", "orig_dport", "reply_sport", "reply_dport", "zone_id", "l3num")),
        *((name, u8) for name in ("protonum", "proto_state", "zone_dir", "state")),
        ("_pad", pad * 4),
    ]


#: enum ip_conntrack_info (include/uapi/linux/netfilter/nf_conntrack_common.h)
_STATES = {0: "established", 1: "related", 2: "new", 3: "reply", 4: "related_reply", 7: "untracked"}
#: bits NF_CT_ZONE_DIR_* (include/net/netfilter/nf_conntrack_zones.h); no bit: the kernel has no zones
_ZONE_DIRS: tuple[ZoneDir, ...] = ("None", "Original", "Reply", "Default")
_NFPROTO_IPV4, _NFPROTO_IPV6 = 2, 10  # include/uapi/linux/netfilter.h
#: by protonum. Upstream has no section for ICMPv6; its reader takes it as an icmp with IPv6 addresses
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp", 132: "sctp"}
_STATE_NAMES = {6: ("tcp_conntrack", "TCP_CONNTRACK_"), 132: ("sctp_conntrack", "SCTP_CONNTRACK_")}


def _ip(l3num: int, src: bytes, dst: bytes) -> CtIp:
    if l3num == _NFPROTO_IPV4:
        return CtIp(inet_ntoa(src[:4]), inet_ntoa(dst[:4]), "v4")
    return CtIp(ipv6_address(src), ipv6_address(dst), "v6")


def _proto(kind: str, sport: int, dport: int, vtag: int) -> CtProto:
    if kind == "tcp":
        return CtProto(tcp=CtPorts(sport, dport))
    if kind == "udp":
        return CtProto(udp=CtPorts(sport, dport))
    if kind == "sctp":
        return CtProto(sctp=CtSctp(sport, dport, vtag))
    return CtProto(icmp=CtIcmp(code=dport & 0xFF, type=dport >> 8, id=sport))


class Ct(Collector):
    """Reports conntrack entries."""

    name = "ct"
    sections = (CtSection,)
    layouts = {"ct": {"ct": CtRaw, "ct_parent": CtRaw}}
    reads = ("struct sk_buff *",)
    members = {
        "sk_buff": ("_nfct",),
        "nf_conn": (
            *(f"tuplehash.tuple.{name}" for name in ("src.u3", "src.u.all", "src.l3num")),
            *(f"tuplehash.tuple.{name}" for name in ("dst.u3", "dst.u.all", "dst.protonum")),
            *("status", "master", "mark", "ext", "zone.id", "zone.dir"),
            *("proto.tcp.state", "proto.sctp.state", "proto.sctp.vtag"),
        ),
        "nf_ct_ext": ("offset",),
    }
    hooks = ("ct",)

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, dict[int, str]] = {}

    def check(self, kernel: Kernel) -> None:
        has = kernel.types.has_member
        built = kernel.config("CONFIG_NF_CONNTRACK")
        if built == "m" and not kernel.module_loaded("nf_conntrack"):
            raise Unavailable("Kernel module 'nf_conntrack' is not loaded", hint="load it: modprobe nf_conntrack")
        if built not in (None, "y", "m") or not has("sk_buff", "_nfct"):
            raise Unavailable("This kernel does not support connection tracking")
        if not has("nf_conn", "tuplehash"):
            raise Unavailable("The BTF of this kernel and of its modules has no struct nf_conn")

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        has = kernel.types.has_member
        # Members that go with CONFIG_NF_CONNTRACK_MARK, _ZONES and _LABELS.
        labels = (kernel.types.enum("nf_ct_ext_id") or {}).get("NF_CT_EXT_LABELS")
        self._defines = {
            "HAVE_CT": 1,
            "HAVE_CT_MARK": int(has("nf_conn", "mark")),
            "HAVE_CT_ZONE": int(has("nf_conn", "zone.dir")),
            "HAVE_CT_LABELS": int(labels is not None),
            "NF_CT_EXT_LABELS": labels or 0,
        }
        for protonum, (enum, prefix) in _STATE_NAMES.items():
            values = kernel.types.enum(enum) or {}
            self._names[protonum] = {value: name.removeprefix(prefix) for name, value in reversed(values.items())}

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        if parts[0] != "ct":  # a parent without a child is no connection of the packet
            return lambda *values: None
        cut = CtRaw.values()

        @lru_cache(maxsize=4096)  # packets of a connection are many, its states few
        def make(*values: Any) -> Optional[CtSection]:
            state, fields = _STATES.get(values[cut - 1]), self._fields(values)
            if state is None or fields is None:
                return None
            parent = self._fields(values[cut:]) if len(parts) > 1 else None
            return CtSection(state=state, parent=parent and CtConnection(**parent), **fields)

        return make

    def _fields(self, values: tuple[Any, ...]) -> Optional[dict[str, Any]]:
        """The fields of a `CtConnection` from the values of a `CtRaw`; None if there is no form for its protocol."""
        orig_src, orig_dst, reply_src, reply_dst, labels_lo, labels_hi, status, mark = values[:8]
        orig_vtag, reply_vtag, orig_sport, orig_dport, reply_sport, reply_dport = values[8:14]
        zone_id, l3num, protonum, proto_state, zone_dir = values[14:19]
        kind = _PROTOCOLS.get(protonum)
        if kind is None or l3num not in (_NFPROTO_IPV4, _NFPROTO_IPV6):
            return None
        names = self._names.get(protonum)
        return {
            "zone_id": zone_id,
            "zone_dir": _ZONE_DIRS[zone_dir & 3],
            "orig": CtTuple(_ip(l3num, orig_src, orig_dst), _proto(kind, orig_sport, orig_dport, orig_vtag)),
            "reply": CtTuple(_ip(l3num, reply_src, reply_dst), _proto(kind, reply_sport, reply_dport, reply_vtag)),
            "proto_state": None if names is None else names.get(proto_state, str(proto_state)),
            "mark": mark if self._defines["HAVE_CT_MARK"] else None,
            "labels": CtLabels(labels_hi, labels_lo) if labels_hi or labels_lo else None,
            "ct_status": status,
        }
