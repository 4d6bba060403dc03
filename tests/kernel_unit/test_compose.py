"""The C text of a run, checked by clang without BCC, kernel or root."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import ClassVar

import pytest

from retis_py.collectors import COLLECTORS, Collector
from retis_py.collectors.parts import PARTS
from retis_py.filters.packet import packet_filter
from retis_py.kernel import compose as subject
from retis_py.kernel.compose import (
    HIT_ARGS,
    HIT_FREE_ONLY,
    HIT_MEMORY,
    HIT_RET,
    HIT_SILENT,
    HIT_STACK,
    TRACK_EXPAND,
    TRACK_FREE,
    TRACK_LAST,
    TRACK_NEVER_NEW,
    TRACK_PARTIAL,
    Run,
    Shape,
    compose,
)
from retis_py.kernel.layouts import layouts_h
from retis_py.kernel.probe_stack import LATE
from retis_py.paths import bpf_dir

CLANG = shutil.which("clang")

#: what BCC puts before a program, as far as ours uses it
BCC = """
#define TABLE_(k, l, n) struct n##_table { k key; l leaf; l *(*lookup)(k *); int (*update)(k *, l *); \\
	int (*insert)(k *, l *); int (*delete)(k *); int (*get_stackid)(void *, u64); \\
	int (*perf_submit)(void *, void *, u32); void (*call)(void *, int); }; struct n##_table n
#define BPF_ARRAY(n, l, s) TABLE_(u32, l, n)
#define BPF_PERCPU_ARRAY(n, l, s) TABLE_(u32, l, n)
#define BPF_HASH(n, k, l, s) TABLE_(k, l, n)
#define BPF_TABLE(t, k, l, n, s) TABLE_(k, l, n)
#define BPF_F_TABLE(t, k, l, n, s, f) TABLE_(k, l, n)
#define BPF_PROG_ARRAY(n, s) TABLE_(u32, u32, n)
#define BPF_PERF_OUTPUT(n) TABLE_(u32, u32, n)
#define BPF_F_FAST_STACK_CMP 512
#define lock_xadd(p, v) ((void)__sync_fetch_and_add(p, v))
#define PT_REGS_PARM1(r) ((r)->di)
#define PT_REGS_PARM2(r) ((r)->si)
#define PT_REGS_PARM3(r) ((r)->dx)
#define PT_REGS_PARM4(r) ((r)->cx)
#define PT_REGS_PARM5(r) ((r)->r8)
#define PT_REGS_PARM6(r) ((r)->r9)
#define PT_REGS_SP(r) ((r)->sp)
#define PT_REGS_RC(r) ((r)->ax)
#define PT_REGS_IP(r) ((r)->ip)
struct bpf_raw_tracepoint_args { u64 args[0]; };
struct bpf_stacktrace { u64 ip[127]; };
int bpf_probe_read_kernel(void *, u32, const void *);
int bpf_probe_read_user(void *, u32, const void *);
u64 bpf_ktime_get_ns(void);
u64 bpf_get_func_ip(void *);
u32 bpf_get_smp_processor_id(void);
u64 bpf_get_current_pid_tgid(void);
u64 bpf_get_current_task(void);
int bpf_get_current_comm(void *, u32);
int bpf_probe_read_kernel_str(void *, u32, const void *);
"""
#: a kernel with every member that any collector reads
TYPES = """
struct net { struct { u32 inum; } ns; u64 net_cookie; };
struct net_device { int ifindex; char name[16]; struct { struct net *net; } nd_net; };
struct sock { struct { struct { struct net *net; } skc_net; } __sk_common; };
struct skb_shared_info { u8 flags, nr_frags; u16 gso_size, gso_segs; u32 gso_type; struct { int counter; } dataref; };
struct tuple { struct { u8 u3[16]; struct { u16 all; } u; u16 l3num; } src;
	struct { u8 u3[16]; struct { u16 all; } u; u8 protonum; } dst; };
