"""BTF: what the running kernel says of its own types.

One `Btf` is one file of ``/sys/kernel/btf`` (vmlinux, or a module split from it); `KernelTypes` is all of them,
loaded when asked for. "Does this member exist" is answered here, never by a kernel version. The layout of the
records read by hand is ``include/uapi/linux/btf.h`` (struct btf_type and what follows it).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from retis_py.errors import KernelError
from retis_py.kernel.btf_functions import Functions
from retis_py.kernel.libbpf import DUMP_PRINTF, libc, library

__all__ = ["Btf", "Kind", "Member", "Parameter"]


class Kind:
    """``BTF_KIND_*`` of include/uapi/linux/btf.h"""

    INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
    RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)
    MODIFIERS = (VOLATILE, CONST, RESTRICT, TYPE_TAG)


class Member(NamedTuple):
    """A member of a struct or union; `offset` in bits from the start of the outermost struct asked for."""

    name: str
    type_id: int
    offset: int
    #: width in bits of a bitfield, 0 for an ordinary member
    bits: int


class Parameter(NamedTuple):
    """A function parameter: its name and its type as text (``struct sk_buff *``, ``enum skb_drop_reason``)."""

    name: str
    type: str
    type_id: int
    #: number of pointers in front of the named type
    depth: int


class _Type(NamedTuple):
    name: str
    kind: int
    vlen: int
    kind_flag: bool
    #: ``size`` or ``type``, by kind
    ref: int
    #: address of what follows the record
    tail: int


class Btf:
    """The types of vmlinux, or of one module on top of it."""

    def __init__(self, path: Path, base: Btf | None = None) -> None:
        lib = library()
        self.path, self.base = path, base
        raw = str(path).encode()
        self._btf = lib.btf__parse_split(raw, base._btf) if base else lib.btf__parse(raw, None)
        if not self._btf:
            raise KernelError(f"cannot read BTF from {path}")
        self._cache: dict[int, _Type] = {}
        self._found: dict[tuple[str, int], int] = {}
        self._indexed = False
        self._described: dict[int, tuple[str, int]] = {}

    def type(self, type_id: int) -> _Type:
        """The record of *type_id*."""
        known = self._cache.get(type_id)
        if known is None:
            lib = library()
            address = lib.btf__type_by_id(self._btf, type_id)
            if not address:
                raise KernelError(f"BTF type {type_id} is not in {self.path}")
            name_off, info, ref = struct.unpack("=III", ctypes.string_at(address, 12))
            name = (lib.btf__name_by_offset(self._btf, name_off) or b"").decode(errors="replace")
            known = _Type(name, info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31), ref, address + 12)
            self._cache[type_id] = known
        return known

    def find(self, name: str, kind: int) -> int | None:
        """The id of the type called *name*, or None."""
        key = (name, kind)
        if key not in self._found and not (self._indexed and kind == Kind.FUNC):
            self._found[key] = library().btf__find_by_name_kind(self._btf, name.encode(), kind)
        found = self._found.get(key, 0)
        return found if found > 0 else None

    @cached_property
    def functions(self) -> Functions:
        """All functions, indexed: `find` searches from the start each time it is asked for one."""
        functions = Functions(self.path, self.base.functions if self.base else None)
        for name, type_id in functions.ids.items():
            self._found.setdefault((name, Kind.FUNC), type_id)
        self._indexed = functions.understood
        return functions

    def taking(self, types: Collection[str]) -> set[str]:
        """Functions that have a parameter of one of *types* (``struct sk_buff *``)."""
        return self.functions.taking(types, lambda type_id: self.describe(type_id)[0])

    def _records(self, record: _Type, layout: str) -> Iterator[tuple[int, ...]]:
        size = struct.calcsize(layout) * record.vlen
        return struct.iter_unpack(layout, ctypes.string_at(record.tail, size))

    def _text(self, offset: int) -> str:
        return (library().btf__name_by_offset(self._btf, offset) or b"").decode(errors="replace")

    def strip(self, type_id: int, typedefs: bool = True) -> int:
        """*type_id* without const, volatile, restrict and type tags, and without typedefs if asked."""
        while type_id:
            record = self.type(type_id)
            if record.kind in Kind.MODIFIERS or (typedefs and record.kind == Kind.TYPEDEF):
                type_id = record.ref
            else:
                break
        return type_id

    def members(self, type_id: int) -> Iterator[Member]:
        """The direct members of a struct or union, anonymous ones included."""
        record = self.type(type_id)
        for name_off, member_type, offset in self._records(record, "=III"):
            bits = offset >> 24 if record.kind_flag else 0
            yield Member(self._text(name_off), member_type, offset & 0xFFFFFF if record.kind_flag else offset, bits)

    def member(self, type_id: int, name: str) -> Member | None:
        """The member *name* of a struct or union, looked for inside anonymous members too."""
        for member in self.members(self.strip(type_id)):
            if member.name == name:
                return member
            if not member.name and self.type(self.strip(member.type_id)).kind in (Kind.STRUCT, Kind.UNION):
                inner = self.member(member.type_id, name)
                if inner:
                    return inner._replace(offset=inner.offset + member.offset)
        return None

    def has_member(self, structure: str, path: str) -> bool:
        """Does ``struct structure`` have the member at dotted *path*?"""
        type_id = self.find(structure, Kind.STRUCT)
        for name in path.split("."):
            member = self.member(type_id, name) if type_id else None
            if member is None:
                return False
            type_id = self.strip(member.type_id)
            if self.type(type_id).kind not in (Kind.STRUCT, Kind.UNION):
                type_id = None
        return True

    def offset_of(self, structure: str, path: str) -> int:
        """Offset in bytes of the member at dotted *path* of ``struct structure`` (no pointers on the way)."""
        type_id, bits = self.find(structure, Kind.STRUCT), 0
        for name in path.split("."):
            member = self.member(type_id, name) if type_id else None
            if member is None:
                raise KernelError(f"struct {structure} of this kernel has no member {path}")
            type_id, bits = self.strip(member.type_id), bits + member.offset
        return bits // 8

    def size_of(self, structure: str) -> int | None:
        """Size in bytes of ``struct structure``, None where it does not exist."""
        type_id = self.find(structure, Kind.STRUCT)
        return self.type(type_id).ref if type_id else None

    def is_signed(self, type_id: int) -> bool:
        """Is the integer type signed? BTF_INT_SIGNED of the word behind its record."""
        (word,) = struct.unpack("=I", ctypes.string_at(self.type(type_id).tail, 4))
        return bool(word >> 24 & 1)

    def array(self, type_id: int) -> tuple[int, int]:
        """Type of the elements of an array, and how many there are: struct btf_array."""
        element, _index, count = struct.unpack("=III", ctypes.string_at(self.type(type_id).tail, 12))
        return element, count

    def size(self, type_id: int) -> int:
        """Size in bytes of any type that has one."""
        return int(library().btf__resolve_size(self._btf, type_id))

    def enum(self, name: str) -> dict[str, int] | None:
        """The values of ``enum name``, None where it does not exist."""
        type_id = self.find(name, Kind.ENUM) or self.find(name, Kind.ENUM64)
        return self.enum_values(type_id) if type_id else None

    def enum_values(self, type_id: int) -> dict[str, int]:
        """The values of an enum type; empty for any other."""
        record = self.type(self.strip(type_id))
        if record.kind == Kind.ENUM:
            # Linux commit 6089fb325cf7 ("bpf: Add btf enum64 support") (in v6.0) gave enums a sign flag; before it
            # there is none to ask, and as signed numbers all values are right that the kernel compares as int.
            return {self._text(off): value for off, value in self._records(record, "=Ii")}
        if record.kind == Kind.ENUM64:
            return {self._text(off): lo | hi << 32 for off, lo, hi in self._records(record, "=III")}
        return {}

    def describe(self, type_id: int) -> tuple[str, int]:
        """``struct sk_buff *`` and the number of pointers in front of it; typedefs keep their name."""
        if type_id not in self._described:
            self._described[type_id] = self._describe(type_id)
        return self._described[type_id]

    def _describe(self, type_id: int) -> tuple[str, int]:
        depth = 0
        while type_id:
            record = self.type(type_id)
            if record.kind == Kind.PTR:
                depth += 1
            elif record.kind not in Kind.MODIFIERS:
                break
            type_id = record.ref
        if not type_id:
            return "void" + " " * bool(depth) + "*" * depth, depth
        record = self.type(type_id)
        prefix = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}
        if record.kind == Kind.FWD:
            name = ("union " if record.kind_flag else "struct ") + record.name
        else:
            name = prefix.get(record.kind, "") + record.name
        return name + " " * bool(depth) + "*" * depth, depth

    def _by_memory(self, type_id: int) -> bool:
        """Is this a structure of more than one register?"""
        bare = self.strip(type_id) if type_id else 0
        return bool(bare) and self.type(bare).kind in (Kind.STRUCT, Kind.UNION) and self.size(bare) > 8

    def _parameters(self, proto_id: int) -> list[Parameter]:
        """Up to a structure passed by value, if it takes more than a register: where the next ones are then depends on
        the machine's calling convention."""
        out = []
        for name_off, type_id in self._records(self.type(proto_id), "=II"):
            text, depth = self.describe(type_id)
            if not depth and self._by_memory(type_id):
                break
            out.append(Parameter(self._text(name_off), text, type_id, depth))
        return out

    def function(self, name: str) -> list[Parameter] | None:
        """The parameters of function *name*, None where BTF does not know it."""
        type_id = self.find(name, Kind.FUNC)
        return self._parameters(self.type(type_id).ref) if type_id else None

    def returns(self, name: str) -> Parameter | None:
        """What function *name* returns, as a parameter without a name; None for ``void`` and where it is unknown."""
        type_id = self.find(name, Kind.FUNC)
        returned = self.type(self.type(type_id).ref).ref if type_id else 0
        if not returned:
            return None
        text, depth = self.describe(returned)
        return Parameter("", text, returned, depth)

    def tracepoint(self, name: str) -> list[Parameter] | None:
        """The parameters of tracepoint *name* (without group), from ``btf_trace_<name>``; its first, ``void *``
        data, is not one of the tracepoint's."""
        type_id = self.find(f"btf_trace_{name}", Kind.TYPEDEF)
        if not type_id:
            return None
        return self._parameters(self.type(self.type(type_id).ref).ref)[1:]

    def dump_c(self, names: Iterable[str]) -> str:
        """The C definitions of the named structs (``enum x`` for enums) and of all they need, as btf_dump prints."""
        lib, vsnprintf = library(), libc().vsnprintf
        parts: list[bytes] = []
        buffer = ctypes.create_string_buffer(4096)

        @DUMP_PRINTF
        def collect(_ctx: int, fmt: bytes, args: int) -> None:
            vsnprintf(buffer, len(buffer), fmt, args)
            parts.append(buffer.value)

        dump = lib.btf_dump__new(self._btf, collect, None, None)
        if not dump:
            raise KernelError(f"cannot print the types of {self.path}")
        try:
            for name in names:
                bare = name[5:] if name.startswith("enum ") else name
                type_id = self.find(bare, Kind.ENUM if bare != name else Kind.STRUCT)
                if type_id is None:
                    raise KernelError(f"this kernel's BTF ({self.path}) has no type {name}")
                if lib.btf_dump__dump_type(dump, type_id):
                    raise KernelError(f"cannot print type {name} of {self.path}")
        finally:
            lib.btf_dump__free(dump)
        return b"".join(parts).decode()
