"""Sections of collector ovs: what Open vSwitch does with a packet, in files and as text."""

from typing import ClassVar, Literal, Optional, Tuple, Union  # noqa: UP035

from retis_py.events.section import I32, U8, U16, U32, U64, Section, Style
from retis_py.events.visible import visible

__all__ = [
    "OvsAction",
    "OvsDetraceSection",
    "OvsFlowLookup",
    "OvsFlowOperation",
    "OvsNat",
    "OvsRecvUpcall",
    "OvsSection",
    "OvsUpcall",
    "OvsUpcallEnqueue",
    "OvsUpcallReturn",
    "Ufid",
    "known_action",
    "ufid_text",
]

#: unique flow identifier, as four 32-bit words
Ufid = Tuple[U32, U32, U32, U32]  # noqa: UP006

#: enum ovs_packet_cmd
_COMMANDS = (" (unspec)", " (miss)", " (action)", " (exec)")

#: actions without fields of their own, by their name in files -> in text
_PLAIN_ACTIONS = {
    "userspace": "userspace",
    "set": "tunnel_set",
    "push_vlan": "push_vlan",
    "pop_vlan": "pop_vlan",
    "sample": "sample",
    "hash": "hash",
    "push_mpls": "push_mpls",
    "pop_mpls": "pop_mpls",
    "set_masked": "set_masked",
    "trunc": "trunc",
    "push_eth": "push_eth",
    "pop_eth": "pop_eth",
    "ct_clear": "ct_clear",
    "push_nsh": "push_nsh",
    "pop_nsh": "pop_nsh",
    "meter": "meter",
    "clone": "clone",
    "check_pkt_len": "check_pkt_len",
    "add_mpls": "add_mpls",
    "dec_ttl": "dec_ttl",
}

# bits of OvsAction.flags: see OVS_CT_* in bpf/collectors/ovs.bpf.c
_RANGE_IPS, _RANGE_PORTS = 1 << 7, 1 << 8
_CT_FLAGS = (
    (1 << 0, "commit"),
    (1 << 1, "force"),
    (1 << 10, "persistent"),
    (1 << 9, "hash"),
    (1 << 11, "random"),
)


def known_action(name: str) -> Optional[str]:
    """The name in files of an action of enum ovs_action_attr; None, which reads "unspec", for those that the file
    format does not know (psample, say): upstream refuses files with others."""
    short = name.removeprefix("OVS_ACTION_ATTR_").lower().replace("set_to_masked", "set_masked")
    return short if short in (*_PLAIN_ACTIONS, "output", "recirc", "ct", "drop") else None


def ufid_text(ufid: Tuple[int, int, int, int]) -> str:  # noqa: UP006
    """*ufid* as ``ovs-dpctl`` prints it."""
    a, b, c, d = ufid
    return f"{a:08x}-{b >> 16:04x}-{b & 0xFFFF:04x}-{c >> 16:04x}-{c & 0xFFFF:04x}{d:08x}"


def _command(cmd: int) -> str:
    return _COMMANDS[cmd] if cmd < len(_COMMANDS) else ""


class _Ovs(Section, tag_field="event_type"):
    """An OVS event: one kind per thing that happens."""

    key: ClassVar[str] = "ovs"


class OvsUpcall(_Ovs, tag="upcall"):
    """The kernel passes a packet to user space. *cmd* is enum ovs_packet_cmd, *port* the netlink port id."""

    #: why: ``OVS_PACKET_CMD_*``
    cmd: U8
    #: netlink port of the handler
    port: U32
    #: where it happened
    cpu: U32

    def text(self, style: Style) -> str:
        return f"upcall{_command(self.cmd)} port {self.port} cpu {self.cpu}"


class OvsUpcallEnqueue(_Ovs, tag="upcall_enqueue"):
    """A packet was queued for user space: by the upcall at *upcall_ts* ns on *upcall_cpu*, as *queue_id*."""

    #: 0, or a negative error
    ret: I32
    #: why: ``OVS_PACKET_CMD_*``
    cmd: U8
    #: netlink port of the handler
    port: U32
    #: when its upcall was, in ns
    upcall_ts: U64
    #: and where
    upcall_cpu: U32
    #: hash of the packet
    queue_id: U32

    def text(self, style: Style) -> str:
        where = f"({self.upcall_cpu}/{self.upcall_ts})"
        return f"upcall_enqueue{_command(self.cmd)} {where} q {self.queue_id} ret {self.ret}"


class OvsUpcallReturn(_Ovs, tag="upcall_return"):
    """An upcall is over."""

    #: when its upcall was, in ns
    upcall_ts: U64
    #: and where
    upcall_cpu: U32
    #: 0, or a negative error
    ret: I32

    def text(self, style: Style) -> str:
        return f"upcall_ret ({self.upcall_cpu}/{self.upcall_ts}) ret {self.ret}"


class OvsRecvUpcall(_Ovs, tag="recv_upcall"):
    """User space received a queued packet, in the batch begun at *batch_ts* ns."""

    #: ``enum dpif_upcall_type``
    type: U32
    #: bytes of the packet
    pkt_size: U32
    #: bytes of its flow key
    key_size: U64
    #: hash of the packet
    queue_id: U32
    #: when the first of its batch was received, in ns
    batch_ts: U64
    #: place in the batch
    batch_idx: U8

    def text(self, style: Style) -> str:
        return f"upcall_recv q {self.queue_id} pkt_size {self.pkt_size}"


