"""Packet filter: a pcap expression becomes C.

libpcap compiles the expression (pcap-filter(7)) twice, for Ethernet frames and for bare IP packets; the classic BPF
it answers with becomes one C function each, with forward gotos, reading through bpf/packet.h. The instruction set
is that of include/uapi/linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from retis_py.errors import FilterError

__all__ = ["DLT_EN10MB", "DLT_RAW", "Instruction", "PacketFilter", "compile_pcap", "packet_filter", "to_c"]

_log = logging.getLogger(__name__)

DLT_EN10MB, DLT_RAW = 1, 12  # pcap/dlt.h
_SNAPLEN = 0xFFFF
_NETMASK_UNKNOWN = 0xFFFFFFFF
#: constant offsets up to here are read with one copy; what lies beyond costs a helper call of its own
_BULK_MAX = 128


class Instruction(NamedTuple):
    """struct bpf_insn of classic BPF"""

    code: int
    jt: int
    jf: int
    k: int


class _Insn(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint), ("insns", ctypes.POINTER(_Insn))]


@cache
def _libpcap() -> ctypes.CDLL:
    name = ctypes.util.find_library("pcap") or "libpcap.so.0.8"
    try:
        lib = ctypes.CDLL(name)
    except OSError as error:
        raise FilterError(
            f"cannot load libpcap: {error}",
            hint="install your distribution's package (Debian/Ubuntu: libpcap0.8, Fedora: libpcap)",
        ) from None
    lib.pcap_open_dead.restype = ctypes.c_void_p
    lib.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    lib.pcap_compile.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    lib.pcap_geterr.restype = ctypes.c_char_p
    lib.pcap_geterr.argtypes = [ctypes.c_void_p]
    lib.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
    lib.pcap_close.argtypes = [ctypes.c_void_p]
    return lib


def compile_pcap(expression: str, linktype: int) -> list[Instruction]:
    """*expression* as classic BPF for frames of *linktype*; raises FilterError with libpcap's own words."""
    try:
        raw = expression.encode()
    except UnicodeEncodeError:  # what the shell handed over was not UTF-8
        shown = expression.encode(errors="replace").decode()
        raise FilterError("Could not compile the filter: not valid UTF-8", f"the expression was: {shown}") from None
    lib = _libpcap()
    handle = lib.pcap_open_dead(linktype, _SNAPLEN)
    program = _Program()
    try:
        if lib.pcap_compile(handle, ctypes.byref(program), raw, 1, _NETMASK_UNKNOWN):
            reason = (lib.pcap_geterr(handle) or b"").decode(errors="replace")
            raise FilterError(
                f"Could not compile the filter: libpcap error: {reason}",
                hint=f"the expression was: {expression} (see pcap-filter(7))",
            )
        out = [Instruction(i.code, i.jt, i.jf, i.k) for i in program.insns[: program.len]]
        lib.pcap_freecode(ctypes.byref(program))
        return out
    finally:
        lib.pcap_close(handle)


#: BPF_MAXINSNS, include/uapi/linux/bpf_common.h: the kernel's own limit for classic filters. Compiling them takes more
#: than linear time: a second for 1,000 instructions, 20 for 4,000.
_MAX_INSTRUCTIONS = 4096

