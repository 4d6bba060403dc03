"""Events with every section, value and variant of the file format, as JSON, from a seeded random generator."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

from tests.support.frames import frame

__all__ = ["ACTIONS", "CT_STATES", "VERDICTS", "event", "events"]

CT_STATES = ("established", "related", "new", "reply", "related_reply", "untracked")
ZONES = ("Original", "Reply", "Default", "None")
VERDICTS = (
    "continue",
    "break",
    "jump",
    "goto",
    "return",
    "drop",
    "accept",
    "stolen",
    "queue",
    "repeat",
    "stop",
)
ACTIONS = (
    "output",
    "userspace",
    "set",
    "push_vlan",
    "pop_vlan",
    "sample",
    "recirc",
    "hash",
    "push_mpls",
    "pop_mpls",
    "set_masked",
    "ct",
    "trunc",
    "push_eth",
    "pop_eth",
    "ct_clear",
    "push_nsh",
    "pop_nsh",
    "meter",
    "clone",
    "check_pkt_len",
    "add_mpls",
    "dec_ttl",
    "drop",
)
_NAMES = (
    "eth0",
    "veth-ns01",
    "",
    "napi/phy0-8197",
    "d\u00e9j\u00e0 vu",
    "\u65e5\u672c",
    "a b",
    'q"uo\\te',
    "kworker/0:1",
)

Json = dict[str, Any]


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def bits(self, width: int) -> int:
        """A number of *width* bits, often a special one."""
        rng = self.rng
        special = (0, 1, 2, 3, (1 << width) - 1)
        return rng.choice(special) if rng.random() < 0.5 else rng.getrandbits(width)

    def signed(self, width: int) -> int:
        return self.bits(width) - (1 << width - 1)

    def name(self) -> str:
        return self.rng.choice(_NAMES)

    def flag(self) -> bool:
        return self.rng.random() < 0.5

    def maybe(self, target: Json, key: str, make: Callable[[], Any]) -> None:
        if self.flag():
            target[key] = make()

    def common(self) -> Json:
        out: Json = {"timestamp": self.bits(64)}
        self.maybe(out, "smp_id", lambda: self.bits(32))
        if self.flag():
            pid = self.signed(32)
            tgid = pid if self.flag() else self.signed(32)
            out["task"] = {"pid": pid, "tgid": tgid, "comm": self.name()}
        return out

    def kernel(self) -> Json:
        kinds = ("kprobe", "kretprobe", "raw_tracepoint", "raw_tracepoint", "fentry")
        out: Json = {
            "symbol": self.rng.choice(["tcp_v4_rcv", "skb:kfree_skb", "a:b:c"]),
            "probe_type": self.rng.choice(kinds),
        }
        # not the empty list, for which upstream prints an empty line
        self.maybe(
            out,
            "stack_trace",
            lambda: ["tcp_v4_rcv+0x1", "0xffffffff81000000", "c+0x2"][: self.rng.randrange(1, 4)],
        )
        return out

    def userspace(self) -> Json:
        return {
            "probe_type": "usdt",
            "symbol": "dpif_recv:recv_upcall",
            "ip": self.bits(64),
            "path": self.rng.choice(["/usr/sbin/ovs-vswitchd", "relative", "/ends/", "", "a/\u00e9"]),
            "pid": self.signed(32),
            "tid": self.signed(32),
        }

    def skb_tracking(self) -> Json:
        return {"orig_head": self.bits(64), "timestamp": self.bits(64), "skb": self.bits(64)}

    def tracking(self) -> Json:
        return {"skb": self.skb_tracking(), "idx": self.bits(32)}

    def skb_drop(self) -> Json:
        out: Json = {}
        self.maybe(out, "subsys", lambda: self.rng.choice(["openvswitch", "mac80211_unusable", "7", ""]))
        out["drop_reason"] = self.rng.choice(["NO_SOCKET", "NOT_SPECIFIED", "123", ""])
        return out

    def packet(self) -> Json:
        data = frame(self.rng)
        return {"len": self.bits(32), "capture_len": len(data), "data": base64.b64encode(data).decode()}

    def skb(self) -> Json:
        out: Json = {}
        rng = self.rng
        self.maybe(
            out,
            "vlan_accel",
            lambda: {
                "proto": rng.choice([0x8100, 0x88A8, 5]),
                "pcp": self.bits(8),
                "dei": self.flag(),
                "vid": self.bits(16),
            },
        )
        self.maybe(
            out,
            "meta",
            lambda: {
                "len": self.bits(32),
                "data_len": self.bits(32),
                "hash": self.bits(32),
                "ip_summed": rng.choice([0, 1, 2, 3, 4, 255]),
                "csum": self.bits(32),
                "csum_level": self.bits(8),
                "priority": self.bits(32),
            },
        )
        self.maybe(
            out,
            "data_ref",
            lambda: {
                "nohdr": self.flag(),
                "cloned": self.flag(),
                "fclone": self.bits(8),
                "users": self.bits(8),
                "dataref": self.bits(8),
            },
        )
        self.maybe(
            out,
            "gso",
            lambda: {
                "flags": self.bits(8),
                "frags": self.bits(8),
                "size": self.bits(32),
                "segs": self.bits(32),
                "type": self.bits(32),
            },
        )
        return out

    def netns(self) -> Json:
        out: Json = {}
        self.maybe(out, "cookie", lambda: self.bits(64))
        out["inum"] = self.bits(32)
        return out

    def dev(self) -> Json:
        out: Json = {"name": self.name(), "ifindex": self.bits(32)}
        self.maybe(out, "rx_ifindex", lambda: self.bits(32))
        return out

    def flows(self) -> list[str]:
        return ["cookie=0x1, table=0", "cookie=0x2, \u00e9", "priority=0 actions=drop"][
            : self.rng.randrange(4)
        ]

    def ufid(self) -> list[int]:
        return [self.bits(32) for _ in range(4)]

    def ovs(self) -> Json:
        kind = self.rng.choice(
            [
                "upcall",
                "upcall_enqueue",
                "upcall_return",
                "recv_upcall",
                "flow_operation",
                "action_execute",
                "action_execute",
                "flow_lookup",
            ]
        )
        out: Json = {"event_type": kind}
        fields: Json = {
            "upcall": {"cmd": self.rng.randrange(6), "port": self.bits(32), "cpu": self.bits(32)},
            "upcall_enqueue": {
                "ret": self.signed(32),
                "cmd": self.rng.randrange(6),
                "port": self.bits(32),
                "upcall_ts": self.bits(64),
                "upcall_cpu": self.bits(32),
                "queue_id": self.bits(32),
            },
            "upcall_return": {
                "upcall_ts": self.bits(64),
                "upcall_cpu": self.bits(32),
                "ret": self.signed(32),
            },
            "recv_upcall": {
                "type": self.bits(32),
                "pkt_size": self.bits(32),
                "key_size": self.bits(64),
                "queue_id": self.bits(32),
                "batch_ts": self.bits(64),
                "batch_idx": self.bits(8),
            },
            "flow_operation": {
                "op_type": self.rng.choice(["exec", "put"]),
                "queue_id": self.bits(32),
                "batch_ts": self.bits(64),
                "batch_idx": self.bits(8),
            },
            "flow_lookup": {
                "flow": self.bits(64),
                "sf_acts": self.bits(64),
                "ufid": self.ufid(),
                "n_mask_hit": self.bits(32),
                "n_cache_hit": self.bits(32),
                "dpflow": self.rng.choice(["", "in_port(1) actions:2"]),
                "ofpflows": self.flows(),
            },
        }
        out.update(fields.get(kind) or self.action())
        return out

    def action(self) -> Json:
        name = self.rng.choice([*ACTIONS, "output", "ct", "ct", "recirc", "drop", None])
        out: Json = {} if name is None else {"action": name}
        if name == "output":
            out["port"] = self.bits(32)
        elif name == "recirc":
            out["id"] = self.bits(32)
        elif name == "drop":
            out["reason"] = self.bits(32)
        elif name == "ct":
            out["flags"] = self.rng.getrandbits(12)
            out["zone_id"] = self.bits(16)
            if self.flag():
                out["nat"] = self.nat()
        out["recirc_id"] = self.bits(32)
        self.maybe(out, "queue_id", lambda: self.bits(32))
        return out

    def nat(self) -> Json:
        out: Json = {}
        self.maybe(out, "dir", lambda: self.rng.choice(["src", "dst"]))
        self.maybe(out, "min_addr", lambda: "10.0.0.1")
        self.maybe(out, "max_addr", lambda: self.rng.choice(["10.0.0.1", "10.0.0.9"]))
        self.maybe(out, "min_port", lambda: 80)
        self.maybe(out, "max_port", lambda: self.rng.choice([80, 90]))
        return out

    def ovs_detrace(self) -> Json:
        return {
            "ufid": self.ufid(),
            "flow": self.bits(64),
            "sf_acts": self.bits(64),
            "dpflow": self.rng.choice(["", "recirc_id(0) actions:2"]),
            "ofpflows": self.flows(),
        }

    def nft(self) -> Json:
        out: Json = {
            "table_name": self.name(),
            "chain_name": self.name(),
            "verdict": self.rng.choice([*VERDICTS, "unknown"]),
        }
        self.maybe(out, "verdict_chain_name", self.name)
        out["table_handle"] = self.signed(64)
        out["chain_handle"] = self.signed(64)
        self.maybe(out, "rule_handle", lambda: self.signed(64))
        out["policy"] = self.flag()
        return out

    def direction(self, kind: str) -> Json:
        v6 = self.flag()
        addresses = ("1111::1", "::1") if v6 else ("10.0.0.1", "192.168.125.10")
        proto: Json = {
            "tcp": {"sport": self.bits(16), "dport": self.bits(16)},
            "udp": {"sport": self.bits(16), "dport": self.bits(16)},
            "icmp": {"code": self.bits(8), "type": self.bits(8), "id": self.bits(16)},
            "sctp": {"sport": self.bits(16), "dport": self.bits(16), "vtag": self.bits(32)},
        }
        return {
            "ip": {"src": addresses[0], "dst": addresses[1], "version": "v6" if v6 else "v4"},
            "proto": {kind: proto[kind]},
        }

    def connection(self) -> Json:
        kinds = ("tcp", "udp", "icmp", "sctp")
        kind = self.rng.choice(kinds)
        out: Json = {
            "zone_id": self.bits(16),
            "zone_dir": self.rng.choice(ZONES),
            "orig": self.direction(kind),
            "reply": self.direction(kind if self.rng.random() < 0.95 else self.rng.choice(kinds)),
        }
        self.maybe(out, "proto_state", lambda: self.rng.choice(["ESTABLISHED", "COOKIE_WAIT", "42"]))
        self.maybe(out, "mark", lambda: self.bits(32))
        self.maybe(out, "labels", lambda: {"hi": self.bits(64), "lo": self.bits(64)})
        out["ct_status"] = self.bits(64)
        return out

    def ct(self) -> Json:
        out: Json = {"state": self.rng.choice(CT_STATES), **self.connection()}
        self.maybe(out, "parent", self.connection)
        return out

    def startup(self) -> Json:
        out: Json = {
            "retis_version": "v1.7.0",
            "cmdline": self.rng.choice(["retis collect -o", "", "retis \u00e9"]),
            "clock_monotonic_offset": {"sec": self.bits(32), "nsec": self.rng.randrange(10**9)},
            "machine": {
                "kernel_release": "6.8.0",
                "kernel_version": "#1 SMP",
                "hardware_name": "x86_64",
            },
        }
        self.maybe(
            out,
            "split_file",
            lambda: {"id": self.bits(32), "policy": {"kind": "size", "limit": self.bits(64)}},
        )
        return out


#: chance of each section, in file order
_SECTIONS = (
    ("kernel", 0.7),
    ("userspace", 0.2),
    ("tracking", 0.2),
    ("skb-tracking", 0.6),
    ("skb-drop", 0.2),
    ("packet", 0.6),
    ("skb", 0.5),
    ("netns", 0.5),
    ("dev", 0.5),
    ("ovs", 0.35),
    ("ovs-detrace", 0.1),
    ("nft", 0.2),
    ("ct", 0.3),
    ("startup", 0.03),
)


def event(rng: random.Random) -> Json:
    """An event that upstream's writer could have written, keys in file order."""
    maker = _Maker(rng)
    out = {"common": maker.common()}
    for key, chance in _SECTIONS:
        if rng.random() < chance:
            out[key] = getattr(maker, key.replace("-", "_"))()
    return out


def events(seed: int, count: int) -> list[Json]:
    """*count* events, the same for the same *seed*."""
    rng = random.Random(seed)
    return [event(rng) for _ in range(count)]
