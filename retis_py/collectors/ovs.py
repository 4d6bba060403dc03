"""ovs: what Open vSwitch does with a packet.  BPF side: bpf/collectors/ovs.bpf.c"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from retis_py.collectors.base import Collector, Kernel, Unavailable
from retis_py.collectors.ovs_enrich import FlowEnricher
from retis_py.collectors.ovs_events import (
    OvsAction,
    OvsDetraceSection,
    OvsFlowLookup,
    OvsFlowOperation,
    OvsNat,
    OvsRecvUpcall,
    OvsSection,
    OvsUpcall,
    OvsUpcallEnqueue,
    OvsUpcallReturn,
    Ufid,
    known_action,
    ufid_text,
)
from retis_py.collectors.ovs_raw import (
    OvsActionRaw,
    OvsCtRaw,
    OvsEnqueueRaw,
    OvsLookupRaw,
    OvsOperationRaw,
    OvsRecvRaw,
    OvsReturnRaw,
    OvsUpcallRaw,
    enqueue,
    nat,
    operation,
    recv,
    upcall,
)
from retis_py.collectors.unixctl import Unixctl, UnixctlError, find_socket
from retis_py.errors import MalformedEvent, RetisError

__all__ = [
    "Ovs",
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
    "ufid_text",
]

_log = logging.getLogger(__name__)

#: look-ups that are kept: more than there are flows that packets use within a second, in most places
_LOOKUPS = 1 << 14


def _find_process(name: str) -> int:
    """The process called *name*."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(f" ({name}) ")
        except OSError:
            continue  # it has ended
        if rest and rest[0] not in "ZX":  # a dead one that nobody has waited for is none
            parents[int(pid)] = int(rest.split()[1])
    # with --monitor there is a second one, which starts the first again
    found = [pid for pid in parents if pid not in parents.values()]
    if not found:
        raise RetisError(f"--ovs-track: process {name} not found", hint="is it running, and in this PID namespace?")
    if len(found) > 1:
        pids = ", ".join(map(str, sorted(found)))
        raise RetisError(f"--ovs-track: too many processes {name} found: {pids}", hint="there may be one only")
    return found[0]


def calls(cpus: int) -> int:
    """Size of the tables of what is under way: see bpf/collectors/ovs.bpf.c."""
    return 1024 + 128 * cpus


