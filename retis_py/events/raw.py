"""Raw layouts: structures shared with the BPF side, typed once here and printed for C by ``make gen``.

A layout is a `ctypes.Structure` with natural alignment whose size is a multiple of eight, padding spelt out:
clang then stores whole words (a packed structure costs a store per byte), and sections can follow one another in
the event without gaps.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, ClassVar

__all__ = ["Raw", "char", "pad", "s32", "s64", "u8", "u16", "u32", "u64"]

u8, u16, u32, u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
s32, s64 = ctypes.c_int32, ctypes.c_int64
#: ``char * n``: text that ends at the first NUL; bytes of packets are ``u8 * n``
char = ctypes.c_char
#: padding, as ``pad * n``: not a value
pad: Any = type("pad", (ctypes.c_byte,), {})

_C_NAMES = {u8: "u8", u16: "u16", u32: "u32", u64: "u64", s32: "s32", s64: "s64", char: "char", pad: "u8"}
_CODES = {u8: "B", u16: "H", u32: "I", u64: "Q", s32: "i", s64: "q"}


class Raw(ctypes.Structure):
    """Base of raw layouts. `tail` says that a run of bytes, counted by the field so named, ends the event."""

    tail: ClassVar[str | None] = None
    _fields_: ClassVar[Any] = []

    @classmethod
    def code(cls) -> str:
        """The `struct` code of this layout, without byte order; arrays of numbers give one value per element."""
        out, offset = [], 0
        for name, kind in ((field[0], field[1]) for field in cls._fields_):
            where = getattr(cls, name).offset
            if where != offset:
                raise TypeError(f"{cls.__name__}.{name}: {where - offset} bytes of hidden padding before it")
            element, count = (kind._type_, kind._length_) if hasattr(kind, "_length_") else (kind, 1)
            if element is pad:
                out.append(f"{count}x")
            elif element is char or (element is u8 and count > 1):
                out.append(f"{count}s")
            else:
                out.append(_CODES[element] * count)
            offset = where + ctypes.sizeof(kind)
        if offset != ctypes.sizeof(cls) or offset % 8:
            raise TypeError(f"{cls.__name__}: its size must be a multiple of 8 without hidden padding")
        return "".join(out)

    @classmethod
    def values(cls) -> int:
        """How many values `code` unpacks to."""
        return len(struct.unpack("=" + cls.code(), bytes(ctypes.sizeof(cls))))

    @classmethod
    def c_name(cls) -> str:
        """``DevRaw`` is ``struct dev_raw`` in C."""
        name = cls.__name__
        return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))

    @classmethod
    def c_text(cls) -> str:
        """The C definition, with an assertion of its size."""
        lines = [f"struct {cls.c_name()} {{"]
        for name, kind in ((field[0], field[1]) for field in cls._fields_):
            array = hasattr(kind, "_length_")
            element = kind._type_ if array else kind
            lines.append(f"\t{_C_NAMES[element]} {name}{f'[{kind._length_}]' if array else ''};")
        lines.append("};")
        lines.append(f'_Static_assert(sizeof(struct {cls.c_name()}) == {ctypes.sizeof(cls)}, "{cls.c_name()}");')
        return "\n".join(lines)
