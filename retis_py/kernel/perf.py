"""perf: the perf buffers, one per CPU, read in pieces of what is there when one looks; and kprobes as perf events.

BCC's reader goes on as long as there is something new, so that under a flood it never came back: no signal was looked
at, nothing written, and memory grew. It also calls a function for each event, which costs more than all of this.

The layout is that of struct perf_event_attr, struct perf_event_mmap_page and PERF_RECORD_* in
include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path

from retis_py.errors import KernelError
from retis_py.kernel import bpf
from retis_py.kernel.cpus import online_cpus
from retis_py.kernel.libbpf import libc

__all__ = ["PerfBuffer", "PerfBuffers", "attach_kprobe", "split"]

_SOFTWARE, _BPF_OUTPUT = 1, 10  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT
_SAMPLE_RAW = 1 << 10  # PERF_SAMPLE_RAW
_FLAG_FD_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC
_ENABLE, _SET_BPF = 0x2400, 0x40042408  # PERF_EVENT_IOC_*
_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
_SAMPLE = 9  # PERF_RECORD_SAMPLE
#: offsets in the first page
_DATA_HEAD, _DATA_TAIL = 1024, 1032
#: __NR_perf_event_open, by machine
_SYSCALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}

_position = struct.Struct("=Q")
#: type, misc and size of a record, and the size of the data of a sample
_record = struct.Struct("=IHHI").unpack_from


class _Attributes(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
        ("config2", ctypes.c_uint64),
    ]


def _open(attributes: _Attributes, cpu: int) -> int:
    """perf_event_open(2) for what happens on *cpu*, or for a kprobe on any."""
    syscall = libc().syscall
    syscall.restype = ctypes.c_long
    number = _SYSCALLS[platform.machine()]
    fd = int(syscall(number, ctypes.byref(attributes), -1, cpu, -1, _FLAG_FD_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def _ioctl(fd: int, request: int, argument: int) -> None:
    if libc().ioctl(fd, ctypes.c_ulong(request), ctypes.c_ulong(argument)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attach_kprobe(program: int, function: str, at_return: bool = False) -> int:
    """Attach BPF *program* to the entry or the return of kernel *function*; returns what closing detaches. Raises
    OSError.

    Through the PMU "kprobe" (Linux commit e12f03d7031a ("perf/core: Implement the 'perf_kprobe' PMU") (in v4.17)): BCC
    prints to stderr of each function that cannot be probed, and then tries the files of tracefs, to no avail. As a
    link, where perf events can have one: it tells what was missed (`retis_py.kernel.bpf.link_misses`).
    """
    kind = int(_KPROBE_TYPE.read_text())
    name = ctypes.create_string_buffer(function.encode())
    attributes = _Attributes(
        kind,
        ctypes.sizeof(_Attributes),
        int(at_return),  # format/retprobe: config:0
        1,
        wakeup_events=1,
        config1=ctypes.addressof(name),
    )
    event = held = _open(attributes, 0)
    try:
        try:
            held = bpf.link_perf_event(program, event)
        except bpf.BpfError as error:
            if error.errno != errno.EINVAL:
                raise
            _ioctl(event, _SET_BPF, program)
        _ioctl(event, _ENABLE, 0)
    except OSError:
        for fd in {event, held}:
            os.close(fd)
        raise
    if held != event:
        os.close(event)
    return held


def split(data: bytes, on_event: Callable[[bytes], None]) -> None:
    """Call *on_event* with the data of each sample in *data*, which is whole records."""
    at, end = 0, len(data)
    while at < end:
        kind, _, size, length = _record(data, at)
        if kind == _SAMPLE:
            on_event(data[at + 12 : at + 12 + length])
        at += size  # others tell of samples without room, which programs count themselves


class PerfBuffer:
    """The buffer of one CPU, of *pages* pages, a power of two."""

    def __init__(self, cpu: int, pages: int) -> None:
        # a wake-up per event would cost the traced CPU an interrupt each: the reader looks on its own instead
        attributes = _Attributes(
            _SOFTWARE, ctypes.sizeof(_Attributes), _BPF_OUTPUT, 1, _SAMPLE_RAW, wakeup_events=1 << 20
        )
        self.fd = _open(attributes, cpu)
        self._size = pages * mmap.PAGESIZE
        try:
            self._memory = mmap.mmap(self.fd, self._size + mmap.PAGESIZE)
            _ioctl(self.fd, _ENABLE, 0)
        except OSError:
            os.close(self.fd)
            raise

    def take(self) -> bytes:
        """The records that are there now; their room is free again."""
        memory = self._memory
        (head,), (tail,) = _position.unpack_from(memory, _DATA_HEAD), _position.unpack_from(memory, _DATA_TAIL)
        if head == tail:
            return b""
        first, length = tail % self._size, head - tail
        start = mmap.PAGESIZE + first
        data = memory[start : start + min(length, self._size - first)]
        if len(data) < length:
            data += memory[mmap.PAGESIZE : mmap.PAGESIZE + length - len(data)]
        _position.pack_into(memory, _DATA_TAIL, head)
        return data

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.fd)


class PerfBuffers:
    """The buffers of all CPUs that run, *pages* pages each; *on_event(raw)* is called with each event from `poll`."""

    def __init__(self, pages: int, on_event: Callable[[bytes], None]) -> None:
        self._on_event = on_event
        self.buffers: dict[int, PerfBuffer] = {}
        try:
            for cpu in online_cpus():
                self.buffers[cpu] = PerfBuffer(cpu, pages)
        except OSError as error:
            self.close()
            rights = error.errno in (errno.EPERM, errno.EACCES)
            raise KernelError(
                f"cannot open the perf buffers ({pages} pages per CPU): {error.strerror}",
                hint="run as root; see kernel.perf_event_paranoid"
                if rights
                else "try a smaller --buffer-pages, or see kernel.perf_event_mlock_kb",
            ) from None

    def poll(self) -> None:
        """Hand over what is in the buffers now; does not wait."""
        taken = [buffer.take() for buffer in self.buffers.values()]
        for data in taken:
            split(data, self._on_event)

    def close(self) -> None:
        """Give all memory back."""
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()