class OvsFlowOperation(_Ovs, tag="flow_operation"):
    """User space asks the kernel to install a flow (put) or to execute actions on a packet (exec)."""

    #: install a flow, or execute actions
    op_type: Literal["exec", "put"]
    #: hash of the packet
    queue_id: U32
    #: when the first of its batch was received, in ns
    batch_ts: U64
    #: place in the batch
    batch_idx: U8

    def text(self, style: Style) -> str:
        return f"flow_{self.op_type} q {self.queue_id} ts {self.batch_ts} ({self.batch_idx})"


class OvsFlowLookup(_Ovs, tag="flow_lookup"):
    """A look-up in the kernel's flow table. *flow* and *sf_acts* are pointers, 0 for a miss."""

    #: address of the flow, 0 if none matched
    flow: U64
    #: address of its actions
    sf_acts: U64
    #: its unique id
    ufid: Ufid
    #: masks that were tried
    n_mask_hit: U32
    #: hits in the cache of masks
    n_cache_hit: U32
    #: datapath flow and OpenFlow rules: empty until ``sort`` finds them
    dpflow: str
    #: OpenFlow rules behind it, if asked for
    ofpflows: Tuple[str, ...]  # noqa: UP006

    def text(self, style: Style) -> str:
        if not self.flow:
            return f"flow miss mask {self.n_mask_hit} cache {self.n_cache_hit}"
        text = (
            f"flow hit ufid {ufid_text(self.ufid)} mask {self.n_mask_hit} cache {self.n_cache_hit}"
            f" flow {self.flow:x} sf_acts {self.sf_acts:x}"
        )
        sep, flow_sep = ("\n", "\n    ") if style.multi_line else (" ", " ")
        if self.dpflow:
            text += f"{sep}odpflow {visible(self.dpflow)}"
        if self.ofpflows:
            text += f"{sep}openflow{flow_sep}{flow_sep.join(map(visible, self.ofpflows))}"
        return text


class OvsNat(Section):
    """Translation asked for by the ``ct`` action."""

    #: which address
    dir: Optional[Literal["src", "dst"]] = None
    #: first address
    min_addr: Optional[str] = None
    #: last address
    max_addr: Optional[str] = None
    #: first port
    min_port: Optional[U16] = None
    #: last port
    max_port: Optional[U16] = None

    def range_text(self, flags: int) -> str:
        text = f"({self.dir}" if self.dir is not None else ""
        if not text:
            return ""
        low, high = self.min_addr, self.max_addr
        if flags & _RANGE_IPS and low is not None and high is not None:
            text += f"={visible(low)}" if low == high else f"={visible(low)}-{visible(high)}"
        first, last = self.min_port, self.max_port
        if flags & _RANGE_PORTS and first is not None and last is not None:
            text += f":{first}" if first == last else f":{first}-{last}"
        return f"{text})"


class OvsAction(_Ovs, tag="action_execute", kw_only=True):
    """An action executed on a packet: *action* and its own fields, which upstream keeps beside the others."""

    #: None (or a name we do not know) is "unspec"
    action: Optional[str] = None
    #: output
    port: Optional[U32] = None
    #: recirc
    id: Optional[U32] = None
    #: ct: bit 0 commit, 1 force, 2 IPv4, 3 IPv6, 4 NAT, 5 source NAT, 6 destination NAT, 7 address range,
    #: 8 port range, 9 hash, 10 persistent, 11 random
    flags: Optional[U32] = None
    #: zone of ``ct``
    zone_id: Optional[U16] = None
    #: what ``ct`` translates
    nat: Optional[OvsNat] = None
    #: drop
    reason: Optional[U32] = None
    #: of the packet
    recirc_id: U32
    #: if user space sent it: hash of the packet it got
    queue_id: Optional[U32] = None

    def text(self, style: Style) -> str:
        text = f"[recirc_id {self.recirc_id:#x}] exec " if self.recirc_id else "exec "
        text += self.action_text()
        return text if self.queue_id is None else f"{text} q {self.queue_id}"

    def action_text(self) -> str:
        """The action alone; one that misses a field of its own is unspecified."""
        action = self.action
        if action == "output" and self.port is not None:
            return f"oport {self.port}"
        if action == "recirc" and self.id is not None:
            return f"recirc {self.id:#x}"
        if action == "drop" and self.reason is not None:
            return f"drop {self.reason}"
        if action == "ct" and self.flags is not None and self.zone_id is not None:
            return self._ct_text(self.flags)
        return _PLAIN_ACTIONS.get(action or "", "unspec")

    def _ct_text(self, flags: int) -> str:
        text = f"ct zone {self.zone_id}"
        if self.nat is not None:
            text += f" nat{self.nat.range_text(flags)}"
        names = ",".join(name for bit, name in _CT_FLAGS if flags & bit)
        return f"{text} {names}" if names else text


#: the ``ovs`` section: one of these, told apart by ``event_type``
OvsSection = Union[
    OvsUpcall, OvsUpcallEnqueue, OvsUpcallReturn, OvsRecvUpcall, OvsFlowOperation, OvsAction, OvsFlowLookup
]


class OvsDetraceSection(Section):
    """What is behind a flow of the kernel, from ``dpctl/get-flow`` and ``ofproto/detrace``."""

    key: ClassVar[str] = "ovs-detrace"
    #: unique id of the flow
    ufid: Ufid
    #: its address
    flow: U64
    #: address of its actions
    sf_acts: U64
    #: the datapath flow
    dpflow: str
    #: OpenFlow rules behind it
    ofpflows: Tuple[str, ...]  # noqa: UP006

    def text(self, style: Style) -> str:
        text = f"ufid:{ufid_text(self.ufid)} {visible(self.dpflow)}"
        if style.multi_line:
            # the first flow is glued to the word before it
            return f"{text}\nopenflow:" + "\n    ".join(map(visible, self.ofpflows))
        return f"{text} openflow: " + " ".join(map(visible, self.ofpflows))
