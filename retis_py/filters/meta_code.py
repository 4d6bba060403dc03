"""C of a meta filter: terms that were resolved, printed as one function without branches.

The verifier follows every way through a program. A branch per term, or per byte of a name, doubles what it has to look
at, up to its limit; so every term becomes 0 or 1 in a register, by arithmetic, and ``&`` and ``|`` join them. Clang
has no such instructions for BPF as to set a register by a condition, and would bring the branches back: what it could
recognise as a comparison is hidden from it (OPAQUE of bpf/core.h).

Nothing is left out after a failed read, for the same reason: the helper clears what it cannot fill, the next pointer
is then near 0, where the kernel's address check refuses to read, and the failure is remembered.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

__all__ = ["TEXT_MAX", "Code", "Hop", "Load", "Number", "Text", "words"]

#: characters of a string, as upstream has it
TEXT_MAX = 31
#: what is read of a string of unknown length: one more character than can be asked for, and the NUL
_TEXT_ROOM = TEXT_MAX + 2
_SIGN = 1 << 63

_HELPERS = """\
static __always_inline u64 meta_nonzero(u64 value)
{
	u64 negative = -value;

	OPAQUE(negative);
	return (value | negative) >> 63;
}

/* a < b: the borrow of their difference */
static __always_inline u64 meta_below(u64 a, u64 b)
{
	u64 difference = a - b;

	OPAQUE(difference);
	return ((~a & b) | ((~a | b) & difference)) >> 63;
}
"""


class Hop(NamedTuple):
    """A pointer on the way: where it is from the structure before it, and which of its bits count."""

    name: str
    offset: int
    mask: int | None


class Load(NamedTuple):
    """A read of kernel memory: through the *hops*, then *size* bytes at *offset*."""

    hops: tuple[Hop, ...]
    offset: int
    size: int
    #: a string: into the buffer for text, not the variable for numbers
    text: bool = False

    @classmethod
    def array(cls, hops: tuple[Hop, ...], offset: int, room: int) -> Load:
        """Of a char array of *room* bytes; 0 is a flexible one, which ends where its NUL is, as does a ``char *``."""
        return cls(hops, offset, min(room, TEXT_MAX + 1), True)


class Number(NamedTuple):
    """Comparison of a number: *width* bits from bit *bit* on."""

    operator: str
    value: int
    signed: bool
    bit: int
    width: int
    mask: int | None


class Text(NamedTuple):
    """Comparison of a string: *value* has its NUL, unless it fills the array."""

    operator: str
    value: bytes
    #: else it is longer than the member, and never equal
    fits: bool


def words(value: bytes, order: str = sys.byteorder) -> list[tuple[int, int]]:
    """*value* as 64-bit words of memory, each with the mask of the bits that are its."""
    out = []
    for at in range(0, len(value), 8):
        part = value[at : at + 8]
        mask = b"\xff" * len(part)
        pair = [int.from_bytes(data.ljust(8, b"\0"), "little" if order == "little" else "big") for data in (part, mask)]
        out.append((pair[0], pair[1]))
    return out


class Code:
    """The function meta_matches(), statement by statement. `result` is what the terms so far say; what was read last
    stays at hand, as filters ask one member for many values, or one structure for several members."""

    def __init__(self) -> None:
        self.terms = 0
        self._lines: list[str] = []
        self._hops: tuple[Hop, ...] = ()
        self._load: Load | None = None
        self._sizes: set[int] = set()
        #: bytes of the longest string
        self._room = 0

    def first(self, load: Load, test: Number | Text) -> None:
        """The result is that of this term."""
        self._lines.append(f"result = {self._term(load, test)};")

    def join(self, both: bool, load: Load, test: Number | Text) -> None:
        """The result and (*both*) or or this term."""
        self._lines.append(f"result {'&' if both else '|'}= {self._term(load, test)};")

    def leave_unless_true(self) -> None:
        """Nothing that follows can make the filter match if the result is 0."""
        self._lines += ["if (!result)", "\treturn 0;"]

    def hold(self) -> None:
        """Put the result aside, as one bit, while an expression in parentheses is evaluated."""
        self._lines += ["held = held << 1 | result;", "OPAQUE(held);"]

    def join_held(self, both: bool) -> None:
        """The result and (*both*) or or what was put aside last."""
        self._lines += ["result &= held;" if both else "result |= held & 1;", "held >>= 1;"]

    def text(self) -> str:
        """All of it."""
        names = {1: "u8 raw8", 2: "u16 raw16", 4: "u32 raw32", 8: "u64 raw64"}
        declared = [f"{names[size]} = 0;" for size in sorted(self._sizes) if size]
        if 0 in self._sizes:
            declared.append(f"u64 text[{-(-self._room // 8)}] = {{}};")
        body = [*declared, "", *self._lines, "return result;"]
        return "\n".join(
            [
                _HELPERS,
                "static __always_inline int meta_matches(struct sk_buff *skb)",
                "{",
                "\tu64 at = (u64)skb, lost = 0, readable = 0, held = 0, result = 0;",
                *(f"\t{line}".rstrip() for line in body),
                "}",
                "",
            ]
        )

    def _term(self, load: Load, test: Number | Text) -> str:
        """C that is 1 if the member can be read and is as it should be, else 0."""
        self.terms += 1
        self._read(load)
        holds = _number(load.size, test) if isinstance(test, Number) else _text(test)
        return f"readable & {holds}"

    def _read(self, load: Load) -> None:
        if load == self._load:
            return
        done = len(self._hops)
        if load.hops[:done] != self._hops:
            self._lines += ["at = (u64)skb;", "lost = 0;"]
            done = 0
        for hop in load.hops[done:]:
            # a direct read that fails says nothing, but gives 0: the last read, a helper's, then fails
            self._lines.append(f"lost |= read_number(&at, sizeof(at), (void *)at + {hop.offset});\t/* {hop.name} */")
            if hop.mask is not None:
                self._lines.append(f"at &= {hop.mask:#x}ULL;")
        source = f"(void *)at + {load.offset}"
        if load.text:
            self._room = max(self._room, load.size or _TEXT_ROOM)
        if load.text and not load.size:
            # answers with the length; below 0 is a failure
            read = f"((s64)bpf_probe_read_kernel_str(text, {_TEXT_ROOM}, {source}) >> 63)"
        elif load.text:
            read = f"(s64)bpf_probe_read_kernel(text, {load.size}, {source})"
        else:
            # members of the sk_buff itself can be read
            helper = "(s64)bpf_probe_read_kernel" if load.hops else "read_number"
            read = f"{helper}(&raw{8 * load.size}, {load.size}, {source})"
        self._lines.append(f"readable = 1 ^ meta_nonzero(lost | {read});")
        self._sizes.add(0 if load.text else load.size)
        self._hops, self._load = load.hops, load


def _text(test: Text) -> str:
    differ = test.operator == "!="
    if not test.fits:
        return str(int(differ))
    parts = []
    for number, (word, mask) in enumerate(words(test.value)):
        part = f"text[{number}] ^ {word:#x}ULL"
        parts.append(f"({part})" if mask == (1 << 64) - 1 else f"(({part}) & {mask:#x}ULL)")
    return f"{'' if differ else '(1 ^ '}meta_nonzero({' | '.join(parts)}){'' if differ else ')'}"


def _number(size: int, test: Number) -> str:
    """Signed numbers are compared as unsigned ones, both with their sign turned over: that keeps the order."""
    # BTF counts the bits of a bitfield from the end of the number that the machine's byte order puts first
    up = 64 - test.bit - test.width if sys.byteorder == "little" else 64 - 8 * size + test.bit
    down = 64 - test.width
    value = f"(u64)raw{8 * size} << {up}"
    value = f"((u64)((s64)({value}) >> {down}) ^ {_SIGN:#x}ULL)" if test.signed else f"({value} >> {down})"
    if test.mask is not None:
        value = f"({value} & {test.mask:#x}ULL)"
    due, operator = test.value, test.operator
    if test.signed and due >= _SIGN:  # more than any signed number
        return str(int(operator in ("!=", "<", "<=")))
    constant = f"{due ^ _SIGN if due >= 0 else due + _SIGN:#x}ULL" if test.signed else f"{due:#x}ULL"
    return {
        "==": f"(1 ^ meta_nonzero({value} ^ {constant}))",
        "!=": f"meta_nonzero({value} ^ {constant})",
        "<": f"meta_below({value}, {constant})",
        ">": f"meta_below({constant}, {value})",
        "<=": f"(1 ^ meta_below({constant}, {value}))",
        ">=": f"(1 ^ meta_below({value}, {constant}))",
    }[operator]
