"""What is changed in a program's compiled code before it is loaded: what BCC cannot say, or only a copy can have.

Instructions are those of struct bpf_insn, include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping

__all__ = ["CALL", "PROBE_ID", "VALUES", "mark_kernel_calls", "point_at_values", "registers", "set_probe_id"]

#: stands for the probe's index
PROBE_ID = 0x7E715C0D
#: stand for the address of an array's only element, by the name of the map
VALUES = {"settings": 0x7E715C01, "tracked": 0x7E715C02}

CALL = 0x85  # BPF_JMP | BPF_CALL
_MOVE, _LOAD_64 = 0xB7, 0x18  # BPF_ALU64 | BPF_MOV | BPF_K, BPF_LD | BPF_IMM | BPF_DW
_KERNEL_FUNCTION, _MAP_VALUE = 2, 2  # BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_VALUE
#: more than any helper's number: the kernel gets no more of them (Documentation/bpf/bpf_design_QA.rst)
HELPERS = 1000


def registers(destination: int, source: int = 0) -> int:
    """The byte that names both: bit fields, so the first is in the half that comes first."""
    return destination | source << 4 if sys.byteorder == "little" else destination << 4 | source


def set_probe_id(code: bytearray, probe: int) -> None:
    """Replace `PROBE_ID` in ``rX = PROBE_ID``."""
    for at in range(0, len(code), 8):
        if code[at] == _MOVE and struct.unpack_from("=I", code, at + 4)[0] == PROBE_ID:
            struct.pack_into("=I", code, at + 4, probe)


def mark_kernel_calls(code: bytearray) -> None:
    """Make calls of helpers that do not exist calls of the kernel's own functions, whose BTF id the number is."""
    for at in range(0, len(code), 8):
        opcode, named, _, number = struct.unpack_from("=BBhi", code, at)
        if opcode == CALL and named == 0 and number >= HELPERS:
            code[at + 1] = registers(0, _KERNEL_FUNCTION)


def point_at_values(code: bytearray, maps: Mapping[int, int]) -> None:
    """Replace each of `VALUES` in ``rX = ... ll`` by the address of the element of the map whose file descriptor *maps*
    has for it: no lookup. Linux commit d8eca5bbb2be ("bpf: implement lookup-free direct value access for maps") (in
    v5.2)."""
    for at in range(0, len(code), 8):
        opcode, named, _, number = struct.unpack_from("=BBhI", code, at)
        if opcode == _LOAD_64 and number in maps:
            code[at + 1] = named | registers(0, _MAP_VALUE)
            struct.pack_into("=I", code, at + 4, maps[number])
