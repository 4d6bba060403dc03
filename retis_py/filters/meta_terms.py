"""Terms of a meta filter, resolved against BTF and printed as C; see `retis_py.filters.meta` for what they mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from retis_py.kernel.btf import Btf, Kind, Member
from retis_py.kernel.types import KernelTypes

__all__ = ["Compiler", "TermError"]

_U64 = (1 << 64) - 1
#: characters of a string, as upstream has it; a longer one could not be compared within the stack of a program
_STRING_MAX = 31


class TermError(Exception):
    """What is wrong, and at which column (from 0)."""

    def __init__(self, message: str, column: int, hint: str = "") -> None:
        super().__init__(message)
        self.column, self.hint = column, hint


class _Leaf(NamedTuple):
    """Where a term's last member is and what type it has."""

    btf: Btf
    type_id: int
    member: Member
    #: C statements that leave the address of the struct around it in `at`
    walk: list[str]
    #: byte offset of the member from `at`
    offset: int


def _number(token: Any) -> int:
    text = str(token)
    return int(text, 0) if text[:2] in ("0x", "0b") else int(text, 10)


def _names(btf: Btf, type_id: int) -> Iterator[str]:
    """Names of all members, those of anonymous structs included."""
    for member in btf.members(btf.strip(type_id)):
        if member.name:
            yield member.name
        elif btf.type(btf.strip(member.type_id)).kind in (Kind.STRUCT, Kind.UNION):
            yield from _names(btf, member.type_id)


def _is_struct(btf: Btf, type_id: int) -> bool:
    return btf.type(btf.strip(type_id)).kind in (Kind.STRUCT, Kind.UNION)


def _mask(node: Any) -> int:
    """Value of a ``[~]number`` node."""
    value = _number(node.children[-1])
    value = ~value & _U64 if str(node.children[0]) == "~" else value & _U64
    if value == 0:
        raise TermError("mask must be greater than 0", node.meta.column - 1)
    return value


