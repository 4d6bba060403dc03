"""Sections of collector ct, and their text."""

from typing import ClassVar, Literal, Optional, Union

from retis_py.events.section import U8, U16, U32, U64, Section, Style
from retis_py.events.visible import visible

__all__ = [
    "CtConnection",
    "CtIcmp",
    "CtIp",
    "CtLabels",
    "CtPorts",
    "CtProto",
    "CtSctp",
    "CtSection",
    "CtTuple",
    "ZoneDir",
]

#: the direction a zone applies to
ZoneDir = Literal["Original", "Reply", "Default", "None"]
_ZONES = {"Original": "orig-zone", "Reply": "reply-zone", "Default": "zone"}


class CtIp(Section):
    """Addresses of one direction, as text."""

    #: source
    src: str
    #: destination
    dst: str
    #: 4 or 6
    version: Literal["v4", "v6"]


class CtPorts(Section):
    """TCP or UDP ports."""

    #: source
    sport: U16
    #: destination
    dport: U16


class CtIcmp(Section):
    """ICMP type, code and echo identifier."""

    #: code
    code: U8
    #: type
    type: U8
    #: identifier
    id: U16


class CtSctp(Section):
    """SCTP ports and verification tag."""

    #: source
    sport: U16
    #: destination
    dport: U16
    #: verification tag
    vtag: U32


class CtProto(Section):
    """The protocol of one direction: exactly one of these."""

    #: TCP
    tcp: Optional[CtPorts] = None
    #: UDP
    udp: Optional[CtPorts] = None
    #: ICMP, and ICMPv6 with IPv6 addresses
    icmp: Optional[CtIcmp] = None
    #: SCTP
    sctp: Optional[CtSctp] = None

    def present(self) -> int:
        """How many protocols are given."""
        return sum(part is not None for part in (self.tcp, self.udp, self.icmp, self.sctp))


class CtTuple(Section):
    """One direction of a connection."""

    #: addresses
    ip: CtIp
    #: protocol
    proto: CtProto

    def ends(self, ports: CtPorts) -> str:
        return f"{visible(self.ip.src)}.{ports.sport} > {visible(self.ip.dst)}.{ports.dport}"

    def icmp(self, icmp: CtIcmp) -> str:
        return f"{visible(self.ip.src)} > {visible(self.ip.dst)} type {icmp.type} code {icmp.code} id {icmp.id}"

    def sctp(self, sctp: CtSctp) -> str:
        return f"{visible(self.ip.src)}.{sctp.sport} > {visible(self.ip.dst)}.{sctp.dport} vtag {sctp.vtag:#x}"


class CtLabels(Section):
    """128 bits of connection labels."""

    #: the upper 64 bits
    hi: U64
    #: the lower 64 bits
    lo: U64


class CtConnection(Section, kw_only=True):
    """A connection: the parent (master) of another, e.g. the control connection of FTP data."""

    #: zone
    zone_id: U16
    #: directions the zone is for
    zone_dir: ZoneDir
    #: as it began
    orig: CtTuple
    #: as answers come
    reply: CtTuple
    #: TCP and SCTP: name without ``TCP_CONNTRACK_``/``SCTP_CONNTRACK_``, or the number as text
    proto_state: Optional[str] = None
    #: connection mark
    mark: Optional[U32] = None
    #: connection labels
    labels: Optional[CtLabels] = None
    #: bits of enum ip_conntrack_status
    ct_status: U64


class CtSection(Section, kw_only=True):
    """Conntrack entry of a packet, and the packet's state in it (enum ip_conntrack_info).

    The fields of `CtConnection` are inlined in files, after *state*: hence no inheritance.
    """

    key: ClassVar[str] = "ct"
    #: of the packet
    state: Literal["established", "related", "new", "reply", "related_reply", "untracked"]
    #: zone
    zone_id: U16
    #: directions the zone is for
    zone_dir: ZoneDir
    #: as it began
    orig: CtTuple
    #: as answers come
    reply: CtTuple
    #: TCP and SCTP: name without its prefix, or the number as text
    proto_state: Optional[str] = None
    #: connection mark
    mark: Optional[U32] = None
    #: connection labels
    labels: Optional[CtLabels] = None
    #: bits of enum ip_conntrack_status
    ct_status: U64
    #: the connection it was expected by
    parent: Optional[CtConnection] = None

    def validate(self) -> None:
        """Raise ValueError unless each direction has exactly one protocol."""
        connections = (self,) if self.parent is None else (self, self.parent)
        for connection in connections:
            if connection.orig.proto.present() != 1 or connection.reply.proto.present() != 1:
                raise ValueError("invalid value: map, expected map with a single key")

    def text(self, style: Style) -> str:
        text = f"ct_state {self.state.upper()} {_connection_text(self)}"
        if self.parent is not None:
            lead = "\n\\" if style.multi_line else ""
            text += f"{lead} parent [{_connection_text(self.parent)}]"
        return text


def _connection_text(connection: Union[CtConnection, CtSection]) -> str:
    text = f"status {connection.ct_status:#x} {_directions(connection)}"
    zone = _ZONES.get(connection.zone_dir)
    if zone is not None:
        text += f"{zone} {connection.zone_id}"
    if connection.mark is not None:
        text += f" mark {connection.mark}"
    if connection.labels is not None:
        text += f" labels {connection.labels.hi << 64 | connection.labels.lo:#x}"
    return text


def _directions(connection: Union[CtConnection, CtSection]) -> str:
    """Both directions, with the space after them; '' if their protocols differ."""
    orig, reply = connection.orig, connection.reply
    ours, theirs = orig.proto, reply.proto
    if ours.tcp is not None and theirs.tcp is not None:
        state = "UNKNOWN" if connection.proto_state is None else visible(connection.proto_state)
        return f"tcp ({state}) orig [{orig.ends(ours.tcp)}] reply [{reply.ends(theirs.tcp)}] "
    if ours.udp is not None and theirs.udp is not None:
        return f"udp orig [{orig.ends(ours.udp)}] reply [{reply.ends(theirs.udp)}] "
    if ours.icmp is not None and theirs.icmp is not None:
        return f"icmp orig [{orig.icmp(ours.icmp)}] reply [{reply.icmp(theirs.icmp)}] "
    if ours.sctp is not None and theirs.sctp is not None:
        state = "UNKNOWN" if connection.proto_state is None else visible(connection.proto_state)
        return f"sctp ({state}) orig [{orig.sctp(ours.sctp)}] reply [{reply.sctp(theirs.sctp)}] "
    return ""