struct nf_ct_ext { u8 offset[10]; };
struct nf_conn {
	struct { u16 id; u8 flags, dir; } zone; struct { struct tuple tuple; } tuplehash[2]; u64 status;
	struct nf_conn *master; u32 mark; struct nf_ct_ext *ext;
	union { struct { u8 state; } tcp; struct { u32 state, vtag[2]; } sctp; } proto;
};
struct sk_buff {
	struct net_device *dev; struct sock *sk; u64 _nfct;
	u32 len, data_len; u16 mac_len;
	u8 cloned:1, nohdr:1, fclone:2, ip_summed:2, csum_level:2, vlan_present:1;
	u32 csum, priority, hash; int skb_iif; u32 vlan_all; u16 vlan_proto, vlan_tci;
	u16 protocol, transport_header, network_header, mac_header;
	u32 tail, end; u8 *head, *data; struct { struct { int counter; } refs; } users;
};
struct pt_regs { u64 di, si, dx, cx, r8, r9, sp, ax, ip; };
struct dp_upcall_info { u32 portid; u8 cmd; };
struct sw_flow_actions { u32 actions_len; };
struct sw_flow { struct { u32 ufid_len, ufid[4]; } id; struct sw_flow_actions *sf_acts; };
struct sw_flow_key { u32 recirc_id; };
struct nlattr { u16 nla_len, nla_type; };
struct ovs_conntrack_info {
	struct { u16 id; } zone; u8 commit:1, nat:3, force:1; u16 family;
	struct { u32 flags; u8 min_addr[16], max_addr[16], min_proto[2], max_proto[2]; } range;
};
struct nf_hook_state { struct net *net; };
struct nft_pktinfo { struct sk_buff *skb; struct nf_hook_state *state; };
struct nft_rule { u64 handle:42; };
struct nft_rule_dp { u64 is_last:1, dlen:12, handle:42; };
struct nft_rule_blob { u64 size; u8 data[0]; };
struct nft_table { u64 handle; char *name; };
struct nft_chain { struct nft_rule_blob *blob_gen_0, *blob_gen_1; struct nft_table *table; u64 handle; char *name; };
struct nft_rule_dp_last { struct nft_chain *chain; };
struct nft_base_chain { u8 policy; u8 chain[64]; };
struct nft_verdict { u32 code; struct nft_chain *chain; };
struct nft_traceinfo { struct nft_pktinfo *pkt; struct nft_base_chain *basechain; struct nft_rule_dp *rule;
	struct nft_verdict *verdict; };