class Compiler:
    """Resolves terms against BTF and prints them as C functions."""

    def __init__(self, types: KernelTypes) -> None:
        self.types = types
        self.functions: list[str] = []

    def expression(self, node: Any) -> str:
        """C of an ``expr``; equal precedence, left to right."""
        first, *rest = node.children
        text = self.operand(first)
        for word, operand in zip(rest[::2], rest[1::2]):
            text = f"({text} {'&&' if str(word) in ('and', '&&') else '||'} {self.operand(operand)})"
        return text

    def operand(self, node: Any) -> str:
        if node.data == "expr":
            return self.expression(node)
        return self.term(node)

    def term(self, node: Any) -> str:
        lhs, op, rhs = (*node.children, None, None)[:3]
        leaf, mask = self.walk(lhs.children)
        where = lhs.children[-1].meta.column - 1
        text = self._string(leaf, mask, op, rhs, where) or self._numeric(leaf, mask, op, rhs, where)
        name = f"meta_term_{len(self.functions)}"
        self.functions.append(
            "\n".join(
                [
                    f"static __always_inline int {name}(struct sk_buff *skb)",
                    "{",
                    "\tu64 at = (u64)skb;",
                    "",
                    *(f"\t{line}".rstrip() for line in [*leaf.walk, *text]),
                    "}",
                    "",
                ]
            )
        )
        return f"{name}(skb)"

    def walk(self, fields: list[Any]) -> tuple[_Leaf, int | None]:
        """Follow *fields* from struct sk_buff; returns the last one and its mask."""
        btf: Btf = self.types.vmlinux
        lines: list[str] = []
        type_id, offset = btf.find("sk_buff", Kind.STRUCT) or 0, 0
        for number, node in enumerate(fields):
            name, mask_node, cast_node = (*node.children, None, None)[:3]
            column = node.meta.column - 1
            last = number == len(fields) - 1
            member = btf.member(type_id, str(name))
            if member is None:
                struct = btf.type(btf.strip(type_id)).name or "(anonymous)"
                close = difflib.get_close_matches(str(name), list(_names(btf, type_id)), n=1)
                hint = f"did you mean {close[0]}?" if close else ""
                raise TermError(f"field {name} not found in type {struct}", column, hint)
            mask = _mask(mask_node) if mask_node is not None else None
            if last:
                if cast_node is not None:
                    raise TermError(f"trying to cast a leaf member into {cast_node.children[0]}", column)
                return _Leaf(btf, btf.strip(member.type_id), member, lines, offset + member.offset // 8), mask
            target = btf.strip(member.type_id)
            if cast_node is not None:
                lines += self._follow(btf, member, offset, mask, column)
                (btf, type_id), offset = self._cast(str(cast_node.children[0]), btf, target, column), 0
            elif _is_struct(btf, target):
                if mask is not None:
                    raise TermError(
                        "intermediate members masking is only supported for pointers and unsigned numbers", column
                    )
                offset, type_id = offset + member.offset // 8, target
            elif btf.type(target).kind == Kind.PTR:
                btf, pointed = self._complete(btf, btf.strip(btf.type(target).ref))
                if pointed and btf.type(pointed).kind == Kind.PTR:
                    raise TermError("pointers of pointers are not supported", column)
                if not pointed or not _is_struct(btf, pointed):
                    raise self._cannot_walk(btf, target, column)
                lines += self._follow(btf, member, offset, mask, column)
                type_id, offset = pointed, 0
            else:
                raise self._cannot_walk(btf, target, column)
        raise AssertionError("a term has at least one field")

    def _complete(self, btf: Btf, type_id: int) -> tuple[Btf, int]:
        """A struct that *btf* only declares, where it is defined: modules may leave that to others."""
        record = btf.type(type_id) if type_id else None
        if record is not None and record.kind == Kind.FWD:
            kind = Kind.UNION if record.kind_flag else Kind.STRUCT
            for other in self.types.everywhere():
                found = other.find(record.name, kind)
                if found:
                    return other, found
        return btf, type_id

    @staticmethod
    def _cannot_walk(btf: Btf, type_id: int, column: int) -> TermError:
        text = btf.describe(type_id)[0] or "array"
        return TermError(f"unexpected non-walkable type ({text}) while walking struct members", column)

    @staticmethod
    def _follow(btf: Btf, member: Member, offset: int, mask: int | None, column: int) -> list[str]:
        """C that goes through a pointer, or a number as wide as one."""
        target = btf.strip(member.type_id)
        record = btf.type(target)
        wide = record.kind == Kind.PTR or (record.kind == Kind.INT and record.ref == 8 and not member.bits)
        if not wide:
            raise TermError("only pointers and integers as wide as one can be cast", column)
        place = offset + member.offset // 8
        lines = [f"if (bpf_probe_read_kernel(&at, sizeof(at), (void *)at + {place}))\t/* {member.name} */"]
        lines.append("\treturn 0;")
        if mask is not None:
            lines.append(f"at &= {mask:#x}ULL;")
        return lines

    def _cast(self, name: str, btf: Btf, target: int, column: int) -> tuple[Btf, int]:
        for candidate in self.types.everywhere():
            for kind in (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF):
                found = candidate.find(name, kind)
                if not found:
                    continue
                stripped = candidate.strip(found)
                if candidate.type(stripped).kind == Kind.PTR:
                    raise TermError(f"cast type ({name}) cannot be an alias to a pointer", column)
                if _is_struct(candidate, stripped):
                    return candidate, stripped
        raise TermError(f"Could not resolve {name} to a struct or typedef", column)

    def _string(self, leaf: _Leaf, mask: int | None, op: Any, rhs: Any, column: int) -> list[str] | None:
        """C of a comparison with a string; None if the member is not one."""
        btf, record = leaf.btf, leaf.btf.type(leaf.type_id)
        pointer, room = False, 0
        if record.kind == Kind.ARRAY:
            element, room = btf.array(leaf.type_id)
            what = btf.type(btf.strip(element))
            if what.name != "char":
                raise TermError(f"array of {what.name or 'structures'} are not supported.", column)
        elif record.kind == Kind.PTR:
            target = btf.strip(record.ref)
            if not target or btf.type(target).name != "char":
                raise TermError(f"pointers to {btf.describe(record.ref)[0] or 'void'} are not supported.", column)
            pointer, room = True, _STRING_MAX + 1
        else:
            return None
        if mask is not None:
            raise TermError("mask is only supported for pointers and unsigned numeric members.", column)
        if op is None or str(op) not in ("==", "!="):
            raise TermError("wrong comparison operator. Only '==' and '!=' are supported for strings.", column)
        token = rhs.children[0]
        at = rhs.meta.column - 1
        if token.type != "STRING":
            raise TermError("invalid target value for array or ptr type. Only strings are supported.", at)
        value = str(token)[1:-1].encode()
        if len(value) > _STRING_MAX:
            raise TermError(f"invalid rval size (max {_STRING_MAX})", at)
        return self._compare_bytes(value, pointer, room, leaf.offset, str(op) == "!=")

    @staticmethod
    def _compare_bytes(value: bytes, pointer: bool, room: int, offset: int, differ: bool) -> list[str]:
        if len(value) > room:
            return [f"return {int(differ)};\t/* longer than the member */"]
        size = min(len(value) + 1, room)
        lines = [f"char text[{size}];", ""]
        if pointer:
            lines += [
                f"if (bpf_probe_read_kernel(&at, sizeof(at), (void *)at + {offset}))",
                "\treturn 0;",
                "if (bpf_probe_read_kernel(text, sizeof(text), (void *)at))",
                "\treturn 0;",
            ]
        else:
            lines += [f"if (bpf_probe_read_kernel(text, sizeof(text), (void *)at + {offset}))", "\treturn 0;"]
        expected = (value + b"\0")[:size]
        tests = " && ".join(f"text[{i}] == {byte}" for i, byte in enumerate(_signed(expected)))
        return [*lines, f"return {'!' if differ else ''}({tests});"]

    def _numeric(self, leaf: _Leaf, mask: int | None, op: Any, rhs: Any, column: int) -> list[str]:
        """C of a comparison with a number."""
        btf, record, member = leaf.btf, leaf.btf.type(leaf.type_id), leaf.member
        if record.kind == Kind.INT:
            signed = btf.is_signed(leaf.type_id)
        elif record.kind in (Kind.ENUM, Kind.ENUM64):
            # before enums had a sign flag (Linux commit 6089fb325cf7, in v6.0) only their values tell
            signed = record.kind_flag or any(value < 0 for value in btf.enum_values(leaf.type_id).values())
        else:
            raise TermError(f"found unsupported type while emitting operation ({record.name}).", column)
        if mask is not None and signed:
            raise TermError("mask is only supported for pointers and unsigned numeric members.", column)
        value = self._value(leaf, rhs, signed)
        start, bit = leaf.offset, member.offset % 8
        width = member.bits or record.ref * 8
        size = next((n for n in (1, 2, 4, 8) if bit + width <= n * 8), None)
        if size is None:
            raise TermError(f"found unsupported type while emitting operation ({record.name}).", column)
        lines = [
            f"u{size * 8} raw = 0;",
            "u64 value;" if not signed else "s64 value;",
            "",
            f"if (bpf_probe_read_kernel(&raw, sizeof(raw), (void *)at + {start}))",
            "\treturn 0;",
        ]
        if signed:
            lines.append(f"value = (s64)((u64)raw << {64 - bit - width}) >> {64 - width};")
        else:
            lines.append(f"value = (u64)raw << {64 - bit - width} >> {64 - width};")
        if mask is not None:
            lines.append(f"value &= {mask:#x}ULL;")
        literal = f"{value}LL" if signed else f"{value}ULL"
        return [*lines, f"return value {op or '!='} {literal};"]

    @staticmethod
    def _value(leaf: _Leaf, rhs: Any, signed: bool) -> int:
        if rhs is None:
            return 0
        token, column = rhs.children[0], rhs.meta.column - 1
        if token.type == "STRING":
            raise TermError("invalid target (s) value (cannot compare string with number)", column)
        if token.type == "NAME":
            names = leaf.btf.enum_values(leaf.type_id)
            if str(token) not in names:
                close = difflib.get_close_matches(str(token), list(names), n=1)
                hint = f"did you mean {close[0]}?" if close else "a string needs quotes"
                raise TermError(f"{token} is neither a number nor a value of the member's enum", column, hint)
            return names[str(token)]
        value = _number(token)
        if value < 0 and not signed:
            raise TermError("invalid target value (value is signed while type is unsigned)", column)
        limit = 1 << 63 if signed else 1 << 64
        if not -limit <= value < limit:
            raise TermError("invalid target value (wider than 64 bits)", column)
        return value


def _signed(data: bytes) -> Iterator[int]:
    """Bytes as C's char has them on this target: signed."""
    return (byte - 256 if byte > 127 else byte for byte in data)