_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_ALU = {0x00: "+", 0x10: "-", 0x20: "*", 0x40: "|", 0x50: "&", 0xA0: "^"}
_JUMPS = {0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&"}


def _constant_end(ins: Instruction) -> int:
    """First offset behind what *ins* loads at a constant place, 0 if it does not."""
    if ins.code & 0x07 == 0 and ins.code & 0xE0 == 0x20:
        return ins.k + _SIZES[ins.code & 0x18]
    if ins.code == 0xB1:
        return ins.k + 1
    return 0


def _load(target: str, ins: Instruction, size: int, bulk: int) -> list[str]:
    """C for a load of *size* bytes at constant offset k, or at X + k."""
    if ins.k >= 0xFFFFF000:
        raise FilterError(
            "this packet filter asks for packet metadata (direction, interface), which a hit does not have",
            hint="leave out inbound, outbound, ifindex and the like; meta filters (-m) can tell devices",
        )
    bits = 8 * size
    if ins.code & 0xE0 != 0x40 and ins.k + size <= bulk:
        return [f"if (pkt->linear < {ins.k + size}) return 0;", f"{target} = LOAD{bits}({ins.k});"]
    at = f"{ins.k}U" if ins.code & 0xE0 != 0x40 else f"X + {ins.k}U"
    overflow = [f"if (X + {ins.k}U < X) return 0;"] if ins.code & 0xE0 == 0x40 and ins.k else []
    swap = {1: "b1", 2: "ntohs(b2)", 4: "ntohl(b4)"}[size]
    return [*overflow, f"if (load_bytes(pkt, {at}, &b{size}, {size})) return 0;", f"{target} = {swap};"]


def _statement(number: int, ins: Instruction, bulk: int) -> list[str]:
    """C for one instruction."""
    code, k = ins.code, f"{ins.k}U"
    kind, mode = code & 0x07, code & 0xE0
    if kind == 0x00 and mode in (0x20, 0x40):
        return _load("A", ins, _SIZES[code & 0x18], bulk)
    if kind in (0x00, 0x01):
        register = "AX"[kind]
        if code == 0xB1:
            return [*_load("b1", ins, 1, bulk), "X = (b1 & 15) << 2;"]
        value = {0x00: k, 0x60: f"M[{ins.k}]", 0x80: "pkt->len"}.get(mode)
        if value is None:
            raise FilterError(f"unknown classic BPF instruction {code:#x}")
        return [f"{register} = {value};"]
    if kind in (0x02, 0x03):
        return [f"M[{ins.k}] = {'AX'[kind - 2]};"]
    if kind == 0x04:
        return _alu(code, "X" if code & 0x08 else k)
    if kind == 0x05:
        if code & 0xF0 == 0x00:
            return [f"goto l{number + 1 + ins.k};"]
        yes, no = number + 1 + ins.jt, number + 1 + ins.jf
        return [f"if (A {_JUMPS[code & 0xF0]} {'X' if code & 0x08 else k}) goto l{yes}; goto l{no};"]
    if kind == 0x06:
        return [f"return {'A' if code & 0x18 == 0x10 else k} != 0;"]
    return ["A = X;" if code & 0xF8 == 0x80 else "X = A;"]


def _alu(code: int, operand: str) -> list[str]:
    what = code & 0xF0
    if what in _ALU:
        return [f"A {_ALU[what]}= {operand};"]
    if what in (0x30, 0x90):  # a division by zero rejects the packet
        check = [] if operand != "X" else ["if (!X) return 0;"]
        return [*check, f"A {'/' if what == 0x30 else '%'}= {operand};"]
    if what in (0x60, 0x70):
        # shifting by 32 or more gives 0, as libpcap's own interpreter has it
        return [f"A = {operand} < 32 ? A {'<<' if what == 0x60 else '>>'} ({operand} & 31) : 0;"]
    return ["A = -A;"]


def to_c(name: str, program: Sequence[Instruction], bulk: int) -> str:
    """A C function *name* that is *program*; *bulk* bytes from the header on are at hand (PACKET_BYTES)."""
    targets: set[int] = set()
    for number, ins in enumerate(program):
        if ins.code & 0x07 == 0x05:
            jumps = [ins.k] if ins.code & 0xF0 == 0 else [ins.jt, ins.jf]
            targets.update(number + 1 + jump for jump in jumps)
    lines = []
    for number, ins in enumerate(program):
        if number in targets:
            lines.append(f"l{number}:")
        lines += [f"\t{line}" for line in _statement(number, ins, bulk)]
    body = "\n".join(lines)
    wanted = [f"u{8 * size} b{size} = 0;" for size in (1, 2, 4) if f"b{size}" in body]
    if "M[" in body:
        wanted.append("u32 M[16] = {};")
    return "\n".join(
        [
            f"static __always_inline int {name}(struct packet *pkt)",
            "{",
            "\tu32 A = 0, X = 0;",
            *(f"\t{line}" for line in wanted),
            "",
            body,
            "}",
        ]
    )


class PacketFilter(NamedTuple):
    """A packet filter ready to be compiled."""

    #: C functions packet_filter_l2() and packet_filter_l3()
    text: str
    #: PACKET_BYTES: how much of the header to copy at once
    bulk: int
    #: whether bare IP packets are looked at too
    l3: bool
    #: instructions of both, in libpcap's classic BPF
    size: int

    def message(self) -> str:
        """What upstream says when a filter is in place."""
        return f"{'L2+L3' if self.l3 else 'L2'} packet filter(s) loaded"


_REJECT = [Instruction(0x06, 0, 0, 0)]


def packet_filter(expression: str) -> PacketFilter:
    """Compile *expression*. Ethernet is mandatory; an expression that makes no sense for bare IP packets (``ether``,
    ``vlan``) rejects those instead."""
    l2 = compile_pcap(expression, DLT_EN10MB)
    l3 = None
    if "ether[" in expression.replace(" ", ""):
        _log.debug("Skipping L3 filter generation (ether[n:m] not allowed)")
    else:
        try:
            l3 = compile_pcap(expression, DLT_RAW)
        except FilterError as error:
            _log.debug("Skipping L3 filter generation (%s).", error)
    programs = [l2, l3 or _REJECT]
    size = sum(map(len, programs))
    if size > _MAX_INSTRUCTIONS:
        raise FilterError(
            f"the packet filter is too complex: {size} instructions, at most {_MAX_INSTRUCTIONS}",
            hint="match networks instead of single hosts, or fewer of them",
        )
    bulk = max((end for p in programs for i in p if (end := _constant_end(i)) <= _BULK_MAX), default=0)
    bulk = max(8, -(-bulk // 8) * 8)
    text = "\n\n".join(to_c(name, p, bulk) for name, p in zip(("packet_filter_l2", "packet_filter_l3"), programs))
    return PacketFilter(text + "\n", bulk, l3 is not None, size)
