"""Terms of a meta filter, resolved against BTF; see `retis_py.filters.meta` for what they mean."""

from __future__ import annotations

import contextlib
import difflib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from retis_py.errors import KernelError
from retis_py.filters.meta_code import TEXT_MAX, Code, Hop, Load, Number, Text
from retis_py.kernel.btf import Btf, Kind, Member
from retis_py.kernel.types import KernelTypes

__all__ = ["Compiler", "TermError"]

_U64 = (1 << 64) - 1
#: parentheses within parentheses: what was found outside them is kept in the bits of one register
_MAX_DEPTH = 64


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
    #: pointers to go through
    hops: tuple[Hop, ...]
    #: byte offset of the member in the structure they lead to
    offset: int


def _number(token: Any) -> int:
    """Value of a number, which is the same in the filter however many zeros it begins with."""
    text = str(token)
    digits, base = (text[2:], {"0x": 16, "0b": 2}[text[:2]]) if text[:2] in ("0x", "0b") else (text.lstrip("-"), 10)
    digits = digits.lstrip("0") or "0"
    # int() refuses thousands of digits in its own words
    value = int(digits, base) if len(digits) <= 64 else 1 << 64
    if value > _U64:
        raise TermError("invalid target value (wider than 64 bits)", token.column - 1)
    return -value if text.startswith("-") else value


def _names(btf: Btf, type_id: int) -> Iterator[str]:
    """Names of all members, those of anonymous structs included."""
    for member in btf.members(btf.strip(type_id)):
        if member.name:
            yield member.name
        elif btf.type(btf.strip(member.type_id)).kind in (Kind.STRUCT, Kind.UNION):
            yield from _names(btf, member.type_id)


def _is_struct(btf: Btf, type_id: int) -> bool:
    return btf.type(btf.strip(type_id)).kind in (Kind.STRUCT, Kind.UNION)


def _structs(types: KernelTypes) -> list[str]:
    """Names of all structs, unions and typedefs, for whoever mistyped one."""
    names, first = set(), 1
    for btf in types.everywhere():
        with contextlib.suppress(KernelError):  # behind the last one
            for type_id in itertools.count(first):
                record = btf.type(type_id)
                if record.kind in (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF) and record.name:
                    names.add(record.name)
        if btf is types.vmlinux:
            first = type_id
    return sorted(names)


def _plural(btf: Btf, type_id: int) -> str:
    kind = btf.type(btf.strip(type_id)).kind
    named = {Kind.ARRAY: "arrays", Kind.STRUCT: "structures", Kind.UNION: "unions", Kind.PTR: "pointers"}
    return named.get(kind) or btf.type(btf.strip(type_id)).name or "unnamed types"


def _mask(node: Any) -> int:
    """Value of a ``[~]number`` node."""
    value = _number(node.children[-1])
    value = ~value & _U64 if str(node.children[0]) == "~" else value
    if value == 0:
        raise TermError("mask must be greater than 0", node.meta.column - 1)
    return value


