"""cpus: what the programs tell of each CPU while they work, `struct cpu` of bpf/core.h, read without a system call."""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Counts", "Cpus", "online_cpus", "possible_cpus"]

#: bpf/core.h: hits that can be under way on a CPU, and the causes of losses
_SLOTS, _LOSSES = 8, 4


class Counts(NamedTuple):
    """What became of hits, on all CPUs."""

    #: by cause (enum loss)
    lost: list[int]
    #: hits that passed the filters where events are reported
    passed: int
    #: of them those that no collector had anything to say of
    empty: int


class Cpus:
    """The BCC map *table*, mapped into memory."""

    def __init__(self, table: Any) -> None:
        self._words = ctypes.sizeof(table.Leaf) // 8
        self._length = self._words * 8 * len(table)
        size = -(-self._length // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(table.map_fd, size, prot=mmap.PROT_READ)

    def _read(self) -> Iterator[tuple[int, ...]]:
        return struct.iter_unpack(f"={self._words}Q", self._memory[: self._length])

    def under_way(self) -> int | None:
        """When the oldest hit began that has not ended, in ns, or before that; None if there is none."""
        return min((since for words in self._read() for since in words[:_SLOTS] if since), default=None)

    def counts(self) -> Counts:
        """What became of hits so far."""
        sums = [sum(words) for words in zip(*self._read())][_SLOTS:]
        return Counts(sums[:_LOSSES], *sums[_LOSSES : _LOSSES + 2])

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def online_cpus(path: Path = Path("/sys/devices/system/cpu/online")) -> list[int]:
    """Numbers of the CPUs that run."""
    out: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


def possible_cpus(path: Path = Path("/sys/devices/system/cpu/possible")) -> int:
    """How many CPUs the kernel is prepared for, one more than the last of its list's."""
    return max(online_cpus(path)) + 1
