"""The part of libbpf that reads BTF and prints it as C, by ctypes.

libbpf.so.1 is always there where bcc is: bcc depends on it. Nothing in this module loads anything into the kernel.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import CFUNCTYPE, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache

from retis_py.errors import KernelError

__all__ = ["DUMP_PRINTF", "VLogger", "libc", "library"]

#: ``void (*)(void *ctx, const char *fmt, va_list args)``; a va_list argument is a pointer on x86-64 and aarch64
DUMP_PRINTF = CFUNCTYPE(None, c_void_p, c_char_p, c_void_p)
VLogger = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_PROTOTYPES = {
    "btf__parse": (c_void_p, [c_char_p, c_void_p]),
    "btf__parse_split": (c_void_p, [c_char_p, c_void_p]),
    "btf__free": (None, [c_void_p]),
    "btf__type_cnt": (c_uint32, [c_void_p]),
    "btf__find_by_name_kind": (c_int, [c_void_p, c_char_p, c_uint32]),
    "btf__type_by_id": (c_void_p, [c_void_p, c_uint32]),
    "btf__name_by_offset": (c_char_p, [c_void_p, c_uint32]),
    "btf__resolve_size": (ctypes.c_int64, [c_void_p, c_uint32]),
    "btf_dump__new": (c_void_p, [c_void_p, DUMP_PRINTF, c_void_p, c_void_p]),
    "btf_dump__dump_type": (c_int, [c_void_p, c_uint32]),
    "btf_dump__free": (None, [c_void_p]),
    "libbpf_set_print": (c_void_p, [VLogger]),
}


@VLogger
def _quiet(_level: int, _format: bytes, _args: int) -> int:
    return 0


@cache
def library() -> ctypes.CDLL:
    """libbpf, with prototypes set and its own messages off."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise KernelError(
            f"cannot load libbpf.so.1: {error}",
            hint="install your distribution's package (Debian/Ubuntu: libbpf1, Fedora: libbpf)",
        ) from None
    for name, (restype, argtypes) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    lib.libbpf_set_print(_quiet)
    return lib


@cache
def libc() -> ctypes.CDLL:
    """The C library: ``vsnprintf`` formats what btf_dump hands to its callback."""
    lib = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    lib.vsnprintf.restype = c_int
    lib.vsnprintf.argtypes = [c_char_p, c_size_t, c_char_p, c_void_p]
    return lib