class Ovs(Collector):
    """Reports upcalls, actions and flow look-ups of Open vSwitch."""

    name = "ovs"
    sections = (OvsSection, OvsDetraceSection)
    layouts = {
        "ovs": {
            "ovs_upcall": OvsUpcallRaw,
            "ovs_enqueue": OvsEnqueueRaw,
            "ovs_return": OvsReturnRaw,
            "ovs_recv": OvsRecvRaw,
            "ovs_operation": OvsOperationRaw,
            "ovs_action": OvsActionRaw,
            "ovs_ct": OvsCtRaw,
            "ovs_lookup": OvsLookupRaw,
        }
    }
    members = {
        "dp_upcall_info": ("portid", "cmd"),
        "sw_flow": ("id.ufid", "id.ufid_len", "sf_acts"),
        "sw_flow_actions": ("actions_len",),
        "sw_flow_key": ("recirc_id",),
        "nlattr": ("nla_type",),
        "ovs_conntrack_info": (
            *("zone.id", "commit", "force", "nat", "family", "range.flags"),
            *("range.min_addr", "range.max_addr", "range.min_proto", "range.max_proto"),
        ),
    }
    arguments = {
        "ovs_info": ("struct dp_upcall_info *",),
        "ovs_key": ("struct sw_flow_key *",),
        "ovs_attr": ("struct nlattr *",),
        "ovs_actions": ("struct sw_flow_actions *",),
        # no arguments, but what one of our functions tells the next
        "ovs_queue_id": (),
        "ovs_command": (),
    }
    targeted = {
        "tp:openvswitch:ovs_dp_upcall": ("ovs_upcall",),
        "kretprobe:queue_userspace_packet": ("ovs_enqueue",),
        "kretprobe:ovs_dp_upcall": ("ovs_return",),
        "tp:openvswitch:ovs_do_execute_action": ("ovs_action",),
        "kretprobe:ovs_flow_tbl_lookup_stats": ("ovs_lookup",),
    }
    contexts = {
        "tp:openvswitch:ovs_dp_upcall": "ovs_upcall_begins",
        "kprobe:skb_zerocopy": "ovs_packet_copied",
        "kretprobe:queue_userspace_packet": "ovs_enqueue_returns",
        "kretprobe:ovs_dp_upcall": "ovs_upcall_returns",
        "kprobe:ovs_flow_key_extract_userspace": "ovs_packet_injected",
        "kprobe:ovs_dp_process_packet": "ovs_lookup_begins",
        "kretprobe:ovs_flow_tbl_lookup_stats": "ovs_lookup_returns",
    }
    observers = {
        "kprobe:skb_zerocopy": (),
        "kprobe:ovs_flow_key_extract_userspace": ("ovs_command_begins",),
        "kprobe:ovs_execute_actions": ("ovs_actions_begin",),
        "kprobe:ovs_dp_process_packet": ("ovs_lookup_of",),
    }

    user_probes = {
        "dpif_recv:recv_upcall": ("ovs_recv", (1, 2, 3, 5)),
        "dpif_netlink_operate__:op_flow_put": ("ovs_put", ()),
        "dpif_netlink_operate__:op_flow_execute": ("ovs_execute", (2, 3)),
    }
    no_user_probes = "was ovs-vswitchd built with --enable-usdt-probes?"

    def __init__(self) -> None:
        super().__init__()
        self._pid: int | None = None
        self._enricher: FlowEnricher | None = None
        #: look-ups of one flow are alike, and building one costs more than finding it
        self._lookups = lru_cache(_LOOKUPS)(self._lookup)
        self._actions: dict[int, str | None] = {}
        self._probes: tuple[str, ...] = ()

    def check(self, kernel: Kernel) -> None:
        if kernel.types.tracepoint("ovs_dp_upcall") is None:
            if kernel.has_symbol("ovs_dp_upcall") or kernel.module_loaded("openvswitch"):
                raise Unavailable(
                    "kernel module 'openvswitch' has no tracepoints or no BTF", hint="it has both from Linux 5.14 on"
                )
            raise Unavailable("kernel module 'openvswitch' is not loaded", hint="modprobe openvswitch")

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        if options.get("ovs_track"):
            self._pid = _find_process("ovs-vswitchd")
        if options.get("ovs_enrich_flows"):
            self._enricher = self._connect(options.get("ovs_enrich_rate") or 20)
        types = kernel.types
        values = types.enum("ovs_action_attr") or {}
        # Linux commit e7bc7db9ba46 ("net: openvswitch: add explicit drop action") (in v6.6) gave drops an action
        numbers = {name: values.get(f"OVS_ACTION_ATTR_{name}", 0xFFFF) for name in ("OUTPUT", "RECIRC", "CT", "DROP")}
        self._actions = {value: known_action(name) for name, value in values.items()}
        self._probes = tuple(name for name in self.targeted if kernel.kprobes or name.startswith("tp:"))
        names = [parameter.name for parameter in types.function("ovs_flow_tbl_lookup_stats") or ()]
        # Linux commit 9d2f627b7ec9 ("net: openvswitch: add masks cache hit counter") (in v5.9)
        cached = "n_cache_hit" in names
        self._defines = {
            **{f"OVS_{name}": number for name, number in numbers.items()},
            "OVS_ARG_MASK_HIT": names.index("n_mask_hit") if "n_mask_hit" in names else 3,
            "OVS_ARG_CACHE_HIT": names.index("n_cache_hit") if cached else 0,
            "HAVE_OVS_CACHE_HIT": int(cached),
            "OVS_TRACK": int(bool(options.get("ovs_track"))),
            "OVS_CALLS": calls(kernel.cpus()),
            "HAVE_OVS_NAT": int(types.has_member("ovs_conntrack_info", "nat")),
        }

    def probes(self) -> Iterable[str]:
        return self._probes

    def _connect(self, rate: int) -> FlowEnricher:
        try:
            socket = find_socket("ovs-vswitchd", self._pid)
            enricher = FlowEnricher(
                Unixctl(socket), rate, lambda: find_socket("ovs-vswitchd"), self._lookups.cache_clear
            )
            enricher.connect()
        except UnixctlError as error:
            raise RetisError(f"Failed to connect to OVS via unixctl: {error}", error.hint) from None
        return enricher

    def start(self) -> None:
        if self._enricher is not None:
            self._enricher.start()

    def stop(self) -> None:
        if self._enricher is not None:
            self._enricher.stop()

    def events(self) -> list[tuple[int, dict[str, Any]]]:
        if self._enricher is None:
            return []
        return [(timestamp, {"ovs-detrace": section}) for timestamp, section in self._enricher.take()]

    def process(self) -> int | None:
        return self._pid

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        makers: dict[tuple[str, ...], Callable[..., Any]] = {
            ("ovs_upcall",): upcall,
            ("ovs_enqueue",): enqueue,
            ("ovs_return",): OvsUpcallReturn,
            ("ovs_recv",): recv,
            ("ovs_operation",): operation,
            ("ovs_action",): self._action,
            ("ovs_action", "ovs_ct"): self._ct,
            ("ovs_lookup",): self._lookups,
        }
        if parts not in makers:
            raise MalformedEvent(f"raw event: {' and '.join(parts)} do not come together")
        return makers[parts]

    def _name(self, action: int) -> str | None:
        if action not in self._actions:
            self._actions[action] = None
        return self._actions[action]

    def _action(self, recirc_id: int, queue_id: int, value: int, action: int, command: int) -> OvsAction:
        name = self._name(action)
        return OvsAction(
            action=name,
            port=value if name == "output" else None,
            id=value if name == "recirc" else None,
            reason=value if name == "drop" else None,
            recirc_id=recirc_id,
            queue_id=queue_id if command else None,
        )

    def _ct(
        self,
        recirc_id: int,
        queue_id: int,
        value: int,
        action: int,
        command: int,
        min_addr: bytes,
        max_addr: bytes,
        flags: int,
        zone: int,
        min_port: int,
        max_port: int,
    ) -> OvsAction:
        return OvsAction(
            action="ct",
            flags=flags,
            zone_id=zone,
            nat=nat(min_addr, max_addr, flags, min_port, max_port),
            recirc_id=recirc_id,
            queue_id=queue_id if command else None,
        )

    def _lookup(
        self, flow: int, sf_acts: int, a: int, b: int, c: int, d: int, n_mask_hit: int, n_cache_hit: int
    ) -> OvsFlowLookup:
        ufid = (a, b, c, d)
        if self._enricher is not None and flow:
            self._enricher.note(ufid, flow, sf_acts)
        return OvsFlowLookup(flow, sf_acts, ufid, n_mask_hit, n_cache_hit, "", ())
