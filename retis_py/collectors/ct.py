"""ct: the connection a packet belongs to.  BPF side: bpf/collectors/ct.bpf.c"""

from typing import ClassVar, Literal, Optional

from retis_py.collectors.base import Collector
from retis_py.events.section import U8, U16, U32, U64, Section, Style
from retis_py.events.visible import visible

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

_ZONES = {"Original": "orig-zone", "Reply": "reply-zone", "Default": "zone"}


class CtIp(Section):
    """Addresses of one direction, as text."""

    src: str
    dst: str
    version: Literal["v4", "v6"]


class CtPorts(Section):
    """TCP or UDP ports."""

    sport: U16
    dport: U16


class CtIcmp(Section):
    """ICMP type, code and echo identifier."""

    code: U8
    type: U8
    id: U16


class CtSctp(Section):
    """SCTP ports and verification tag."""

    sport: U16
    dport: U16
    vtag: U32


class CtProto(Section):
    """The protocol of one direction: exactly one of these."""

    tcp: Optional[CtPorts] = None
    udp: Optional[CtPorts] = None
    icmp: Optional[CtIcmp] = None
    sctp: Optional[CtSctp] = None

    def present(self) -> int:
        """How many protocols are given."""
        return sum(part is not None for part in (self.tcp, self.udp, self.icmp, self.sctp))


class CtTuple(Section):
    """One direction of a connection."""

    ip: CtIp
    proto: CtProto

    def ends(self, ports: CtPorts) -> str:
        return f"{visible(self.ip.src)}.{ports.sport} > {visible(self.ip.dst)}.{ports.dport}"

    def icmp(self, icmp: CtIcmp) -> str:
        return (
            f"{visible(self.ip.src)} > {visible(self.ip.dst)} type {icmp.type} code {icmp.code} id {icmp.id}"
        )

    def sctp(self, sctp: CtSctp) -> str:
        return (
            f"{visible(self.ip.src)}.{sctp.sport} > {visible(self.ip.dst)}.{sctp.dport} vtag {sctp.vtag:#x}"
        )


class CtLabels(Section):
    """128 bits of connection labels."""

    hi: U64
    lo: U64


class CtConnection(Section, kw_only=True):
    """A connection: also the parent (master) of one, e.g. the control connection of FTP data."""

    zone_id: U16
    zone_dir: Literal["Original", "Reply", "Default", "None"]
    orig: CtTuple
    reply: CtTuple
    #: TCP and SCTP: name without ``TCP_CONNTRACK_``/``SCTP_CONNTRACK_``, or the number as text
    proto_state: Optional[str] = None
    mark: Optional[U32] = None
    labels: Optional[CtLabels] = None
    #: bits of enum ip_conntrack_status
    ct_status: U64

    def validate(self) -> None:
        """Raise ValueError unless each direction has exactly one protocol."""
        if self.orig.proto.present() != 1 or self.reply.proto.present() != 1:
            raise ValueError("invalid value: map, expected map with a single key")

    def connection_text(self) -> str:
        text = f"status {self.ct_status:#x} {self._directions()}"
        zone = _ZONES.get(self.zone_dir)
        if zone is not None:
            text += f"{zone} {self.zone_id}"
        if self.mark is not None:
            text += f" mark {self.mark}"
        if self.labels is not None:
            text += f" labels {self.labels.hi << 64 | self.labels.lo:#x}"
        return text

    def _directions(self) -> str:
        """Both directions, with the space after them; '' if their protocols differ."""
        orig, reply = self.orig, self.reply
        ours, theirs = orig.proto, reply.proto
        if ours.tcp is not None and theirs.tcp is not None:
            state = "UNKNOWN" if self.proto_state is None else visible(self.proto_state)
            return f"tcp ({state}) orig [{orig.ends(ours.tcp)}] reply [{reply.ends(theirs.tcp)}] "
        if ours.udp is not None and theirs.udp is not None:
            return f"udp orig [{orig.ends(ours.udp)}] reply [{reply.ends(theirs.udp)}] "
        if ours.icmp is not None and theirs.icmp is not None:
            return f"icmp orig [{orig.icmp(ours.icmp)}] reply [{reply.icmp(theirs.icmp)}] "
        if ours.sctp is not None and theirs.sctp is not None:
            state = "UNKNOWN" if self.proto_state is None else visible(self.proto_state)
            return f"sctp ({state}) orig [{orig.sctp(ours.sctp)}] reply [{reply.sctp(theirs.sctp)}] "
        return ""


class _CtState(Section, kw_only=True):
    # a base of its own, listed last, because state comes first in files
    state: Literal["established", "related", "new", "reply", "related_reply", "untracked"]


class CtSection(CtConnection, _CtState, kw_only=True):
    """Conntrack entry of a packet, and the packet's state in it (enum ip_conntrack_info)."""

    key: ClassVar[str] = "ct"
    parent: Optional[CtConnection] = None

    def validate(self) -> None:
        CtConnection.validate(self)
        if self.parent is not None:
            self.parent.validate()

    def text(self, style: Style) -> str:
        text = f"ct_state {self.state.upper()} {self.connection_text()}"
        if self.parent is not None:
            lead = "\n\\" if style.multi_line else ""
            text += f"{lead} parent [{self.parent.connection_text()}]"
        return text


class Ct(Collector):
    """Reports conntrack entries."""

    name = "ct"
    sections = (CtSection,)