"""
MACROS = {
    "SKB_FIRST": "__builtin_offsetof(struct sk_buff, network_header)",
    "SKB_END": "__builtin_offsetof(struct sk_buff, data)",
    "SKB_COPY_FIRST": 0,
    "SKB_COPY_END": "sizeof(struct sk_buff)",
    "SKB_HEAD": "__builtin_offsetof(struct sk_buff, head)",
    "SKB_CLONED": 26,
    "SKB_CLONED_BIT": 0,
    "SKB_SIZE": "sizeof(struct sk_buff)",
    "DIRECT_READS": 0,
    "HAVE_CT": 1,
    "NF_CT_EXT_LABELS": 7,
    **{f"OVS_{name}": number for number, name in enumerate(("OUTPUT", "RECIRC", "CT", "DROP"))},
    "OVS_ARG_MASK_HIT": 3,
    "OVS_CALLS": 64,
    "OVS_ARG_CACHE_HIT": 4,
    "NFT_VERDICTS": 1023,
}
SHAPES = [
    Shape("kprobe", 0, 1, 2, 3, HIT_STACK),
    Shape("kprobe", 0, flags=TRACK_FREE),
    Shape("kprobe", 0, flags=TRACK_FREE | TRACK_PARTIAL),
    Shape("kprobe", 0, flags=TRACK_FREE | TRACK_PARTIAL | HIT_FREE_ONLY),
    Shape("kprobe", 0, flags=TRACK_EXPAND | HIT_SILENT),
    Shape("kprobe", -1, 0),
    Shape("kprobe", 0, many=True),
    Shape("kretprobe", 4, flags=TRACK_NEVER_NEW),
    Shape("kprobe", 0, flags=HIT_ARGS, copied=6),
    Shape("kprobe", 0, flags=HIT_ARGS, copied=2, many=True),
    Shape("kretprobe", 0, flags=HIT_ARGS | HIT_RET | TRACK_NEVER_NEW, copied=2),
    Shape("raw_tracepoint", 0, flags=HIT_ARGS, copied=4),
    LATE,
    Shape("raw_tracepoint", 0, drop_reason=2),
    Shape("kprobe", arguments=(("nft_info", 3), ("nft_rule", 2)), hooks=("nft",), context="nft_context"),
    Shape("raw_tracepoint", 0, drop_reason=subject.NO_REASONS, flags=TRACK_FREE | TRACK_LAST),
    Shape("raw_tracepoint", 0, flags=TRACK_FREE | TRACK_LAST | HIT_FREE_ONLY),
]
_KINDS = {"tp": "raw_tracepoint", "kprobe": "kprobe", "kretprobe": "kretprobe"}
#: what single probes of collectors do, with arguments wherever
SHAPES += [
    Shape(
        _KINDS[probe.partition(":")[0]],
        0,
        flags=0 if probe in kind.targeted else HIT_SILENT,
        arguments=tuple((name, 3) for name, types in kind.arguments.items() if types),
        hooks=kind.targeted.get(probe, ()),
        context=kind.contexts.get(probe, ""),
        observers=kind.observers.get(probe, ()),
    )
    for kind in COLLECTORS
    for probe in {**kind.targeted, **kind.contexts, **kind.observers}
]
#: USDT probes, and what BCC writes to read their arguments
USER_SHAPES = [
    Shape("usdt", arguments=tuple(("uint32_t" if index % 2 else "uint64_t", index) for index in wanted), hooks=(hook,))
    for kind in COLLECTORS
    for hook, wanted in kind.user_probes.values()
]
REDUCED_SHAPES = [
    Shape("raw_tracepoint", flags=HIT_MEMORY),
]


def _collectors(defines):
    out = []
    for kind in COLLECTORS:
        if kind.layouts:
            collector = kind()
            collector._defines = dict.fromkeys(defines_of(kind), defines)
            out.append(collector)
    return out


def defines_of(kind) -> set[str]:
    text = (bpf_dir() / f"collectors/{kind.name.replace('-', '_')}.bpf.c").read_text()
    return set(re.findall(r"\b(?:HAVE|SKB|CT|NFT|OVS)_[A-Z_]+\b", " ".join(re.findall(r"^#if.*$", text, re.M))))


def _check(text: str) -> str:
    text = text.replace("#include <linux/types.h>\n", f"#include <linux/types.h>\n{BCC}", 1)
    stubs = bpf_dir() / "stubs" / "include"
    command = [CLANG, "-fsyntax-only", "-target", "bpf", "-Wall", "-Werror", "-I", stubs, "-x", "c", "-"]
    silent = [
        "-Wno-unused-function",
        "-Wno-unused-label",
        "-Wno-unused-variable",
        "-Wno-unused-but-set-variable",
    ]
    done = subprocess.run([*command, *silent], input=text, capture_output=True, text=True)
    return done.stderr


@pytest.mark.skipif(CLANG is None, reason="clang is not installed")
@pytest.mark.parametrize("reduced", [0, 1])
@pytest.mark.parametrize("defines", [0, 1])
@pytest.mark.parametrize("filtered", [None, "tcp port 443"])
def test_text_of_every_option_is_valid_c(reduced: int, defines: int, filtered: str | None) -> None:
    packets = packet_filter(filtered) if filtered else None
    shapes = SHAPES + REDUCED_SHAPES * reduced + USER_SHAPES * defines
    readers = "".join(
        f"int _bpf_readarg_{shape.function(number)}_{index + 1}(struct pt_regs *, {kind} *, u64);\n"
        for number, shape in enumerate(shapes)
        if shape.type == "usdt"
        for kind, index in shape.arguments
    )
    run = Run(
        _collectors(defines), shapes, packets, None, TYPES, MACROS, 16, reduced=bool(reduced), usdt=readers * defines
    )
    assert _check(compose(run)) == ""


@pytest.mark.skipif(CLANG is None, reason="clang is not installed")
def test_mistake_is_told_where_it_stands() -> None:
    run = Run(_collectors(1), SHAPES, None, None, TYPES, MACROS, 16)
    broken = compose(run).replace("e->ifindex = ifindex;", "e->ifindx = ifindex;")
    assert re.search(r"bpf/collectors/dev\.bpf\.c:\d+:\d+: error: no member named 'ifindx'", _check(broken))


def test_composition_is_a_pure_function() -> None:
    run = Run(_collectors(1), SHAPES, packet_filter("icmp"), None, TYPES, MACROS, 16)
    assert compose(run) == compose(run)


def test_each_shape_has_one_program() -> None:
    text = compose(Run(_collectors(1), SHAPES, None, None, TYPES, MACROS, 16))
    for number, shape in enumerate(SHAPES):
        assert len(re.findall(rf"^int {shape.function(number)}\(", text, re.M)) == 1


def test_generated_layouts_are_fresh() -> None:
    assert (bpf_dir() / "layouts.h").read_text() == layouts_h(), "run make gen"


def test_what_ends_an_event_has_the_last_section_id() -> None:
    assert [part.layout.tail is not None for part in PARTS].index(True) == len(PARTS) - 1
    hooks = subject._run_hooks(_collectors(1))
    assert hooks.rstrip().splitlines()[-3].strip() == "hook_skb_packet(s, ctx);"


class Targeting(Collector):
    """A collector of one probe's arguments, whose sk_buff is none of them."""

    name = "targeting"
    arguments: ClassVar = {"table": ("struct nft_table *",)}
    targeted: ClassVar = {"kprobe:f": ("verdict",), "kprobe:g": ("other", "verdict")}
    contexts: ClassVar = {"kprobe:f": "find_skb"}
    hooks = ("usual",)


