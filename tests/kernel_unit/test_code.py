"""What is changed in compiled code before it is loaded. The bytes are struct bpf_insn of a little-endian machine."""

from __future__ import annotations

import sys

import pytest

from retis_py.kernel import code as subject

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="bytes of a little-endian machine")

HELPER = "8500000071000000"  # call bpf_probe_read_kernel
#: BPF to BPF, as clang marks it (BPF_PSEUDO_CALL): the number is a distance
WITHIN = "8510000000200000"
EXIT = "9500000000000000"


def code(*instructions: str) -> bytearray:
    return bytearray.fromhex("".join(instructions))


def test_calls_of_kernel_functions_are_marked_and_no_others() -> None:
    changed = code(HELPER, "85000000b2ff0000", WITHIN, EXIT)
    subject.mark_kernel_calls(changed)
    # src_reg BPF_PSEUDO_KFUNC_CALL (2)
    assert changed == code(HELPER, "85200000b2ff0000", WITHIN, EXIT)


def test_probe_index_takes_the_place_of_its_mark() -> None:
    # r3 = mark; r4 = mark of 32 bits (no BPF_ALU64) is something else
    changed = code("b70300000d5c717e", "b40400000d5c717e", EXIT)
    subject.set_probe_id(changed, 258)
    assert changed == code("b703000002010000", "b40400000d5c717e", EXIT)


def test_mark_of_a_value_becomes_the_address_in_its_map() -> None:
    # r8 = mark ll; r1 = map 5 (BPF_PSEUDO_MAP_FD)
    other = ("1811000005000000", "0000000000000000")
    changed = code("18080000015c717e", "0000000000000000", *other, EXIT)
    subject.point_at_values(changed, {0x7E715C01: 7})
    # src_reg BPF_PSEUDO_MAP_VALUE (2), the map's descriptor, offset 0
    assert changed == code("1828000007000000", "0000000000000000", *other, EXIT)
