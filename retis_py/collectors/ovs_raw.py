"""Raw layouts of collector ovs, and the sections made of their values."""

from __future__ import annotations

import socket

from retis_py.collectors.ovs_events import OvsFlowOperation, OvsNat, OvsRecvUpcall, OvsUpcall, OvsUpcallEnqueue
from retis_py.events.raw import Raw, pad, s32, u8, u16, u32, u64

__all__ = [
    "OvsActionRaw",
    "OvsCtRaw",
    "OvsEnqueueRaw",
    "OvsLookupRaw",
    "OvsOperationRaw",
    "OvsRecvRaw",
    "OvsReturnRaw",
    "OvsUpcallRaw",
    "enqueue",
    "nat",
    "operation",
    "recv",
    "upcall",
]


class OvsUpcallRaw(Raw):
    """Of struct dp_upcall_info (net/openvswitch/datapath.h)."""

    _fields_ = [("port", u32), ("cpu", u32), ("cmd", u8), ("_pad", pad * 7)]


class OvsEnqueueRaw(Raw):
    """What queue_userspace_packet() returned, and the upcall it belongs to."""

    _fields_ = [
        ("upcall_ts", u64),
        ("upcall_cpu", u32),
        ("queue_id", u32),
        ("port", u32),
        ("ret", s32),
        ("cmd", u8),
        ("_pad", pad * 7),
    ]


class OvsReturnRaw(Raw):
    """What ovs_dp_upcall() returned."""

    _fields_ = [("upcall_ts", u64), ("upcall_cpu", u32), ("ret", s32)]


class OvsRecvRaw(Raw):
    """Arguments of dpif_recv:recv_upcall, and where in its batch it is."""

    _fields_ = [
        ("key_size", u64),
        ("batch_ts", u64),
        ("pkt_size", u32),
        ("queue_id", u32),
        ("type", u32),
        ("batch_idx", u8),
        ("_pad", pad * 3),
    ]


class OvsOperationRaw(Raw):
    """An operation, *type* 0 for execute, 1 for put, and which upcall of its batch it is for."""

    _fields_ = [("batch_ts", u64), ("queue_id", u32), ("batch_idx", u8), ("type", u8), ("_pad", pad * 2)]


class OvsActionRaw(Raw):
    """*action* is enum ovs_action_attr, *value* the port, recirculation id or drop reason; with *command* set,
    *queue_id* is that of the packet user space sent."""

    _fields_ = [
        ("recirc_id", u32),
        ("queue_id", u32),
        ("value", u32),
        ("action", u16),
        ("command", u16),
    ]


class OvsCtRaw(Raw):
    """Of struct ovs_conntrack_info (net/openvswitch/conntrack.c); addresses in network order, ports not."""

    _fields_ = [
        ("min_addr", u8 * 16),
        ("max_addr", u8 * 16),
        ("flags", u32),
        ("zone", u16),
        ("min_port", u16),
        ("max_port", u16),
        ("_pad", pad * 6),
    ]


class OvsLookupRaw(Raw):
    """What ovs_flow_tbl_lookup_stats() found: struct sw_flow (net/openvswitch/flow.h), or nothing."""

    _fields_ = [
        ("flow", u64),
        ("sf_acts", u64),
        ("ufid", u32 * 4),
        ("n_mask_hit", u32),
        ("n_cache_hit", u32),
    ]


# OvsAction.flags: enum of bpf/collectors/ovs.bpf.c
_IPV4, _IPV6, _NAT, _NAT_SRC, _NAT_DST, _RANGE_IPS, _RANGE_PORTS = (1 << bit for bit in range(2, 9))


def nat(min_addr: bytes, max_addr: bytes, flags: int, min_port: int, max_port: int) -> OvsNat | None:
    """The translation of a ``ct`` action, None if there is none."""
    if not flags & (_NAT | _NAT_SRC | _NAT_DST):
        return None
    low = high = None
    if flags & _RANGE_IPS and flags & (_IPV4 | _IPV6):
        family, size = (socket.AF_INET, 4) if flags & _IPV4 else (socket.AF_INET6, 16)
        low, high = socket.inet_ntop(family, min_addr[:size]), socket.inet_ntop(family, max_addr[:size])
    ports = bool(flags & _RANGE_PORTS)
    return OvsNat(
        "src" if flags & _NAT_SRC else "dst" if flags & _NAT_DST else None,
        low,
        high,
        min_port if ports else None,
        max_port if ports else None,
    )


def upcall(port: int, cpu: int, cmd: int) -> OvsUpcall:
    """The section of `OvsUpcallRaw`."""
    return OvsUpcall(cmd, port, cpu)


def enqueue(ts: int, cpu: int, queue_id: int, port: int, ret: int, cmd: int) -> OvsUpcallEnqueue:
    """The section of `OvsEnqueueRaw`."""
    return OvsUpcallEnqueue(ret, cmd, port, ts, cpu, queue_id)


def recv(key_size: int, batch_ts: int, pkt_size: int, queue_id: int, kind: int, batch_idx: int) -> OvsRecvUpcall:
    """The section of `OvsRecvRaw`."""
    return OvsRecvUpcall(kind, pkt_size, key_size, queue_id, batch_ts, batch_idx)


def operation(batch_ts: int, queue_id: int, batch_idx: int, kind: int) -> OvsFlowOperation:
    """The section of `OvsOperationRaw`."""
    return OvsFlowOperation("put" if kind else "exec", queue_id, batch_ts, batch_idx)
