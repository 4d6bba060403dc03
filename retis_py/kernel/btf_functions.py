"""All functions of a BTF file at once.

libbpf finds a function by walking all types from the first one on, in a module's file after all of vmlinux's: right for
one, but ``-p 'kprobe:*'`` asks for sixty thousand. One pass over the file learns where each is and what it takes. The
layout is ``struct btf_header`` and ``struct btf_type`` of include/uapi/linux/btf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path

from retis_py.kernel.btf_names import MAGIC

__all__ = ["Functions"]

_FUNC, _FUNC_PROTO = 12, 13
#: bytes behind a record, by kind: once (INT, ARRAY, VAR, DECL_TAG), and per entry (STRUCT, UNION, ENUM, FUNC_PROTO,
#: DATASEC, ENUM64)
_ONCE = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}

_record = struct.Struct("=III").unpack_from


class Functions:
    """The functions of the file at *path*, which for a module continues *base*."""

    def __init__(self, path: Path, base: Functions | None = None) -> None:
        self._raw = raw = path.read_bytes()
        self._base = base
        magic, _, _, head, type_off, type_len, str_off, str_len = struct.unpack_from("=HBBIIIII", raw)
        #: an object file is not understood: nothing is known of it
        self.understood = magic == MAGIC
        self._strings = raw[head + str_off : head + str_off + str_len]
        # strings and types of a module are numbered from where vmlinux's end
        self._strings_from: int = base._strings_from + len(base._strings) if base else 0
        self._next_id: int = base._next_id if base else 1
        #: name -> id of the type
        self.ids: dict[str, int] = {}
        #: id of a function -> id of its prototype
        self._prototypes: dict[int, int] = {}
        #: id of a prototype -> where its parameters are, and how many
        self._parameters: dict[int, tuple[int, int]] = {}
        if self.understood:
            self._walk(head + type_off, head + type_off + type_len)

    def _walk(self, at: int, end: int) -> None:
        raw, type_id = self._raw, self._next_id
        once = [_ONCE.get(kind, 0) + 12 for kind in range(32)]
        each = [_EACH.get(kind, 0) for kind in range(32)]
        found = []
        while at < end:
            name, info, ref = _record(raw, at)
            kind = info >> 24 & 0x1F
            if kind == _FUNC:
                found.append((name, type_id))
                self._prototypes[type_id] = ref
            elif kind == _FUNC_PROTO:
                self._parameters[type_id] = at + 12, info & 0xFFFF
            at += once[kind] + each[kind] * (info & 0xFFFF)
            type_id += 1
        self._next_id = type_id
        for name, function in found:
            self.ids.setdefault(self._text(name), function)

    def _text(self, offset: int) -> str:
        if offset < self._strings_from and self._base:
            return self._base._text(offset)
        at = offset - self._strings_from
        return self._strings[at : self._strings.index(b"\0", at)].decode(errors="replace")

    @cached_property
    def _types(self) -> dict[int, tuple[int, ...]]:
        """Types of the parameters of each prototype."""
        raw = self._raw
        return {
            prototype: struct.unpack_from(f"={2 * count}I", raw, at)[1::2]
            for prototype, (at, count) in self._parameters.items()
        }

    def taking(self, types: Collection[str], describe: Callable[[int], str]) -> set[str]:
        """Functions that have a parameter of one of *types*, as *describe* calls them."""
        known: dict[int, bool] = {}
        prototypes: dict[int, bool] = {}
        out = set()
        for name, function in self.ids.items():
            prototype = self._prototypes[function]
            if prototype not in prototypes:
                owner = self if prototype in self._types or not self._base else self._base
                wanted = False
                for type_id in owner._types.get(prototype, ()):
                    if type_id not in known:
                        known[type_id] = describe(type_id) in types
                    wanted = wanted or known[type_id]
                prototypes[prototype] = wanted
            if prototypes[prototype]:
                out.add(name)
        return out
