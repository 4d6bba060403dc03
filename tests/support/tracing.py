"""What the running kernel lets us trace, found out without the code under test.

``python -m tests.support.tracing`` says it in words; exit status 1 means nothing can be traced.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from pathlib import Path

__all__ = ["has_kprobes", "refuse_unless", "why_no_kprobes", "why_no_tracepoints"]

VARIABLE = "RETIS_PY_KERNEL_TESTS"
#: include/uapi/linux/bpf.h: enum bpf_cmd, enum bpf_prog_type
BPF_PROG_LOAD, BPF_RAW_TRACEPOINT_OPEN, BPF_PROG_TYPE_RAW_TRACEPOINT = 5, 17, 17
#: r0 = 0; exit
RETURN_ZERO = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
SYS_BPF = {"x86_64": 321, "aarch64": 280}


def why_no_tracepoints() -> str | None:
    """Why this kernel cannot even trace through raw tracepoints, or None if it can."""
    if os.geteuid() != 0:
        return "not root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "kernel without BTF"
    libc = ctypes.CDLL(None, use_errno=True)
    machine = os.uname().machine
    if machine not in SYS_BPF:
        return f"number of the bpf system call unknown on {machine}"

    def bpf(command: int, *fields: tuple[str, int]) -> int:
        attributes = struct.pack("<" + "".join(f for f, _ in fields), *(value for _, value in fields))
        attributes = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
        fd = libc.syscall(SYS_BPF[machine], command, attributes, 128)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "bpf")
        return int(fd)

    code, licence = ctypes.create_string_buffer(RETURN_ZERO, 16), ctypes.create_string_buffer(b"GPL")
    name = ctypes.create_string_buffer(b"netif_receive_skb")
    with contextlib.ExitStack() as stack:
        try:
            program = bpf(
                BPF_PROG_LOAD,
                ("I", BPF_PROG_TYPE_RAW_TRACEPOINT),
                ("I", 2),
                ("Q", ctypes.addressof(code)),
                ("Q", ctypes.addressof(licence)),
            )
            stack.callback(os.close, program)
            link = bpf(BPF_RAW_TRACEPOINT_OPEN, ("Q", ctypes.addressof(name)), ("I", program))
            stack.callback(os.close, link)
        except OSError as error:
            return f"bpf(2) refuses a raw tracepoint: {os.strerror(error.errno or 0)}"
    return None


def has_kprobes() -> bool:
    return Path("/sys/bus/event_source/devices/kprobe").exists()


def why_no_kprobes() -> str | None:
    """Why this kernel cannot be traced in full, or None if it can."""
    return why_no_tracepoints() or (
        None if has_kprobes() else "kernel without kprobes (make test-kernels uses a VM)"
    )


def refuse_unless(reason: str | None) -> None:
    """Given a *reason* not to run: skip, or fail where ``RETIS_PY_KERNEL_TESTS=1`` says tests must run."""
    import pytest  # here, because the demo asks this module what can be traced before pytest is installed

    wish = os.environ.get(VARIABLE, "")
    if wish == "0":
        pytest.skip(f"{VARIABLE}=0")
    if reason and wish == "1":
        pytest.fail(f"{VARIABLE}=1, but: {reason}")
    if reason:
        pytest.skip(reason)


def main() -> None:
    """A user who is not root may be told what root could do: the demo asks for sudo afterwards."""
    reason = why_no_tracepoints()
    if reason == "not root" and Path("/sys/kernel/btf/vmlinux").exists():
        reason = None
    if reason:
        print(reason)
        sys.exit(1)
    print("in full" if has_kprobes() else "in reduced mode, with tracepoints only, since it has no kprobes")


if __name__ == "__main__":
    main()
