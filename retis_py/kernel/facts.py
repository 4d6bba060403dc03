"""What a C text has to know of the running kernel: its structs, where their members are, what programs may do there."""

from __future__ import annotations

from collections.abc import Iterable

from retis_py.collectors.base import Collector
from retis_py.kernel.btf import Btf, Kind
from retis_py.kernel.direct import direct_reads
from retis_py.kernel.structs import print_structs
from retis_py.kernel.types import KernelTypes

__all__ = ["kernel_macros", "kernel_types"]

#: what bpf/context.h reads of every sk_buff
_BRIEF = ("mac_header", "network_header", "tail", "end", "head")
_ALWAYS = {"sk_buff": (*_BRIEF, "len", "data_len", "mac_len", "data"), "skb_shared_info": ("dataref.counter",)}


def _members(collectors: Iterable[Collector]) -> dict[str, list[str]]:
    """The members of kernel structs that a run reads."""
    out = {name: list(paths) for name, paths in _ALWAYS.items()}
    for collector in collectors:
        for name, paths in collector.members.items():
            out.setdefault(name, []).extend(paths)
    return out


def kernel_types(types: KernelTypes, collectors: Iterable[Collector]) -> str:
    """C of the kernel structs a run reads, and of the registers its kprobes get."""
    return print_structs(types, _members(collectors)) + types.vmlinux.dump_c(["pt_regs"])


def _span(btf: Btf, members: Iterable[str]) -> tuple[int, int]:
    """First byte of struct sk_buff that *members* touch, and first behind them; those that are not there aside."""
    skb = btf.find("sk_buff", Kind.STRUCT) or 0
    first, end = btf.type(skb).ref, 0
    for name in members:
        member = btf.member(skb, name.partition(".")[0])
        if member is None:
            continue
        size = 8 if member.bits else btf.size(member.type_id)
        first = min(first, member.offset // 8)
        end = max(end, member.offset // 8 + size)
    return first // 8 * 8, min(-(-end // 8) * 8, btf.type(skb).ref)


def kernel_macros(btf: Btf, collectors: Iterable[Collector]) -> dict[str, int]:
    """What the text has to know of this kernel: where the members of struct sk_buff that are copied at once begin and
    end, and whether a program can read kernel memory without a helper."""
    first, end = _span(btf, _BRIEF)
    cloned = btf.member(btf.find("sk_buff", Kind.STRUCT) or 0, "cloned")
    skb_cloned = cloned.offset if cloned else 0
    copy_first, copy_end = _span(btf, _members(collectors)["sk_buff"])
    return {
        "SKB_FIRST": first,
        "SKB_END": end,
        "SKB_COPY_FIRST": copy_first,
        "SKB_COPY_END": copy_end,
        "SKB_HEAD": btf.offset_of("sk_buff", "head"),
        "SKB_CLONED": skb_cloned // 8,
        "SKB_CLONED_BIT": skb_cloned % 8,
        "SKB_SIZE": btf.size_of("sk_buff") or 0,
        **direct_reads(btf),
    }
