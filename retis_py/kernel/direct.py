"""Reading kernel memory without a helper, where the kernel lets programs do so: see read_number() of bpf/core.h.

BCC knows nothing of calls of the kernel's own functions. In the C text such a call looks like one of a helper whose
number is the function's BTF id; before a program is loaded, it is marked as what it is (`retis_py.kernel.code`).
"""

from __future__ import annotations

import logging
import os
import struct

from retis_py.kernel import bpf
from retis_py.kernel.btf import Btf, Kind
from retis_py.kernel.code import CALL, HELPERS, mark_kernel_calls, registers

__all__ = ["direct_reads", "try_direct_reads"]

_log = logging.getLogger(__name__)

#: a structure of every kernel that begins with a number of 64 bits: include/linux/time64.h
_TYPE = "timespec64"
_NONE = {"DIRECT_READS": 0, "RDONLY_CAST": 0, "DIRECT_TYPE": 0}


def direct_reads(vmlinux: Btf) -> dict[str, int]:
    """Macros for bpf/core.h."""
    try:
        return try_direct_reads(vmlinux)
    except OSError as error:
        _log.debug("kernel memory is read through helpers, as the kernel refuses to do it directly: %s", error)
        return _NONE


def try_direct_reads(vmlinux: Btf) -> dict[str, int]:
    """The same; OSError where the kernel refuses. It is asked by loading a program that reads so: bpf_rdonly_cast()
    alone says nothing of the JIT compiler, which must be in use and able to do it."""
    cast, kind = vmlinux.find("bpf_rdonly_cast", Kind.FUNC), vmlinux.find(_TYPE, Kind.STRUCT)
    if not cast or not kind or cast < HELPERS:
        return _NONE
    code = bytearray(
        b"".join(
            struct.pack("=BBhi", *instruction)
            for instruction in (
                (0xB7, registers(1), 0, 0),  # r1 = 0
                (0xB7, registers(2), 0, kind),  # r2 = kind
                (CALL, 0, 0, cast),
                (0x79, 0, 0, 0),  # r0 = *(u64 *)(r0 + 0)
                (0xB7, 0, 0, 0),  # r0 = 0
                (0x95, 0, 0, 0),  # exit
            )
        )
    )
    mark_kernel_calls(code)
    os.close(bpf.load_program(bpf.RAW_TRACEPOINT, "direct_read", bytes(code)))
    return {"DIRECT_READS": 1, "RDONLY_CAST": cast, "DIRECT_TYPE": kind}
