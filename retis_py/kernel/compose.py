"""Compose: the C text of a run, a pure function of what was decided before.

Pieces of bpf/ follow one another under ``#line``, macros carry the decisions, and each *shape* of probe gets one
program: probes that find their arguments at the same places share the text and the compiled code, and differ by one
constant, `PROBE_ID`, which is set in each copy that is loaded (`retis_py.kernel.code`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from retis_py.collectors.base import Collector
from retis_py.filters.packet import PacketFilter
from retis_py.kernel.code import PROBE_ID, VALUES
from retis_py.kernel.cpus import possible_cpus
from retis_py.paths import bpf_dir

__all__ = ["Run", "Shape", "compose"]

# bpf/tracking.h, bpf/hit.h
TRACK_FREE, TRACK_PARTIAL, TRACK_EXPAND, TRACK_NEVER_NEW, TRACK_LAST = 1, 2, 4, 8, 16
HIT_SILENT, HIT_STACK, HIT_ARGS, HIT_RET = 1 << 8, 1 << 9, 1 << 12, 1 << 13
HIT_FREE_ONLY = 1 << 10  # hit_free(): not a flag in C
HIT_MEMORY = 1 << 11  # memory_freed(): not a flag in C
HIT_TARGETED = 16  # the first bit of the hooks that only some probes run

#: different stack traces a run can tell apart
STACK_ENTRIES = 4096
#: bpf/context.h: arguments that are kept of a call
ARGS_MAX = 6
#: `Shape.drop_reason` of skb:kfree_skb on a kernel without drop reasons (before v5.17)
NO_REASONS = -2


class Shape(NamedTuple):
    """Everything a program of a probe type depends on: argument positions (-1: none) and flags."""

    type: str
    skb: int = -1
    dev: int = -1
    net: int = -1
    drop_reason: int = -1
    flags: int = 0
    #: one program for many functions: it looks its probe up by the function's address
    many: bool = False
    #: where their arguments are is looked up, too
    anywhere: bool = False
    #: positions of the arguments that collectors want in the context, by its members; of a USDT probe: by their types
    arguments: tuple[tuple[str, int], ...] = ()
    #: how many arguments to report
    copied: int = 0
    #: hooks that only run here
    hooks: tuple[str, ...] = ()
    #: C function that completes the context, if any
    context: str = ""
    #: C functions that are given the context of what matched
    observers: tuple[str, ...] = ()

    def function(self, number: int) -> str:
        """Name of its program, the *number*-th of the run."""
        return f"{self.type}{'s' if self.many else ''}_{number}"

    @property
    def positions(self) -> tuple[int, int, int, int]:
        """Where its arguments are, as struct function of bpf/probes/functions.bpf.c has them."""
        return self.skb, self.dev, self.net, self.drop_reason

    def for_many(self) -> Shape:
        """The same for a program that serves many functions: alike as far as can be, as each shape is compiled."""
        if self.arguments or self.copied or self.context:
            return self._replace(many=True)
        return self._replace(skb=-1, dev=-1, net=-1, drop_reason=-1, many=True, anywhere=True)


class Run(NamedTuple):
    """What a C text is made from."""

    collectors: Sequence[Collector]
    shapes: Sequence[Shape]
    packet_filter: PacketFilter | None
    #: C of meta_matches(), see `retis_py.filters.meta`
    meta_filter: str | None
    #: `retis_py.kernel.facts.kernel_types` and `kernel_macros`
    types: str
    macros: Mapping[str, int]
    max_probes: int
    tracking_entries: int = 8192
    reduced: bool = False
    #: C that reads the arguments of USDT probes
    usdt: str = ""


def _source(name: str) -> str:
    return f'#line 1 "bpf/{name}"\n{(bpf_dir() / name).read_text()}'


_PACKET_FILTER = '#line 1 "packet filter"\n'
_META_FILTER = '#line 1 "meta filter"\n'
_NO_META_FILTER = """static __always_inline int meta_matches(struct sk_buff *skb)
{
	return 1;
}
"""


def _targeted(collectors: Iterable[Collector]) -> dict[str, int]:
    """Flags of the hooks and observers that only some probes run."""
    sources = [mapping for c in collectors for mapping in (c.targeted, c.observers)]
    names = dict.fromkeys(name for mapping in sources for hooks in mapping.values() for name in hooks)
    return {name: 1 << HIT_TARGETED + bit for bit, name in enumerate(names)}


def _run_hooks(collectors: Sequence[Collector]) -> str:
    """run_hooks(): all hooks, in the order of the list of collectors, tails last; not 0 if a hook drops the event."""
    targeted = _targeted(collectors)
    calls = []
    for collector in collectors:
        for name in dict.fromkeys(name for hooks in collector.targeted.values() for name in hooks):
            calls += [f"\tif (flags & {targeted[name]:#x} && hook_{name}(s, ctx))", "\t\treturn 1;"]
        calls += [f"\thook_{name}(s, ctx);" for name in collector.hooks]
    calls += [f"\thook_{collector.tail_hook}(s, ctx);" for collector in collectors if collector.tail_hook]
    needs_skb = any("sk_buff" in c.members for c in collectors)
    lines = [
        '#line 1 "hooks"',
        "static __always_inline int run_hooks(struct scratch *s, struct context *ctx, u32 flags)",
        "{",
    ]
    if needs_skb:
        lines += [
            "\tif (ctx->skb && bpf_probe_read_kernel((void *)&s->skb + SKB_COPY_FIRST,",
            "\t\t\t\t\t      SKB_COPY_END - SKB_COPY_FIRST,",
            "\t\t\t\t\t      (void *)ctx->skb + SKB_COPY_FIRST))",
            "\t\treturn 0;",
        ]
    return "\n".join([*lines, *calls, "\treturn 0;", "}", ""])


def _run_observers(collectors: Sequence[Collector]) -> str:
    """run_observers(): what is told of a hit that matched, before there is an event of it."""
    targeted = _targeted(collectors)
    lines = ["static __always_inline void run_observers(struct context *ctx, u32 flags)", "{"]
    for name in dict.fromkeys(name for c in collectors for names in c.observers.values() for name in names):
        lines += [f"\tif (flags & {targeted[name]:#x})", f"\t\t{name}(ctx);"]
    return "\n".join([*lines, "}", ""])


_PARAMETER = {
    "kprobe": "struct pt_regs *regs",
    "kretprobe": "struct pt_regs *regs",
    "raw_tracepoint": "struct bpf_raw_tracepoint_args *regs",
}


def _user_program(shape: Shape, name: str) -> str:
    """The C function of a USDT probe."""
    lines = [
        f"int {name}(struct pt_regs *regs)",
        "{",
        "\tstruct context ctx = { .bpf = regs, .probe = probe_id() };",
        "\tstruct scratch *s = begin_user_hit(&ctx);",
        "\tstruct user_event *event = (void *)s;",
        "\tstruct entry_args kept = {};",
        "\tu32 size;",
        "",
        "\tif (!s)",
        "\t\treturn 0;",
    ]
    for kind, index in shape.arguments:
        lines += [f"\t{{ {kind} value = 0; _bpf_readarg_{name}_{index + 1}(regs, &value, sizeof(value));"]
        lines += [f"\tkept.args[{index}] = value; }}"]
    lines += ["\tctx.args = &kept;", f"\tsize = user_hook_{shape.hooks[0]}(event, &ctx);"]
    lines += ["\tif (size)", "\t\tsubmit_user_event(event, &ctx, size);", "\tgive_scratch(s);"]
    lines += ["\tno_private_stack.call(regs, 0);"]
    return "\n".join([*lines, "\treturn 0;", "}", ""])


def _program(shape: Shape, number: int, targeted: Mapping[str, int]) -> str:
    """The C function of a shape; *targeted* are the flags of hooks."""

    def arg(index: int) -> str:
        return f"kept.args[{index}]" if shape.type == "kretprobe" else f"{shape.type}_arg(regs, {index})"

    if shape.type == "usdt":
        return _user_program(shape, shape.function(number))
    lines = [f"int {shape.function(number)}({_PARAMETER[shape.type]})", "{"]
    if shape.flags & HIT_MEMORY:
        return "\n".join([*lines, f"\treturn memory_freed({arg(1)});", "}", ""])
    if shape.type == "kretprobe":
        lines.append("\tstruct entry_args kept;")
    elif shape.copied:
        lines.append("\tstruct entry_args kept = {};")
    if shape.many:
        lines += [
            "\tstruct context ctx = { .bpf = regs };",
            "\tstruct function *function = this_function(regs);",
            "",
            "\tif (!function)",
            "\t\treturn 0;",
            "\tctx.probe = function->probe;",
        ]
        if shape.anywhere:
            lines += ["\tif (!find_arguments(regs, function, &ctx))", "\t\treturn 0;"]
    else:
        lines += ["\tstruct context ctx = { .bpf = regs, .probe = probe_id() };", ""]
    if shape.type == "kretprobe":
        lines += ["\tif (!take_args(regs, ctx.probe, &kept))", "\t\treturn 0;"]
        if shape.hooks or shape.context or shape.flags & HIT_RET:
            lines += ["\tctx.args = &kept;", "\tctx.ret = PT_REGS_RC(regs);"]
    elif shape.copied:
        lines += [f"\tkept.args[{index}] = {arg(index)};" for index in range(shape.copied)]
    if shape.flags & HIT_ARGS:
        lines.append("\tctx.args = &kept;")
    for place, index in (("skb", shape.skb), ("dev", shape.dev), ("net", shape.net)):
        if index >= 0:
            lines.append(f"\tctx.{place} = (void *){arg(index)};")
    lines += [f"\tctx.{place} = {arg(index)};" for place, index in shape.arguments]
    if shape.skb >= 0:
        lines += ["\tif (!ctx.skb)", "\t\treturn 0;"]
    if shape.drop_reason == NO_REASONS:
        lines += ["\tctx.drop_reason = -1;", "\tctx.has_drop_reason = 1;"]
    elif shape.drop_reason >= 0:
        lines += [f"\tctx.drop_reason = {arg(shape.drop_reason)};", "\tctx.has_drop_reason = 1;"]
    if shape.context:
        lines += [f"\tif ({shape.context}(&ctx))", "\t\treturn 0;"]
    if shape.flags == HIT_SILENT and not shape.observers:
        return "\n".join([*lines, "\treturn 0;", "}", ""])
    flags = shape.flags | sum(targeted[name] for name in shape.hooks + shape.observers)
    if flags & TRACK_PARTIAL:
        lines += [f"\tif (!(u8){arg(1)})\t/* head_stolen */"]
        silent = flags & (HIT_SILENT | HIT_FREE_ONLY)
        lines += ["\t\treturn 0;" if silent else f"\t\treturn hit(&ctx, {flags & ~TRACK_FREE});"]
    call = f"hit_free(&ctx, {flags & TRACK_LAST})" if flags & HIT_FREE_ONLY else f"hit(&ctx, {flags})"
    return "\n".join([*lines, f"\treturn {call};", "}", ""])


_PROBE_ID = f"""#line 1 "programs"
/* The index of the probe, set in each loaded copy of a program; asm hides it from the optimizer until then. */
static __always_inline u16 probe_id(void)
{{
	u64 id;

	asm volatile("%0 = {PROBE_ID:#x}" : "=r"(id));
	return id;
}}
"""


def compose(run: Run) -> str:
    """The C text of *run*."""
    kinds = {shape.type for shape in run.shapes}
    targeted = _targeted(run.collectors)
    macros = {
        **run.macros,
        **{f"{name.upper()}_MARK": f"{mark:#x}" for name, mark in VALUES.items()},
        "MAX_PROBES": run.max_probes,
        "CPUS": possible_cpus(),
        "TRACKING_ENTRIES": run.tracking_entries,
        "REDUCED": int(run.reduced),
        "STACK_ENTRIES": STACK_ENTRIES,
        "HAVE_VALUES": int(
            any(shape.flags & (HIT_ARGS | HIT_RET) for shape in run.shapes)
            or any(name.startswith("kretprobe:") for c in run.collectors for name in c.targeted)
        ),
        "HAVE_STACK": int(any(shape.flags & HIT_STACK for shape in run.shapes)),
        "HAVE_PACKET_FILTER": int(run.packet_filter is not None),
        "HAVE_FILTER": int(run.packet_filter is not None or run.meta_filter is not None),
        "PACKET_BYTES": run.packet_filter.bulk if run.packet_filter else 8,
        "PACKET_LEN": int(run.packet_filter is not None and "pkt->len" in run.packet_filter.text),
    }
    for collector in run.collectors:
        macros.update(collector.defines())
    parts = [
        "#include <linux/types.h>\n",
        f'#line 1 "kernel types"\n{run.types}',
        '_Static_assert(sizeof(struct sk_buff) == SKB_SIZE, "struct sk_buff differs from BTF");\n'
        '_Static_assert(__builtin_offsetof(struct sk_buff, head) == SKB_HEAD, "sk_buff.head differs from BTF");\n',
        *(_source(name) for name in ("layouts.h", "core.h", "context.h", "event.h", "tracking.h", "packet.h")),
        _source("user.h") + "\n" + run.usdt if run.usdt else "",
        _PACKET_FILTER + (run.packet_filter.text if run.packet_filter else ""),
        _META_FILTER + (run.meta_filter or _NO_META_FILTER),
        _source("filter.h"),
        *(_source(f"collectors/{c.name.replace('-', '_')}.bpf.c") for c in run.collectors),
        _run_hooks(run.collectors),
        _run_observers(run.collectors),
        _source("hit.h"),
        *(_source(f"probes/{kind}.bpf.c") for kind in sorted(kinds - {"usdt"})),
        _source("probes/functions.bpf.c") if any(shape.many for shape in run.shapes) else "",
        _PROBE_ID,
        *(_program(shape, number, targeted) for number, shape in enumerate(run.shapes)),
    ]
    if "kretprobe" in kinds:
        parts.append("int kretprobe_entry(struct pt_regs *regs)\n{\n\treturn keep_args(regs, probe_id());\n}\n")
    members = dict.fromkeys(name for collector in run.collectors for name in collector.arguments)
    head = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    head += f"#define CONTEXT_MEMBERS {' '.join(f'u64 {name};' for name in members)}\n"
    return head + "\n".join(parts)
