"""bpf(2), as far as BCC's Python does not go: loading a program with our own log buffer and attach type, and
attaching one program to many functions at once (kprobe-multi).

Structures are those of ``union bpf_attr`` in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence

from retis_py.kernel.libbpf import libc

__all__ = [
    "KPROBE",
    "KPROBE_MULTI",
    "RAW_TRACEPOINT",
    "BpfError",
    "link_kprobe_multi",
    "link_misses",
    "link_perf_event",
    "load_program",
    "recursion_misses",
]

KPROBE, RAW_TRACEPOINT = 2, 17  # BPF_PROG_TYPE_*
PERF_EVENT, KPROBE_MULTI = 41, 42  # BPF_PERF_EVENT, BPF_TRACE_KPROBE_MULTI
_PROG_LOAD, _OBJ_GET_INFO, _LINK_CREATE = 5, 15, 28  # enum bpf_cmd
#: struct bpf_prog_info up to recursion_misses and a little further, and the place of that
_INFO_SIZE, _RECURSION_MISSES = 224, 208
#: struct bpf_link_info: its type, for perf events theirs, and where the number of misses is
_LINK_INFO_SIZE = 64
_MULTI, _MULTI_MISSED = 8, 32  # BPF_LINK_TYPE_KPROBE_MULTI
_EVENT, _EVENT_KPROBES, _EVENT_MISSED = 7, (3, 4), 48  # BPF_LINK_TYPE_PERF_EVENT, BPF_PERF_EVENT_KPROBE, _KRETPROBE
#: __NR_bpf, by machine
_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_LOG_SIZE = 1 << 20


class BpfError(OSError):
    """bpf(2) failed; *log* is what the verifier said."""

    def __init__(self, number: int, log: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


class _ProgLoad(ctypes.Structure):
    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_name", ctypes.c_char * 16),
        ("prog_ifindex", ctypes.c_uint32),
        ("expected_attach_type", ctypes.c_uint32),
    ]


class _ObjGetInfo(ctypes.Structure):
    _fields_ = [("bpf_fd", ctypes.c_uint32), ("info_len", ctypes.c_uint32), ("info", ctypes.c_uint64)]


class _LinkCreate(ctypes.Structure):
    _fields_ = [
        ("prog_fd", ctypes.c_uint32),
        ("target_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("link_flags", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cnt", ctypes.c_uint32),
        ("syms", ctypes.c_uint64),
        ("addrs", ctypes.c_uint64),
        ("cookies", ctypes.c_uint64),
    ]


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    syscall = libc().syscall
    syscall.restype = ctypes.c_long
    number = _SYSCALLS[platform.machine()]
    result = syscall(number, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        raise BpfError(ctypes.get_errno())
    return int(result)


def load_program(kind: int, name: str, code: bytes, attach_type: int = 0) -> int:
    """Load *code* as a program of type *kind*; returns its file descriptor. Raises BpfError with the verifier's log."""
    text = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"GPL")
    attributes = _ProgLoad(
        prog_type=kind,
        insn_cnt=len(code) // 8,
        insns=ctypes.addressof(text),
        license=ctypes.addressof(license_text),
        prog_name=name.encode()[:15],
        expected_attach_type=attach_type,
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except BpfError as error:
        # a second time, for the log: asking for it always would slow every load down
        log = ctypes.create_string_buffer(_LOG_SIZE)
        attributes.log_level, attributes.log_size, attributes.log_buf = 1, _LOG_SIZE, ctypes.addressof(log)
        try:
            return _bpf(_PROG_LOAD, attributes)
        except BpfError:
            raise BpfError(error.errno or 0, log.value.decode(errors="replace")) from None


def recursion_misses(program: int) -> int:
    """How often the kernel did not run *program* as it, or one like it, was running on the CPU already; 0 on kernels
    that do not count (Linux commit 9ed9e9ba2337 ("bpf: Count the number of times recursion was prevented") (in v5.12),
    others for kprobes later)."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    try:
        _bpf(_OBJ_GET_INFO, _ObjGetInfo(program, _INFO_SIZE, ctypes.addressof(info)))
    except BpfError:
        return 0
    return int(struct.unpack_from("=Q", info, _RECURSION_MISSES)[0])


def link_misses(link: int) -> int:
    """How many hits the kernel did not hand to the program of *link*, one of kprobes: because another kprobe was being
    handled on the CPU, or, of a return, because it remembers only so many calls at once. 0 on kernels that do not
    count, and of other links. Linux commits 3acf8ace6823 ("bpf: Add missed value to kprobe perf link info") and
    e2b2cd592adf ("bpf: Add missed value to kprobe_multi link info") (both in v6.7)."""
    info = ctypes.create_string_buffer(_LINK_INFO_SIZE)
    try:
        _bpf(_OBJ_GET_INFO, _ObjGetInfo(link, _LINK_INFO_SIZE, ctypes.addressof(info)))
    except BpfError:
        return 0
    kind, event = struct.unpack_from("=I12xI", info)
    if kind == _MULTI:
        return int(struct.unpack_from("=Q", info, _MULTI_MISSED)[0])
    if kind == _EVENT and event in _EVENT_KPROBES:
        return int(struct.unpack_from("=Q", info, _EVENT_MISSED)[0])
    return 0


def link_perf_event(program: int, event: int) -> int:
    """Attach *program* to perf *event*; returns the link's file descriptor, which keeps the event. Linux commit
    b89fbfbb854c ("bpf: Implement minimal BPF perf link") (in v5.15)."""
    return _bpf(_LINK_CREATE, _LinkCreate(prog_fd=program, target_fd=event, attach_type=PERF_EVENT))


def link_kprobe_multi(program: int, addresses: Sequence[int]) -> int:
    """Attach *program* to the functions at *addresses*, all or none; returns the link's file descriptor."""
    array = (ctypes.c_uint64 * len(addresses))(*addresses)
    return _bpf(
        _LINK_CREATE,
        _LinkCreate(
            prog_fd=program,
            attach_type=KPROBE_MULTI,
            cnt=len(addresses),
            addrs=ctypes.addressof(array),
        ),
    )
