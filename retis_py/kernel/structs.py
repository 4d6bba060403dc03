"""Kernel structures for C: only the members a run reads, each where BTF says it is.

A member becomes an anonymous struct of padding and itself, and a structure the union of those:

    struct sk_buff {
            union {
                    struct { u8 p0_[112]; u32 len; } __attribute__((packed));
                    struct { u8 p1_[126]; u8 : 1; u8 nohdr : 1; } __attribute__((packed));
                    u8 size_[224];
            };
    } __attribute__((packed, aligned(8)));

so that overlapping members (unions), bitfields and members of members need no care, nothing is left to the compiler's
idea of alignment (libbpf's own C dump is at a loss where members are aligned beyond their type), and a few dozen lines
are compiled in place of thousands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from retis_py.errors import KernelError
from retis_py.kernel.btf import Btf, Kind, Member
from retis_py.kernel.types import KernelTypes

__all__ = ["print_structs"]

_UNSIGNED = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}
_SIGNED = {1: "s8", 2: "s16", 4: "s32", 8: "s64"}


def _scalar(btf: Btf, type_id: int) -> str | None:
    """The C type of a number, an enum or a pointer; None for anything else."""
    type_id = btf.strip(type_id)
    record = btf.type(type_id)
    if record.kind == Kind.PTR:
        target = btf.strip(record.ref)
        if target and btf.type(target).kind in (Kind.STRUCT, Kind.FWD) and btf.type(target).name:
            return f"struct {btf.type(target).name} *"
        return f"{_scalar(btf, target)} *" if target and btf.type(target).kind == Kind.INT else "void *"
    if record.kind in (Kind.ENUM, Kind.ENUM64):
        return (_SIGNED if record.kind_flag else _UNSIGNED)[record.ref]
    if record.kind == Kind.INT:
        if record.name in ("char", "_Bool"):
            return {"char": "char", "_Bool": "u8"}[record.name]
        return (_SIGNED if btf.is_signed(type_id) else _UNSIGNED).get(record.ref)
    return None


def _declaration(btf: Btf, member: Member, paths: list[list[str]]) -> str | None:
    """C of *member*, or of the members inside it that *paths* name."""
    type_id = btf.strip(member.type_id)
    record = btf.type(type_id)
    if record.kind == Kind.ARRAY and any(paths):
        element, count = btf.array(type_id)
        inner = " ".join(_members(btf, btf.strip(element), [path for path in paths if path]))
        return f"struct {{ union {{ {inner} u8 size_[{btf.size(element)}]; }}; }} {member.name}[{count}];"
    if any(paths):
        inner = " ".join(_members(btf, type_id, [path for path in paths if path]))
        return f"struct {{ union {{ {inner} }}; }} {member.name};" if inner else None
    if record.kind == Kind.ARRAY:
        element, count = btf.array(type_id)
        scalar = _scalar(btf, element)
        return f"{scalar} {member.name}[{count}];" if scalar else None
    if record.kind in (Kind.STRUCT, Kind.UNION):
        return f"u8 {member.name}[{btf.size(type_id)}];"
    scalar = _scalar(btf, type_id)
    return f"{scalar} {member.name}{f' : {member.bits}' if member.bits else ''};" if scalar else None


def _members(btf: Btf, type_id: int, paths: list[list[str]]) -> list[str]:
    """``struct { u8 p_[176]; u32 inum; };`` for each first name of *paths* that this kernel has."""
    heads: dict[str, list[list[str]]] = {}
    for head, *tail in paths:
        heads.setdefault(head, []).append(tail)
    out = []
    for number, (head, tails) in enumerate(heads.items()):
        member = btf.member(type_id, head)
        declaration = _declaration(btf, member, tails) if member else None
        if member is None or declaration is None:
            continue
        offset, bit = divmod(member.offset, 8)
        padding = f"u8 p{number}_[{offset}]; " if offset else ""
        if bit:
            padding += f"{declaration.split(' ', 1)[0]} : {bit}; "
        out.append(f"struct {{ {padding}{declaration} }} __attribute__((packed));")
    return out


def print_structs(types: KernelTypes, wanted: Mapping[str, Iterable[str]]) -> str:
    """C of the named structures with the members at the dotted paths given for each.

    A member that this kernel does not have is left out: the caller asks BTF before it uses one that may be missing.
    """
    out = []
    for name, paths in wanted.items():
        btf = next((b for b in types.everywhere(name) if b.find(name, Kind.STRUCT)), None)
        if btf is None:
            raise KernelError(f"this kernel's BTF has no struct {name}")
        type_id = btf.find(name, Kind.STRUCT) or 0
        members = _members(btf, type_id, [path.split(".") for path in dict.fromkeys(paths)])
        out += [f"struct {name} {{", "\tunion {", *(f"\t\t{member}" for member in members)]
        out += [f"\t\tu8 size_[{btf.size(type_id)}];", "\t};", "} __attribute__((packed, aligned(8)));", ""]
    pointed = sorted(set(re.findall(r"struct (\w+) \*", "\n".join(out))))
    return "\n".join([*(f"struct {name};" for name in pointed), "", *out])