class Compiler:
    """Resolves terms against BTF, and has them printed as C (`code`)."""

    def __init__(self, types: KernelTypes) -> None:
        self.types = types
        self.code = Code()

    def expression(self, node: Any, depth: int = 0, outermost: bool = True) -> None:
        """An ``expr``: equal precedence, left to right. *outermost*: its result is that of the filter."""
        if depth > _MAX_DEPTH:
            raise TermError(f"parentheses are nested more than {_MAX_DEPTH} deep", node.meta.column - 1)
        first, *rest = node.children
        words = [str(word) in ("and", "&&") for word in rest[::2]]
        if first.data == "expr":
            self.expression(first, depth + 1, outermost and not rest)
        else:
            self.code.first(*self.term(first))
        for number, (both, operand) in enumerate(zip(words, rest[1::2])):
            if outermost and all(words[number:]):
                self.code.leave_unless_true()
            if operand.data == "expr":
                self.code.hold()
                self.expression(operand, depth + 1, False)
                self.code.join_held(both)
            else:
                self.code.join(both, *self.term(operand))

    def term(self, node: Any) -> tuple[Load, Number | Text]:
        """What a ``term`` reads, and how it compares it."""
        lhs, op, rhs = (*node.children, None, None)[:3]
        leaf, mask = self.walk(lhs.children)
        where = lhs.children[-1].meta.column - 1
        return self._string(leaf, mask, op, rhs, where) or self._numeric(leaf, mask, op, rhs, where)

    def walk(self, fields: list[Any]) -> tuple[_Leaf, int | None]:
        """Follow *fields* from struct sk_buff; returns the last one and its mask."""
        btf: Btf = self.types.vmlinux
        hops: tuple[Hop, ...] = ()
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
                return _Leaf(btf, btf.strip(member.type_id), member, hops, offset + member.offset // 8), mask
            target = btf.strip(member.type_id)
            if cast_node is not None:
                hops += (self._follow(btf, member, offset, mask, column),)
                (btf, type_id), offset = self._cast(cast_node), 0
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
                hops += (self._follow(btf, member, offset, mask, column),)
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
    def _follow(btf: Btf, member: Member, offset: int, mask: int | None, column: int) -> Hop:
        """Through a pointer, or a number as wide as one."""
        target = btf.strip(member.type_id)
        record = btf.type(target)
        wide = record.kind == Kind.PTR or (record.kind == Kind.INT and record.ref == 8 and not member.bits)
        if not wide:
            raise TermError("only pointers and integers as wide as one can be cast", column)
        return Hop(member.name, offset + member.offset // 8, mask)

    def _cast(self, node: Any) -> tuple[Btf, int]:
        """The structure a ``cast`` names."""
        name, column, hint = str(node.children[0]), node.meta.column - 1, ""
        for candidate in self.types.everywhere(name):
            for kind in (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF):
                found = candidate.find(name, kind)
                if not found:
                    continue
                stripped = candidate.strip(found)
                if candidate.type(stripped).kind == Kind.PTR:
                    raise TermError(f"cast type ({name}) cannot be an alias to a pointer", column)
                if _is_struct(candidate, stripped):
                    return candidate, stripped
                hint = f"{name} is neither a struct nor a union"
        if not hint:
            close = difflib.get_close_matches(name, _structs(self.types), n=1)
            hint = f"did you mean {close[0]}?" if close else ""
        raise TermError(f"Could not resolve {name} to a struct or typedef", column, hint)

    def _string(self, leaf: _Leaf, mask: int | None, op: Any, rhs: Any, column: int) -> tuple[Load, Text] | None:
        """A comparison with a string; None if the member is not one."""
        btf, record = leaf.btf, leaf.btf.type(leaf.type_id)
        if record.kind == Kind.ARRAY:
            element, room = btf.array(leaf.type_id)
            what = btf.type(btf.strip(element))
            if what.name != "char":
                raise TermError(f"array of {_plural(btf, element)} are not supported.", column)
            load = Load.array(leaf.hops, leaf.offset, room)
        elif record.kind == Kind.PTR:
            target = btf.strip(record.ref)
            if not target or btf.type(target).name != "char":
                raise TermError(f"pointers to {btf.describe(record.ref)[0] or 'void'} are not supported.", column)
            load = Load.array((*leaf.hops, Hop(leaf.member.name, leaf.offset, None)), 0, 0)
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
        if len(value) > TEXT_MAX:
            raise TermError(f"invalid rval size (max {TEXT_MAX})", at)
        room = load.size or TEXT_MAX + 1
        return load, Text(str(op), (value + b"\0")[:room], len(value) <= room)

    def _numeric(self, leaf: _Leaf, mask: int | None, op: Any, rhs: Any, column: int) -> tuple[Load, Number]:
        """A comparison with a number."""
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
        bit = member.offset % 8
        width = member.bits or record.ref * 8
        size = next((n for n in (1, 2, 4, 8) if bit + width <= n * 8), None)
        if size is None:
            raise TermError(f"found unsupported type while emitting operation ({record.name}).", column)
        number = Number(str(op or "!="), value, signed, bit, width, mask)
        return Load(leaf.hops, leaf.offset, size), number

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
        if value < -(1 << 63):
            raise TermError("invalid target value (wider than 64 bits)", column)
        return value