def test_hooks_of_some_probes_run_in_their_programs_only() -> None:
    flags = subject._targeted([Targeting()])
    assert flags == {"verdict": 1 << 16, "other": 1 << 17}
    calls = [line.strip() for line in subject._run_hooks([Targeting()]).splitlines()]
    assert calls.index("if (flags & 0x10000 && hook_verdict(s, ctx))") < calls.index("hook_usual(s, ctx);")
    f = subject._program(Shape("kprobe", arguments=(("table", 1),), hooks=("verdict",), context="find_skb"), 0, flags)
    plain = subject._program(Shape("kprobe", 0), 1, flags)
    assert "ctx.table = kprobe_arg(regs, 1);\n\tif (find_skb(&ctx))\n\t\treturn 0;" in f
    assert f"hit(&ctx, {1 << 16})" in f
    assert "hit(&ctx, 0)" in plain and "find_skb" not in plain


def test_constants_that_both_sides_know_agree() -> None:
    text = "".join((bpf_dir() / name).read_text() for name in ("tracking.h", "hit.h"))
    for name in ("TRACK_FREE", "TRACK_PARTIAL", "TRACK_EXPAND", "TRACK_NEVER_NEW", "TRACK_LAST"):
        assert re.search(rf"\b{name} = {getattr(subject, name)},", text), name
    for name in ("HIT_SILENT", "HIT_STACK", "HIT_ARGS", "HIT_RET"):
        assert re.search(rf"\b{name} = 1 << {getattr(subject, name).bit_length() - 1},", text), name
